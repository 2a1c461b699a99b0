//! Journeys: a stack in a folder of its own, the program as people run it, and what comes of it on the test cluster.
//!
//! A journey reads as sentences: `stack.has(web("web").that_says("one")); stack.up().went_well();`. Nothing waits for a
//! time: what is awaited is what `llmdev events` or a run's own lines say.

#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

mod manifests;
mod proxy;
mod run;

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use llmdev::event::{Event, Phase, ServiceStatus, Status, What};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use manifests::{Service, sleeper, web};
pub use proxy::Proxy;
pub use run::{Ended, Run};

/// How long anything may take before a journey gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(420);

/// The kubeconfig context of the test cluster.
pub fn context() -> String {
    std::env::var("LLMDEV_TEST_CONTEXT").unwrap_or_else(|_| "kind-kind".to_owned())
}

/// A stack that is nobody else's. Dropped: it is down, its daemon, namespace and images are gone.
pub struct Stack {
    dir: TempDir,
    /// Where the daemon's state is.
    home: TempDir,
    pub name: String,
    /// Its namespace.
    pub space: String,
    services: Vec<Service>,
    environment: Vec<(String, String)>,
}

impl Stack {
    /// A stack without services in a namespace of its own.
    pub fn new() -> Self {
        let word = RandomState::new().hash_one(std::process::id()) & 0xff_ffff;
        let name = format!("j{word:06x}");
        let space = format!("llmdev-test-{name}");
        let stack = Stack {
            dir: tempfile::tempdir().unwrap(),
            home: tempfile::tempdir().unwrap(),
            name,
            space,
            services: Vec::new(),
            environment: Vec::new(),
        };
        kubectl(&["create", "namespace", &stack.space]);
        stack
    }

    /// A stack of this name in another folder, in the same namespace.
    pub fn of_the_same_name(&self) -> Self {
        Stack {
            dir: tempfile::tempdir().unwrap(),
            home: tempfile::tempdir().unwrap(),
            name: self.name.clone(),
            space: self.space.clone(),
            services: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Adds a service, or puts it in the place of the one of that name; its files and `stack.yaml` are written.
    pub fn has(&mut self, service: Service) {
        for (path, content) in service.files() {
            self.write(&path, content);
        }
        let manifests = service.manifests();
        self.write(&format!("k8s/{}.yaml", service.name), manifests);
        match self
            .services
            .iter_mut()
            .find(|one| one.name == service.name)
        {
            Some(place) => *place = service,
            None => self.services.push(service),
        }
        self.write_stack();
    }

    /// Takes a service away, with its manifests.
    pub fn has_no_more(&mut self, name: &str) {
        self.services.retain(|one| one.name != name);
        self.write_stack();
        fs::remove_file(self.path(&format!("k8s/{name}.yaml"))).unwrap();
    }

    fn write_stack(&self) {
        self.write("stack.yaml", self.yaml());
    }

    /// `stack.yaml`, as it is written.
    pub fn yaml(&self) -> String {
        let head = format!(
            "apiVersion: llmdev/v1\nname: {}\ncluster: {}\nnamespace: {}\nrender:\n  - manifests: [\"k8s/*.yaml\"]\nservices:\n",
            self.name,
            cluster(),
            self.space
        );
        let lines = self.services.iter().map(Service::line);
        lines.fold(head, |text, line| text + &line)
    }

    /// Writes a file of the stack.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.ends_with("stack.yaml") {
            // As editors do: a daemon on a busy machine may look between emptying and writing.
            let new = path.with_extension("yaml.new");
            fs::write(&new, content).unwrap();
            fs::rename(new, path).unwrap();
        } else {
            fs::write(path, content).unwrap();
        }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// For all that is run from now on.
    pub fn with_env(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// `llmdev` with these words, in the stack's folder.
    pub fn run(&self, words: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmdev"));
        command
            .args(words)
            .current_dir(self.dir.path())
            .env("XDG_STATE_HOME", self.home.path())
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("CI")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Run::start(command, format!("llmdev {}", words.join(" ")))
    }

    pub fn up(&self) -> Ended {
        self.run(&["up"]).ends()
    }

    pub fn down(&self) -> Ended {
        self.run(&["down", "--volumes"]).ends()
    }

    /// `llmdev status -o json`.
    pub fn status(&self) -> Status {
        let printed = self.run(&["status", "-o", "json"]).ends().went_well().out;
        serde_json::from_str(&printed).expect("status prints JSON")
    }

    /// The row of a service now.
    pub fn row(&self, service: &str) -> ServiceStatus {
        row(&self.status(), service)
            .expect("the service is in the status")
            .clone()
    }

    /// What happens from here on: they are listened to when this returns.
    pub fn events(&self) -> Events {
        let mut events = Events {
            run: self.run(&["events"]),
            status: None,
            notes: Vec::new(),
        };
        events.until("the daemon tells how it stands", |_| true);
        events
    }

    /// Waits until the stack is as it should be; what it then is.
    pub fn until(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        self.events().until(what, is)
    }

    /// Waits until a service is as it should be.
    pub fn until_service(
        &self,
        service: &str,
        what: &str,
        is: impl Fn(&ServiceStatus) -> bool,
    ) -> ServiceStatus {
        let status = self.until(&format!("{service} {what}"), |status| {
            row(status, service).is_some_and(&is)
        });
        row(&status, service).unwrap().clone()
    }

    pub fn until_ready(&self, service: &str) -> ServiceStatus {
        self.until_service(service, "is ready", |row| row.phase == Phase::Ready)
    }

    /// The local port of a service's first forward, as `status` says it.
    pub fn port(&self, service: &str) -> u16 {
        self.row(service).forwards[0].local
    }

    /// What a service answers through its forward.
    pub fn get(&self, service: &str) -> String {
        get(self.port(service)).unwrap_or_else(|error| panic!("{service} does not answer: {error}"))
    }

    /// Waits until a service answers with a page: after a restart of its node it may be called ready before it is.
    pub fn until_it_says(&self, service: &str, page: &str) {
        let (port, deadline) = (self.port(service), Instant::now() + PATIENCE);
        loop {
            match get(port) {
                Ok(said) if said == page => return,
                other => assert!(Instant::now() < deadline, "{service} says {other:?}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// kubectl in the stack's namespace.
    pub fn kubectl(&self, words: &[&str]) -> String {
        kubectl(&[&["--namespace", &self.space], words].concat())
    }

    /// Name, uid and restarts of each pod of the stack.
    pub fn pods(&self) -> BTreeSet<String> {
        let path = "{range .items[*]}{.metadata.name} {.metadata.uid} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
        let listed = self.kubectl(&["get", "pods", "-o", &format!("jsonpath={path}")]);
        listed.lines().map(str::to_owned).collect()
    }

    /// Every object in the cluster, of the kinds that stacks have, that carries the stack's label.
    pub fn objects(&self) -> Vec<String> {
        let label = format!("llmdev.dev/stack={}", self.name);
        let kinds = "deployments,statefulsets,services,pods,configmaps,secrets,persistentvolumeclaims,jobs,replicasets,namespaces";
        let listed = kubectl(&["get", kinds, "--all-namespaces", "-l", &label, "-o", "name"]);
        listed.lines().map(str::to_owned).collect()
    }

    /// The process that holds the stack's lock.
    pub fn daemon(&self) -> Option<i32> {
        let lock = self.state()?.join("lock");
        let pid = llmdev::daemon::lock::holder(&lock)?;
        i32::try_from(pid).ok()
    }

    /// The daemons of this stack that run, as processes.
    pub fn daemons(&self) -> Vec<i32> {
        let file = self.dir.path().canonicalize().unwrap().join("stack.yaml");
        let numbers = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mine = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(" daemon run ") && line.contains(&*file.to_string_lossy())
        };
        numbers.filter(mine).collect()
    }

    /// A daemon whose end was announced is gone soon after.
    pub fn until_no_daemon_runs(&self) {
        let began = Instant::now();
        while !self.daemons().is_empty() {
            assert!(
                began.elapsed() < PATIENCE,
                "a daemon still runs: {:?}",
                self.daemons()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9` of the daemon; returns when it has gone.
    pub fn kill_daemon(&self) {
        let Some(pid) = self.daemon() else { return };
        run::kill(pid, rustix::process::Signal::KILL);
        let began = Instant::now();
        // What the kernel takes away has no event that a stranger could wait for.
        while self.daemon() == Some(pid) && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The sockets in the state folder.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let Some(state) = self.state() else {
            return Vec::new();
        };
        let files = fs::read_dir(state)
            .unwrap()
            .flatten()
            .map(|file| file.path());
        files
            .filter(|path| path.extension().is_some_and(|it| it == "sock"))
            .collect()
    }

    fn state(&self) -> Option<PathBuf> {
        let folders = fs::read_dir(self.home.path().join("llmdev")).ok()?;
        let mut folders = folders.flatten().map(|folder| folder.path());
        // Beside it may be what is known of clusters.
        folders.find(|folder| !folder.ends_with("clusters"))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.kill_daemon();
        if std::thread::panicking() {
            self.state()
                .and_then(|state| fs::read_to_string(state.join("daemon.log")).ok())
                .into_iter()
                .for_each(|log| eprintln!("--- the daemon's log:\n{log}---"));
            // What no namespace takes with it, and the next run would find to be another stack's.
            kubectl(&[
                "delete",
                "clusterrole,clusterrolebinding",
                "--selector",
                &format!("llmdev.dev/stack={}", self.name),
            ]);
        }
        kubectl(&[
            "delete",
            "namespace",
            &self.space,
            "--ignore-not-found",
            "--wait=false",
        ]);
        let images = format!("llmdev.local/{}/", self.name);
        let listed = docker(&[
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            "--filter",
            &format!("reference={images}*"),
        ]);
        for image in listed.lines() {
            docker(&["rmi", "--force", image]);
        }
        let node = format!("{}-control-plane", context().trim_start_matches("kind-"));
        let remove = format!(
            "ctr -n k8s.io images ls -q | grep '^{images}' | xargs -r ctr -n k8s.io images rm"
        );
        docker(&["exec", &node, "sh", "-c", &remove]);
    }
}

/// What happens to a stack, as `llmdev events` tells it.
pub struct Events {
    run: Run,
    status: Option<Status>,
    notes: Vec<String>,
}

impl Events {
    /// Waits until the stack is as it should be; what it then is.
    pub fn until(&mut self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.status.as_ref().filter(|status| is(status)) {
                return status.clone();
            }
            self.next(what, deadline);
        }
    }

    /// Waits for a note with this in it.
    pub fn until_note(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(note) = self.notes.iter().find(|note| note.contains(part)) {
                return note.clone();
            }
            self.next(&format!("a note says {part:?}"), deadline);
        }
    }

    /// All that is known by now.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn next(&mut self, what: &str, deadline: Instant) {
        let Some(line) = self.run.next_out(deadline) else {
            panic!(
                "waited until {what}; notes: {:#?}; status: {:#?}",
                self.notes, self.status
            );
        };
        let event: Event = serde_json::from_str(&line).expect("an event is JSON");
        match event.what {
            What::Snapshot(status) => self.status = Some(status),
            What::Service(row) => {
                let services = self
                    .status
                    .iter_mut()
                    .flat_map(|status| &mut status.services);
                services
                    .filter(|one| one.name == row.name)
                    .for_each(|one| *one = (*row).clone());
            }
            What::Note { text, .. } => self.notes.push(text),
        }
    }
}

pub fn row<'a>(status: &'a Status, service: &str) -> Option<&'a ServiceStatus> {
    status.services.iter().find(|one| one.name == service)
}

/// What is answered on a local port, without its head.
pub fn get(port: u16) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(said)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .map_err(said)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(said)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(format!("no answer: {answer:?}"))?;
    match head.contains(" 200 ") {
        true => Ok(body.trim_end().to_owned()),
        false => Err(head.to_owned()),
    }
}

/// A port that nobody has, out of the range from which the kernel gives ports away.
pub fn free_port() -> u16 {
    let mut number = RandomState::new().hash_one(0);
    loop {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let port = 20_000 + (number >> 40) as u16 % 12_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_ok()
        {
            return port;
        }
    }
}

/// Where `stack.yaml` says that the stack runs.
pub fn cluster() -> Value {
    let context = context();
    match context.strip_prefix("kind-") {
        Some(name) => json!({"provider": "kind", "name": name, "create": false}),
        None => json!({"provider": "context", "name": context, "create": false}),
    }
}

/// kubectl on the test cluster; what it prints, whatever came of it.
pub fn kubectl(words: &[&str]) -> String {
    let output = Command::new("kubectl")
        .args(["--context", &context()])
        .args(words)
        .output();
    let output = output.expect("kubectl runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The containers whose names have a part, running or not.
pub fn containers(part: &str) -> String {
    let filter = format!("name={part}");
    docker(&["ps", "--all", "--quiet", "--filter", &filter])
}

/// What docker prints, whatever came of it.
pub fn docker(words: &[&str]) -> String {
    let output = Command::new("docker")
        .args(words)
        .output()
        .expect("docker runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
