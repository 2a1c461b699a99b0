//! One container's lines, across its restarts and the API server's.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::LogParams;
use regex::Regex;
use tokio::sync::mpsc;

use super::containers::{Place, Runs, pod_of, runs};
use super::line::Raw;
use super::seen::Seen;
use super::{LogItem, LogLine, LogQuery, line, near};
use crate::cluster::agent::Agents;
use crate::error::Failure;
use crate::view::{View, Views};

/// Between two tries, doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));
/// Before each try to read what was printed so far.
const READ_AFTER: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];
/// How long the last bytes of a pod that no longer exists may take.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// Reads one container.
pub(super) struct Source {
    pods: Api<Pod>,
    agents: Option<Arc<Agents>>,
    views: Views,
    place: Place,
    since: Option<DateTime<Utc>>,
    tail: Option<usize>,
    previous: bool,
    grep: Option<Regex>,
    seen: Seen,
    /// When the last line was printed.
    at: DateTime<Utc>,
}

/// Where lines go.
type Out = mpsc::Sender<LogItem>;

/// Why reading ended early.
enum Stop {
    /// Nobody takes the lines any more.
    Closed,
    /// The node has nothing to read: not begun, or gone.
    Nothing,
    /// It may work the next time.
    Broken(String),
}

impl Source {
    pub(super) fn new(
        client: kube::Client,
        agents: Option<Arc<Agents>>,
        views: Views,
        place: Place,
        query: &LogQuery,
        grep: Option<Regex>,
    ) -> Self {
        let pods = Api::namespaced(client, &place.namespace);
        // What a pattern leaves over can't be counted before all is read.
        let tail = query.tail.filter(|_| grep.is_none());
        let (since, previous) = (query.since, query.previous);
        let at = DateTime::UNIX_EPOCH;
        Source {
            pods,
            agents,
            views,
            place,
            since,
            tail,
            previous,
            grep,
            seen: Seen::new(tail.is_some()),
            at,
        }
    }

    /// Sends what was printed so far, then, in the other channel, what is printed from then on.
    pub(super) async fn run(mut self, history: Option<Out>, live: Option<Out>) {
        let mut done = None;
        if let Some(out) = history
            && let Some(now) = self.runs()
        {
            self.history(&now, &out).await;
            done = Some(now.last);
        }
        if let Some(out) = live {
            // Ends when nobody takes the lines or the pod is gone: neither is anybody's failure.
            let _ = self.follow(done, &out).await;
        }
    }

    fn runs(&self) -> Option<Runs> {
        runs(&self.views.borrow(), &self.place)
    }

    async fn history(&mut self, runs: &Runs, out: &Out) {
        if self.previous && runs.before.is_none() {
            return;
        }
        // One line at least, to know where to go on.
        let tail = self.tail.map(|tail| tail.max(1));
        if let Some(lines) = self.near(runs, tail).await {
            for raw in lines {
                if self.take(&raw, out).await.is_err() {
                    return;
                }
            }
            return;
        }
        let tail = tail.map(|tail| i64::try_from(tail).unwrap_or(i64::MAX));
        let mut problem = String::new();
        for pause in READ_AFTER {
            tokio::time::sleep(pause).await;
            let params = LogParams {
                tail_lines: tail,
                previous: self.previous,
                ..self.params()
            };
            match self.read(&params, out).await {
                Ok(()) | Err(Stop::Closed | Stop::Nothing) => return,
                Err(Stop::Broken(error)) => problem = error,
            }
        }
        let what = format!(
            "the log of {} in pod {} can't be read",
            self.place.container, self.place.pod
        );
        let failure = Failure::environment(what)
            .cause(problem)
            .remedy(format!("llmdev why {}", self.place.service));
        let _ = out.send(Err(failure)).await;
    }

    /// Follows run after run, beginning with `done`, which was read up to now.
    async fn follow(&mut self, mut done: Option<String>, out: &Out) -> Result<(), Stop> {
        // Whether `done` was read to its end.
        let mut ended = false;
        let mut pause = PAUSES.0;
        loop {
            let now = self.next_run(done.as_deref().filter(|_| ended)).await?;
            let other = done.as_ref().is_some_and(|done| *done != now.last);
            if other && now.before.is_some() && !(ended && now.before == done) {
                let params = LogParams {
                    previous: true,
                    ..self.params()
                };
                self.read_while_there(&params, out)
                    .await
                    .or_else(only_closed)?;
            }
            let params = LogParams {
                follow: true,
                ..self.params()
            };
            let before = self.at;
            let read = self.read_while_there(&params, out).await;
            ended = read.is_ok();
            read.or_else(only_closed)?;
            done = Some(now.last.clone());
            pause = if self.at > before {
                PAUSES.0
            } else {
                (pause * 2).min(PAUSES.1)
            };
            // The end of a stream is the end of the run, unless the view still says otherwise after a while.
            let changed = |view: &View| {
                runs(view, &self.place).as_ref() != Some(&now) && view.unreachable.is_none()
            };
            let mut views = self.views.clone();
            if tokio::time::timeout(pause, views.wait_for(|view| changed(view)))
                .await
                .is_err()
                && now.running
            {
                ended = false;
            }
        }
    }

    /// Waits for a run to read that is not `read` already, or goes on. Ends when the pod is gone.
    async fn next_run(&self, read: Option<&str>) -> Result<Runs, Stop> {
        let next = |view: &View| {
            let next = runs(view, &self.place);
            next.filter(|next| read != Some(&next.last))
        };
        let mut views = self.views.clone();
        let view = views
            .wait_for(|view| next(view).is_some() || pod_of(view, &self.place).is_none())
            .await
            .map_err(|_| Stop::Closed)?;
        next(&view).ok_or(Stop::Nothing)
    }

    /// Reads until the stream ends or there can't be any more in it.
    async fn read_while_there(&mut self, params: &LogParams, out: &Out) -> Result<(), Stop> {
        let mut views = self.views.clone();
        let place = self.place.clone();
        let lost = async {
            let cut = |view: &View| view.unreachable.is_some() || pod_of(view, &place).is_none();
            if views.wait_for(|view| cut(view)).await.is_err() {
                return std::future::pending().await;
            }
            tokio::time::sleep(LAST_BYTES).await;
            Err(Stop::Broken("the API server can't be reached".to_owned()))
        };
        tokio::select! {
            read = self.read(params, out) => read,
            lost = lost => lost,
        }
    }

    /// What is asked for every time: no line that was read for sure.
    fn params(&mut self) -> LogParams {
        let since = self.seen.resume().max(self.since);
        LogParams {
            container: Some(self.place.container.to_string()),
            timestamps: true,
            // Whole seconds are all that the API takes; it would round up.
            since_time: since.and_then(|since| Timestamp::from_second(since.timestamp()).ok()),
            ..LogParams::default()
        }
    }

    async fn read(&mut self, params: &LogParams, out: &Out) -> Result<(), Stop> {
        let mut stream = Box::pin(self.pods.log_stream(&self.place.pod, params).await?);
        while let Some(raw) = line::read(&mut stream).await? {
            self.take(&raw, out).await?;
        }
        Ok(())
    }

    /// Sends a line on, unless it was sent before or is not wanted.
    async fn take(&mut self, raw: &Raw, out: &Out) -> Result<(), Stop> {
        let (at, text) = raw.parse().map_err(Stop::Broken)?;
        self.at = at;
        if !self.seen.is_new(at, &text) || !self.wanted(&text) {
            return Ok(());
        }
        let line = LogLine {
            service: self.place.service.clone(),
            pod: self.place.pod.clone(),
            container: self.place.container.clone(),
            at,
            text,
        };
        out.send(Ok(line)).await.map_err(|_| Stop::Closed)
    }

    /// The last lines of the last run as its node has them, where they are all that is asked for.
    async fn near(&self, runs: &Runs, tail: Option<usize>) -> Option<Vec<Raw>> {
        let agents = self.agents.as_ref().filter(|_| !self.previous)?;
        let pod = pod_of(&self.views.borrow(), &self.place).cloned()?;
        near::last_lines(agents, &pod, &self.place.container, runs.restarts, tail?).await
    }

    fn wanted(&self, text: &str) -> bool {
        self.since.is_none_or(|since| self.at >= since)
            && self.grep.as_ref().is_none_or(|grep| grep.is_match(text))
    }
}

/// All but the taker's leaving is tried again.
fn only_closed(stop: Stop) -> Result<(), Stop> {
    match stop {
        Stop::Closed => Err(stop),
        Stop::Nothing | Stop::Broken(_) => Ok(()),
    }
}

impl From<kube::Error> for Stop {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if matches!(status.code, 400 | 404) => Stop::Nothing,
            other => Stop::Broken(other.to_string()),
        }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop::Broken(error.to_string())
    }
}
