//! An example of this repository as a person would use it: a copy with a name, a namespace and ports of its own.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use llmdev::event::{Phase, Status};
use regex::{Captures, Regex};

use crate::journey::{self, Ended, PATIENCE, Run, Stack, free_port, get, kubectl};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// How long `up` may take where its images are yet to be built, with all that they are built of.
const FROM_NOTHING: Duration = Duration::from_secs(900);

/// What Kubernetes itself puts into each namespace.
const KUBERNETES_OWN: [&str; 2] = ["configmap/kube-root-ca.crt", "serviceaccount/default"];

/// Every kind that an example has objects of.
const KINDS: &str = "deployments,replicasets,statefulsets,jobs,pods,services,configmaps,secrets,serviceaccounts,\
    roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io,persistentvolumeclaims,\
    horizontalpodautoscalers,networkpolicies,ingresses,poddisruptionbudgets";

/// The copy.
pub struct Example {
    pub stack: Stack,
    /// Local ports by those of its stack.yaml.
    ports: BTreeMap<u16, u16>,
}

impl Example {
    /// A copy of `examples/NAME`. Where its manifests say its namespace, they say the test's.
    pub fn of(name: &str) -> Self {
        Self::copied(&folder(name), &[""])
    }

    /// A copy of the LLM stack, which is the repository's own.
    pub fn llm_stack() -> Self {
        Self::copied(Path::new(ROOT), &["stack.yaml", "examples/llm-stack"])
    }

    fn copied(root: &Path, parts: &[&str]) -> Self {
        let stack = Stack::new();
        let yaml = fs::read_to_string(root.join("stack.yaml")).unwrap();
        let change = into_namespace(&yaml, &stack.space);
        for part in parts {
            copy(&root.join(part), &stack.path(part), &change);
        }
        let mut example = Example {
            stack,
            ports: BTreeMap::new(),
        };
        let yaml = fs::read_to_string(example.stack.path("stack.yaml")).unwrap();
        let yaml = example.of_its_own(&yaml);
        example.stack.write("stack.yaml", yaml);
        example
    }

    fn of_its_own(&mut self, yaml: &str) -> String {
        let name = format!("name: {}", self.stack.name);
        let cluster = format!("cluster: {}", journey::cluster());
        let namespace = format!("namespace: {}", self.stack.space);
        let text = replace_once(yaml, "(?m)^name: .*$", &name);
        let text = replace_once(&text, "(?m)^cluster: .*$", &cluster);
        let text = replace_once(&text, "(?m)^namespace: .*$", &namespace);
        let mut own = |port: &str| {
            *self
                .ports
                .entry(port.trim().parse().unwrap())
                .or_insert_with(free_port)
        };
        let short = Regex::new(r"(?m)^    forward: \[([0-9, ]+)\]").unwrap();
        let text = short.replace_all(&text, |line: &Captures| {
            let ports = line[1].split(',');
            let each = ports.map(|port| format!("'{}:{}'", own(port), port.trim()));
            format!("    forward: [{}]", each.collect::<Vec<_>>().join(", "))
        });
        let long = Regex::new("local: ([0-9]+)").unwrap();
        let text = long.replace_all(&text, |port: &Captures| format!("local: {}", own(&port[1])));
        text.into_owned()
    }

    /// The local port in the place of one of stack.yaml's.
    pub fn port(&self, port: u16) -> u16 {
        self.ports[&port]
    }

    /// `up`, until all are ready.
    pub fn comes_up(&self) {
        let up = self.stack.run(&["up"]).ends_within(FROM_NOTHING);
        println!("{}", up.went_well());
        let status = self.stack.status();
        assert!(is_well(&status), "{status:#?}");
    }

    /// These ports of stack.yaml are listened on, and no others of it.
    pub fn listens_on(&self, ports: &[u16]) {
        let status = self.stack.status();
        let forwards = status.services.iter().flat_map(|row| &row.forwards);
        let listening: BTreeSet<u16> = forwards.map(|forward| forward.local).collect();
        let wanted = ports.iter().map(|port| self.port(*port)).collect();
        assert_eq!(listening, wanted);
    }

    /// Another `up` has nothing to do.
    pub fn is_up_already(&self) {
        let pods = self.stack.pods();
        self.stack.up().went_well();
        assert_eq!(self.stack.pods(), pods);
    }

    /// Runs a script of its folder, which is told the ports by these names.
    pub fn script(&self, script: &str, ports: &[(&str, u16)]) -> Ended {
        let mut command = Command::new(self.stack.path(script));
        command
            .env("CONTEXT", journey::context())
            .env("NAMESPACE", &self.stack.space)
            .envs(
                ports
                    .iter()
                    .filter_map(|(name, port)| Some((name, self.ports.get(port)?.to_string()))),
            );
        let ended = Run::start(command, script.to_owned()).ends().went_well();
        println!("{ended}");
        ended
    }

    /// Saves a file in which one thing is another.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.stack.path(path)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from:?} is in {path} once");
        self.stack.write(path, text.replace(from, to));
    }

    /// What `llmdev render` shows in a profile.
    pub fn rendered(&self, profile: &str) -> String {
        self.stack
            .run(&["render", "-p", profile])
            .ends()
            .went_well()
            .out
    }

    /// Waits until what is answered on a port of its stack.yaml has this in it.
    pub fn until_it_says(&self, port: u16, part: &str) {
        until(part, || match get(self.port(port)) {
            Ok(said) if said.contains(part) => Ok(()),
            other => Err(other),
        });
    }

    /// `down`: nothing of it is left in its namespace, made by itself or by its services, nor beside it, and nobody
    /// listens on its ports.
    pub fn goes(&self) {
        self.stack.down().went_well();
        let label = format!("llmdev.dev/stack={}", self.stack.name);
        let beside = "clusterroles,clusterrolebindings";
        let beside = kubectl(&["get", beside, "--selector", &label, "-o", "name"]);
        assert_eq!(beside, "");
        for port in self.ports.values() {
            let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, *port));
            assert!(bound.is_ok(), "{port} is free");
        }
        // What belongs to what is gone is collected by Kubernetes in its own time, the pods as they end.
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        let pods = ["wait", "--for=delete", "pods", "--all", patience.as_str()];
        self.stack.kubectl(&pods);
        until("end of all", || {
            self.left().is_empty().then_some(()).ok_or(self.left())
        });
    }

    fn left(&self) -> Vec<String> {
        let listed = kubectl(&["get", KINDS, "--namespace", &self.stack.space, "-o", "name"]);
        let others = listed.lines().filter(|line| !KUBERNETES_OWN.contains(line));
        others.map(str::to_owned).collect()
    }
}

pub fn is_well(status: &Status) -> bool {
    status
        .services
        .iter()
        .all(|row| row.phase == Phase::Ready && row.ready)
}

/// The example as it is in the repository.
pub fn folder(name: &str) -> std::path::PathBuf {
    Path::new(ROOT).join("examples").join(name)
}

/// Looks until it is there, the longer it takes the more seldom; what was there instead is told when it never is.
pub fn until<T, E: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(began.elapsed() < PATIENCE, "no {what}: {seen:#?}"),
        }
        let pause = began.elapsed() / 10;
        std::thread::sleep(pause.clamp(Duration::from_millis(50), Duration::from_millis(500)));
    }
}

/// What curl brings.
pub fn curl(words: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60"])
        .args(words)
        .output()
        .expect("curl runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Runs a script in an image, beside the sources of one of an example's services.
pub fn run_beside(sources: &Path, image: &str, script: &str) {
    let mut docker = Command::new("docker");
    docker
        .args(["run", "--rm", "--network", "host", "--user", "1000:1000"])
        .args(["--env", "HOME=/tmp", "--volume"])
        .arg(format!("{}:/source:ro", sources.display()))
        .args([image, "sh", "-euc", script]);
    println!("{}", Run::start(docker, script.into()).ends().went_well());
}

fn replace_once(text: &str, from: &str, to: &str) -> String {
    let from = Regex::new(from).unwrap();
    assert_eq!(
        from.find_iter(text).count(),
        1,
        "{from} is in stack.yaml once"
    );
    from.replace(text, to).into_owned()
}

/// Puts another namespace where manifests name that of this stack.yaml.
fn into_namespace(yaml: &str, other: &str) -> impl Fn(&str) -> String + use<> {
    let line = Regex::new(r"(?m)^namespace: (\S+)$").unwrap();
    let own = line.captures(yaml).expect("it has a namespace")[1].to_owned();
    // The whole word: other names begin with it.
    let word = Regex::new(&format!(r"(?m)(^|[^-\w]){own}($|[^-\w])")).unwrap();
    let other = format!("${{1}}{other}${{2}}");
    // Manifests do not name the default one, and the word has other meanings.
    move |text| match own.as_str() {
        "default" => text.to_owned(),
        _ => word.replace_all(text, &other).into_owned(),
    }
}

/// What git would copy, with the text of manifests changed.
fn copy(from: &Path, to: &Path, change: &dyn Fn(&str) -> String) {
    let name = from.file_name().and_then(|name| name.to_str());
    match name.unwrap_or_default() {
        "node_modules" | "__pycache__" | ".env.local" => {}
        _ if from.is_dir() => {
            fs::create_dir_all(to).unwrap();
            for entry in fs::read_dir(from).unwrap().flatten() {
                copy(&entry.path(), &to.join(entry.file_name()), change);
            }
        }
        name if name.ends_with(".yaml") => {
            fs::write(to, change(&fs::read_to_string(from).unwrap())).unwrap();
        }
        _ => drop(fs::copy(from, to).unwrap()),
    }
}
