//! An example of this repository as a person would use it: a copy with a name, a namespace and ports of its own.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use llmdev::event::{Phase, Status};
use regex::{Captures, Regex};

use crate::journey::{self, PATIENCE, Run, Stack, free_port, kubectl};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

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
    /// A copy of `examples/NAME`, whose manifests say that it lives in the namespace `space`.
    pub fn of(name: &str, space: &str) -> Self {
        let stack = Stack::new();
        // The whole word: other names begin with it.
        let space = Regex::new(&format!(r"(?m)(^|[^-\w]){space}($|[^-\w])")).unwrap();
        let other = format!("${{1}}{}${{2}}", stack.space);
        copy(&folder(name), &stack.path(""), &|text| {
            space.replace_all(text, &other).into_owned()
        });
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
        let text = replace_once(yaml, "(?m)^name: .*$", &name);
        let text = replace_once(&text, "(?m)^cluster: .*$", &cluster);
        let forwards = Regex::new(r"(?m)^    forward: \[([0-9]+)\]").unwrap();
        let text = forwards.replace_all(&text, |line: &Captures| {
            let (remote, local) = (line[1].parse().unwrap(), free_port());
            self.ports.insert(remote, local);
            format!("    forward: ['{local}:{remote}']")
        });
        text.into_owned()
    }

    /// The local port in the place of one of stack.yaml's.
    pub fn port(&self, remote: u16) -> u16 {
        self.ports[&remote]
    }

    /// `up`, until all are ready.
    pub fn comes_up(&self) {
        println!("{}", self.stack.up().went_well());
        let status = self.stack.status();
        assert!(is_well(&status), "{status:#?}");
    }

    /// Another `up` has nothing to do.
    pub fn is_up_already(&self) {
        let pods = self.stack.pods();
        self.stack.up().went_well();
        assert_eq!(self.stack.pods(), pods);
    }

    /// Runs its `verify`, which is told the ports by these names.
    pub fn is_verified(&self, ports: &[(&str, u16)]) {
        let mut verify = Command::new(self.stack.path("verify"));
        verify
            .env("CONTEXT", journey::context())
            .env("NAMESPACE", &self.stack.space)
            .envs(
                ports
                    .iter()
                    .map(|(name, port)| (name, self.port(*port).to_string())),
            );
        println!("{}", Run::start(verify, "verify".into()).ends().went_well());
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

    /// `down`, and nothing of it is left in its namespace, made by itself or by its services.
    pub fn goes(&self) {
        self.stack.down().went_well();
        // What belongs to what is gone is collected by Kubernetes in its own time.
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

/// Looks until it is there; what was there instead is told when it never is.
pub fn until<T, E: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "no {what}: {seen:#?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
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

/// What git would copy, with the text of manifests changed.
fn copy(from: &Path, to: &Path, change: &dyn Fn(&str) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        let yaml = target.extension().is_some_and(|it| it == "yaml");
        match entry.file_type().unwrap() {
            _ if name == "node_modules" || name == "__pycache__" || name == ".env.local" => {}
            kind if kind.is_dir() => copy(&entry.path(), &target, change),
            _ if yaml => {
                let text = fs::read_to_string(entry.path()).unwrap();
                fs::write(target, change(&text)).unwrap();
            }
            _ => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
