//! A stack of its own that is brought up by the program, and edited.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::node::{context, kubectl, run, unique};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A stack in a folder, with its daemon. Taken down in the end.
pub struct Live {
    pub name: String,
    /// What the program's environment has besides.
    pub env: Vec<(&'static str, PathBuf)>,
    folder: tempfile::TempDir,
    events: Arc<Mutex<Vec<Value>>>,
    listener: Option<Child>,
}

impl Live {
    /// `services`: what stands under `services:` of `stack.yaml`; `manifests` with `NAMESPACE` in it.
    pub fn new(what: &str, services: &str) -> Live {
        let name = unique(what);
        let folder = tempfile::tempdir().unwrap();
        let live = Live {
            name: name.clone(),
            env: Vec::new(),
            folder,
            events: Arc::default(),
            listener: None,
        };
        let context = context();
        live.write(
            "stack.yaml",
            &format!(
                "apiVersion: llmdev/v1\nname: {name}\ncluster: {{ provider: context, name: {context} }}\n\
                 namespace: {name}\nrender: [{{ manifests: [k8s/*.yaml] }}]\nservices:\n{services}"
            )
            .replace("provider: context, name: kind-", "provider: kind, name: "),
        );
        live.write(
            "k8s/namespace.yaml",
            &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name} }}\n"),
        );
        live
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("stack").join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// A Deployment of one container that has the service's image; `extra` goes into the pod's spec or the container.
    pub fn deployment(&self, service: &str, port: u16, container: &str, pod: &str) {
        self.write(
            &format!("k8s/{service}.yaml"),
            &format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: {service} }}\nspec:\n  \
                 selector: {{ matchLabels: {{ app: {service} }} }}\n  template:\n    \
                 metadata: {{ labels: {{ app: {service} }} }}\n    spec:\n      \
                 terminationGracePeriodSeconds: 0\n      containers:\n{pod}\
                 \x20       - name: main\n          image: {service}\n          \
                 readinessProbe: {{ tcpSocket: {{ port: {port} }}, periodSeconds: 1 }}\n{container}"
            ),
        );
    }

    /// The program, in the stack's folder.
    pub fn llmdev(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmdev"));
        command.args(arguments).current_dir(self.path(""));
        command.env("XDG_STATE_HOME", self.folder.path().join("state"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn say(&self, arguments: &[&str]) -> String {
        let output = self
            .llmdev(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "llmdev {arguments:?}: {text}\n{}",
            self.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn log(&self) -> String {
        let states = std::fs::read_dir(self.folder.path().join("state/llmdev"))
            .into_iter()
            .flatten()
            .flatten();
        states
            .map(|state| {
                std::fs::read_to_string(state.path().join("daemon.log")).unwrap_or_default()
            })
            .collect()
    }

    /// When the service's image was built last.
    pub fn built_at(&self, service: &str) -> std::time::SystemTime {
        let state = std::fs::read_dir(self.folder.path().join("state/llmdev"))
            .unwrap()
            .flatten()
            .next()
            .unwrap();
        let log = state.path().join(format!("builds/{service}.log"));
        std::fs::metadata(log).unwrap().modified().unwrap()
    }

    /// Brings it up, and listens to what happens from then on.
    pub fn up(&mut self) {
        self.say(&["up"]);
        self.listen();
    }

    pub fn listen(&mut self) {
        let mut child = self
            .llmdev(&["events"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        self.listener = Some(child);
        let events = Arc::clone(&self.events);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                events
                    .lock()
                    .unwrap()
                    .push(serde_json::from_str(&line).unwrap());
            }
        });
        let events = &self.events;
        until("the first event", || {
            (!events.lock().unwrap().is_empty()).then_some(())
        });
    }

    pub fn daemon(&self) -> u32 {
        let root = self.path("").canonicalize().unwrap();
        let mut me = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_ours = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains("daemon") && line.contains(root.to_str().unwrap())
        };
        me.find(is_ours).expect("the daemon runs")
    }

    /// Lines that were said since `from`, with the number of events so far.
    pub fn notes(&self, from: usize) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let text = |event: &Value| Some(event.pointer("/what/note/text")?.as_str()?.to_owned());
        events[from.min(events.len())..]
            .iter()
            .filter_map(text)
            .collect()
    }

    pub fn seen(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    /// How often a service began to build since `from`.
    pub fn builds(&self, from: usize, service: &str) -> usize {
        let events = self.events.lock().unwrap();
        let rows = events[from..]
            .iter()
            .filter_map(|event| event.pointer("/what/service"));
        let phases = rows
            .filter(|row| row["name"] == service)
            .map(|row| row["phase"].as_str().unwrap().to_owned());
        let mut phases: Vec<String> = phases.collect();
        phases.dedup();
        phases.iter().filter(|phase| *phase == "building").count()
    }

    pub fn wait_for_note(&self, from: usize, part: &str) -> String {
        until(&format!("a note with {part:?}"), || {
            self.notes(from)
                .into_iter()
                .find(|note| note.contains(part))
        })
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["-n", self.name.as_str()], arguments].concat())
    }

    /// The image of a service's Deployment.
    pub fn image(&self, service: &str) -> String {
        let path = "jsonpath={.spec.template.spec.containers[?(@.name=='main')].image}";
        self.kubectl(&["get", "deployment", service, "-o", path])
    }

    /// A field of the service's newest pod that is not going.
    pub fn pod(&self, service: &str, field: &str) -> String {
        let list = ["get", "pods", "-l", &format!("app={service}"), "-o", "json"];
        // On a busy machine one pod may be going before the next one is made.
        let pod = until("pod", || {
            let mut all: Value = serde_json::from_str(&self.kubectl(&list)).unwrap();
            let pods = all["items"].as_array_mut().unwrap().drain(..);
            let pods = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
            let made = |pod: &Value| pod["metadata"]["creationTimestamp"].to_string();
            pods.max_by_key(made)
        });
        let value = pod.pointer(field).unwrap_or(&Value::Null);
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    }

    pub fn wait_until_ready(&self, service: &str) {
        until(&format!("{service} ready"), || {
            let status: Value = serde_json::from_str(&self.say(&["status", "-o", "json"])).unwrap();
            let rows = status["services"].as_array()?.clone();
            rows.iter()
                .any(|row| row["name"] == service && row["phase"] == "ready")
                .then_some(())
        });
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.log(), self.notes(0).join("\n"));
        }
        let _ = self.llmdev(&["down"]).output();
        if let Some(listener) = &mut self.listener {
            let _ = listener.kill();
            let _ = listener.wait();
        }
        let delete = [
            "--context",
            &context(),
            "delete",
            "namespace",
            &self.name,
            "--wait=false",
            "--ignore-not-found",
        ];
        let _ = Command::new("kubectl").args(delete).output();
        let script = format!(
            "docker images -q --filter reference='llmdev.local/{}/*' | sort -u | xargs -r docker rmi -f",
            self.name
        );
        let _ = Command::new("sh").args(["-c", &script]).output();
    }
}

/// Waits until something is there. To look is often dear: the longer it takes, the more seldom.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "no {what}");
        let pause = began.elapsed() / 10;
        std::thread::sleep(pause.clamp(Duration::from_millis(20), Duration::from_millis(500)));
    }
}

/// A port that nobody has at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// What a GET answers: the status and the body; nothing where the connection does not hold.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Waits until a path is served with this content; how long it took.
pub fn served(port: u16, path: &str, content: &str) -> Duration {
    let began = Instant::now();
    let mut last = None;
    while began.elapsed() < PATIENCE {
        last = get(port, path);
        if last
            .as_ref()
            .is_some_and(|(status, body)| *status == 200 && body == content)
        {
            return began.elapsed();
        }
        let pause = began.elapsed() / 20;
        std::thread::sleep(pause.clamp(Duration::from_millis(1), Duration::from_millis(100)));
    }
    panic!("{path} is {last:?} and not {content:?}");
}

/// Runs git in a folder, as nobody in particular.
pub fn git(folder: &Path, arguments: &[&str]) {
    let folder = folder.to_str().unwrap();
    let base = [
        "-C",
        folder,
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.com",
        "-c",
        "commit.gpgsign=false",
    ];
    run("git", &[&base[..], arguments].concat());
}
