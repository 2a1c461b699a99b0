//! BuildKit's news as short plain lines.

use std::collections::{HashMap, VecDeque};

use bollard::grpc::build::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog};

use super::scrub::Scrub;
use super::solve::Trouble;

/// Lines of a step's output that are kept for its failure.
const KEPT: usize = 20;
/// Longer lines are cut into several.
const LONGEST: usize = 8 * 1024;

/// A step that failed, without secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// As BuildKit calls it, such as `[2/5] RUN make`.
    pub name: String,
    /// Why.
    pub error: String,
    /// The last lines that it printed.
    pub output: Vec<String>,
}

/// Follows one build.
pub struct Progress {
    scrub: Scrub,
    steps: HashMap<String, Running>,
    /// Whose header was printed last.
    shown: Option<String>,
    failed: Option<Step>,
}

/// A step that is not over.
#[derive(Default)]
struct Running {
    name: String,
    partial: Vec<u8>,
    tail: VecDeque<String>,
    over: bool,
}

type Lines<'a> = &'a mut (dyn FnMut(&str) + Send);

impl Progress {
    /// Before anything happened.
    pub fn new(scrub: Scrub) -> Self {
        Progress {
            scrub,
            steps: HashMap::new(),
            shown: None,
            failed: None,
        }
    }

    /// Takes news in, and hands on what is worth a line.
    pub fn update(&mut self, status: StatusResponse, lines: Lines<'_>) {
        let (over, begun): (Vec<_>, Vec<_>) = status
            .vertexes
            .into_iter()
            .partition(|vertex| vertex.completed.is_some() || !vertex.error.is_empty());
        for vertex in begun.iter().chain(&over) {
            self.begin(vertex, lines);
        }
        for log in &status.logs {
            self.log(log, lines);
        }
        for vertex in &over {
            self.end(vertex, lines);
        }
        for warning in &status.warnings {
            let text = String::from_utf8_lossy(&warning.short);
            lines(&self.scrub.text(&format!("warning: {text}")));
        }
    }

    /// No more news: what a step printed without ending the line is handed on.
    pub fn finish(&mut self, lines: Lines<'_>) {
        let digests: Vec<String> = self.steps.keys().cloned().collect();
        for digest in digests {
            self.flush(&digest, lines);
        }
    }

    /// The failure, once it is known that it is one.
    pub fn trouble(self, message: &str) -> Trouble {
        Trouble {
            message: self.scrub.text(message),
            step: self.failed,
        }
    }

    fn begin(&mut self, vertex: &Vertex, lines: Lines<'_>) {
        if vertex.started.is_none() && !vertex.cached {
            return;
        }
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        let new = step.name.is_empty();
        if new {
            step.name = self.scrub.text(&step_name(&vertex.name));
        }
        if new && !vertex.cached && vertex.completed.is_none() && !is_internal(&vertex.name) {
            self.header(&vertex.digest, lines);
        }
    }

    fn header(&mut self, digest: &str, lines: Lines<'_>) {
        if self.shown.as_deref() != Some(digest) {
            lines(&self.steps[digest].name);
            self.shown = Some(digest.to_owned());
        }
    }

    fn log(&mut self, log: &VertexLog, lines: Lines<'_>) {
        let step = self.steps.entry(log.vertex.clone()).or_default();
        step.partial.extend_from_slice(&log.msg);
        while let Some(end) = step_line(&self.steps[&log.vertex].partial) {
            self.line(&log.vertex, end, lines);
        }
    }

    /// Hands on the first `end` bytes of what a step printed.
    fn line(&mut self, digest: &str, end: usize, lines: Lines<'_>) {
        let step = self.steps.get_mut(digest).expect("the caller has seen it");
        let bytes: Vec<u8> = step.partial.drain(..end).collect();
        let text = String::from_utf8_lossy(&bytes);
        // A progress bar draws itself anew after each carriage return: its last state counts.
        let text = text.trim_end_matches(['\n', '\r']);
        let text = self.scrub.text(text.rsplit('\r').next().unwrap_or(text));
        step.tail.truncate_front_to(KEPT - 1);
        step.tail.push_back(text.clone());
        self.header(digest, lines);
        lines(&format!("  {text}"));
    }

    fn flush(&mut self, digest: &str, lines: Lines<'_>) {
        let end = self.steps.get(digest).map_or(0, |step| step.partial.len());
        if end > 0 {
            self.line(digest, end, lines);
        }
    }

    fn end(&mut self, vertex: &Vertex, lines: Lines<'_>) {
        self.flush(&vertex.digest, lines);
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        if std::mem::replace(&mut step.over, true) {
            return;
        }
        if step.name.is_empty() {
            step.name = self.scrub.text(&step_name(&vertex.name));
        }
        // A step that was stopped because another one failed is not the reason.
        let stopped = vertex.error.ends_with("context canceled");
        let tail = std::mem::take(&mut step.tail);
        if !vertex.error.is_empty() && !stopped {
            let error = self.scrub.text(&vertex.error);
            lines(&format!("ERROR {}: {}", step.name, one_line(&error)));
            if self.failed.is_none() {
                self.failed = Some(Step {
                    name: step.name.clone(),
                    error,
                    output: tail.into(),
                });
            }
        } else if vertex.error.is_empty() && !is_internal(&vertex.name) {
            match seconds(vertex) {
                _ if vertex.cached => lines(&format!("CACHED {}", step.name)),
                Some(took) if took >= 0.05 => {
                    lines(&format!("done {took:.1}s {}", short(&step.name)))
                }
                _ => {}
            }
        }
    }
}

/// `VecDeque` can only be cut at its end.
trait TruncateFront {
    fn truncate_front_to(&mut self, len: usize);
}

impl TruncateFront for VecDeque<String> {
    fn truncate_front_to(&mut self, len: usize) {
        self.drain(..self.len().saturating_sub(len));
    }
}

/// Where the first line ends, if it does.
fn step_line(partial: &[u8]) -> Option<usize> {
    match partial.iter().position(|byte| *byte == b'\n') {
        Some(end) => Some(end + 1),
        None => (partial.len() > LONGEST).then_some(LONGEST),
    }
}

/// BuildKit's own housekeeping.
fn is_internal(name: &str) -> bool {
    name.starts_with("[internal]") || name.starts_with("exporting ")
}

/// `[2/5]` of `[2/5] RUN make`.
fn short(name: &str) -> &str {
    match name.find("] ") {
        Some(end) if name.starts_with('[') => &name[..=end],
        _ => name,
    }
}

/// Docker 20.10 numbers the stage even where there is but one.
fn step_name(name: &str) -> String {
    let name = one_line(name);
    match name.strip_prefix("[stage-0 ") {
        Some(rest) => format!("[{rest}"),
        None => name,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn seconds(vertex: &Vertex) -> Option<f64> {
    let (began, ended) = (vertex.started.as_ref()?, vertex.completed.as_ref()?);
    Some((ended.seconds - began.seconds) as f64 + f64::from(ended.nanos - began.nanos) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(digest: &str, name: &str) -> Vertex {
        Vertex {
            digest: digest.into(),
            name: name.into(),
            started: Some(Default::default()),
            ..Vertex::default()
        }
    }

    fn over(mut vertex: Vertex, tenths: i32, error: &str) -> Vertex {
        vertex.completed = Some(Default::default());
        let completed = vertex.completed.as_mut().unwrap();
        completed.seconds = (tenths / 10).into();
        completed.nanos = tenths % 10 * 100_000_000;
        vertex.error = error.into();
        vertex
    }

    fn log(digest: &str, text: &str) -> VertexLog {
        VertexLog {
            vertex: digest.into(),
            msg: text.into(),
            ..VertexLog::default()
        }
    }

    fn news(vertexes: Vec<Vertex>, logs: Vec<VertexLog>) -> StatusResponse {
        StatusResponse {
            vertexes,
            logs,
            ..StatusResponse::default()
        }
    }

    #[test]
    fn steps_become_lines() {
        let mut progress = Progress::new(Scrub::new(["hunter2"]));
        let mut said = Vec::new();
        let mut lines = |line: &str| said.push(line.to_owned());
        let load = vertex("i", "[internal] load build context");
        let [run, other] = [
            vertex("a", "[stage-0 2/3] RUN make   hunter2"),
            vertex("b", "[x 1/1] RUN b"),
        ];
        let mut cached = vertex("c", "[stage-0 1/3] FROM busybox");
        cached.cached = true;
        for status in [
            news(vec![over(load, 20, "")], vec![]),
            news(vec![over(cached, 0, "")], vec![]),
            news(vec![run.clone()], vec![log("a", "one\ntw")]),
            news(
                vec![run.clone(), other.clone()],
                vec![log("b", "10%\r20%\r100%\n"), log("a", "o hunt")],
            ),
            news(vec![], vec![log("a", "er2\nlast")]),
            news(vec![over(other, 13, "context canceled")], vec![]),
            news(vec![over(run, 13, "exit code: 1")], vec![]),
        ] {
            progress.update(status, &mut lines);
        }
        progress.finish(&mut lines);
        insta::assert_snapshot!(said.join("\n"), @r"
        CACHED [1/3] FROM busybox
        [2/3] RUN make ***
          one
        [x 1/1] RUN b
          100%
        [2/3] RUN make ***
          two ***
          last
        ERROR [2/3] RUN make ***: exit code: 1
        ");
        let step = progress.trouble("failed hunter2").step.unwrap();
        assert_eq!(step.output, ["one", "two ***", "last"]);
    }

    #[test]
    fn the_last_lines_are_kept() {
        let mut progress = Progress::new(Scrub::default());
        let step = vertex("a", "[1/1] RUN x");
        let text: String = (0..100).map(|number| format!("{number}\n")).collect();
        let endless = "x".repeat(LONGEST * 2 + 1);
        let mut count = 0;
        let mut lines = |_: &str| count += 1;
        progress.update(
            news(
                vec![step.clone()],
                vec![log("a", &text), log("a", &endless)],
            ),
            &mut lines,
        );
        progress.update(news(vec![over(step, 1, "no")], vec![]), &mut lines);
        assert_eq!(count, 1 + 100 + 3 + 1);
        assert_eq!(progress.trouble("").step.unwrap().output.len(), KEPT);
    }
}
