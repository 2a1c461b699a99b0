//! An example of this repository as a stack of a test's own: a copy with another name, namespace and other ports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use llmdev::event::Phase;
use regex::{Captures, Regex};

use super::journey::{Ended, PATIENCE, Run, Stack, cluster, context, free_port, get, kubectl};

pub struct Example {
    pub stack: Stack,
    /// The local ports of its `stack.yaml`, and those that stand for them.
    ports: BTreeMap<u16, u16>,
}

impl Example {
    /// The one in this folder of `examples/`. Where its files name the namespace of its `stack.yaml`, they name the test's.
    pub fn of(folder: &str) -> Self {
        let stack = Stack::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(folder);
        let yaml = fs::read_to_string(source.join("stack.yaml")).unwrap();
        let namespace = captured(&yaml, r"(?m)^namespace: (\S+)$");
        copy(&source, &stack.path(""), &|text| {
            text.replace(&namespace, &stack.space)
        });

        let yaml = yaml.replace(&namespace, &stack.space);
        let yaml = replaced(&yaml, "(?m)^name: .*$", &format!("name: {}", stack.name));
        let yaml = replaced(
            &yaml,
            "(?m)^namespace: .*$",
            &format!("namespace: {}", stack.space),
        );
        let yaml = replaced(
            &yaml,
            "(?m)^cluster: .*$",
            &format!("cluster: {}", cluster()),
        );
        let mut ports = BTreeMap::new();
        let yaml = Regex::new("local: ([0-9]+)")
            .unwrap()
            .replace_all(&yaml, |port: &Captures| {
                let own = ports
                    .entry(port[1].parse().unwrap())
                    .or_insert_with(free_port);
                format!("local: {own}")
            });
        stack.write("stack.yaml", &*yaml);
        Example { stack, ports }
    }

    /// The port that stands for one of its `stack.yaml`.
    pub fn port(&self, port: u16) -> u16 {
        self.ports[&port]
    }

    /// Every service is ready, and listens where it should on these ports of its `stack.yaml`.
    #[track_caller]
    pub fn is_up(&self, ports: &[u16]) {
        let status = self.stack.status();
        let well = |row: &llmdev::event::ServiceStatus| row.phase == Phase::Ready && row.ready;
        assert!(status.services.iter().all(well), "{status:#?}");
        let forwards = status.services.iter().flat_map(|row| &row.forwards);
        let listening: BTreeSet<u16> = forwards.map(|forward| forward.local).collect();
        assert_eq!(
            listening,
            ports.iter().map(|port| self.port(*port)).collect()
        );
    }

    /// Runs a script of its folder with ports by their variables.
    pub fn script(&self, script: &str, ports: &[(&str, u16)]) -> Ended {
        let mut command = Command::new(self.stack.path(script));
        command
            .env("NAMESPACE", &self.stack.space)
            .env("KUBE_CONTEXT", context())
            .envs(
                ports
                    .iter()
                    .map(|(name, port)| (name, self.port(*port).to_string())),
            );
        Run::start(command, script.to_owned()).ends()
    }

    /// Saves a file with a text replaced that is in it once.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.stack.path(file)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from} is in {file} once");
        self.stack.write(file, text.replace(from, to));
    }

    /// Waits until what is answered on a port of its `stack.yaml` has this in it.
    pub fn until_it_says(&self, port: u16, part: &str) {
        let began = Instant::now();
        loop {
            let said = get(self.port(port));
            if said.as_ref().is_ok_and(|said| said.contains(part)) {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{port} never says {part:?}: {said:?}"
            );
            // The answer of a program in a pod has no event that a stranger could wait for.
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Takes it down; nothing of it is left in the cluster, and nobody listens on its ports.
    pub fn goes(self) {
        self.stack.down().went_well();
        assert_eq!(self.stack.objects(), Vec::<String>::new());
        let label = format!("llmdev.dev/stack={}", self.stack.name);
        let others = "clusterroles,clusterrolebindings,roles,rolebindings,networkpolicies,ingresses,serviceaccounts,horizontalpodautoscalers";
        assert_eq!(
            kubectl(&[
                "get",
                others,
                "--all-namespaces",
                "-l",
                &label,
                "-o",
                "name"
            ]),
            ""
        );
        for port in self.ports.values() {
            assert!(
                std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok(),
                "{port} is free"
            );
        }
    }
}

fn captured(text: &str, pattern: &str) -> String {
    let found = Regex::new(pattern).unwrap();
    found
        .captures(text)
        .unwrap_or_else(|| panic!("{pattern} is in {text}"))[1]
        .to_owned()
}

fn replaced(text: &str, pattern: &str, with: &str) -> String {
    let pattern = Regex::new(pattern).unwrap();
    assert_eq!(
        pattern.find_iter(text).count(),
        1,
        "{pattern} is in stack.yaml once"
    );
    pattern.replace(text, regex::NoExpand(with)).into_owned()
}

/// Copies a folder; texts in YAML pass through `change`.
fn copy(from: &Path, to: &Path, change: &dyn Fn(&str) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&source, &target, change);
        } else if source.extension().is_some_and(|it| it == "yaml") {
            fs::write(target, change(&fs::read_to_string(source).unwrap())).unwrap();
        } else {
            fs::copy(source, target).unwrap();
        }
    }
}
