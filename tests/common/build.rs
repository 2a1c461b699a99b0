//! A stack in a temporary folder, and an engine that its images are removed from.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use llmdev::build::{Docker, ImagePlan, Outcome, Planner};
use llmdev::error::Failure;
use llmdev::stack::{
    BuildSpec, ClusterSpec, Hooks, SecretSource, Service, ServiceId, Stack, WorkloadSpec,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A stack whose services are folders of it; its images go when it does.
pub struct Bench {
    pub folder: TempDir,
    pub stack: Stack,
    pub planner: Planner,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let unique = root.file_name().unwrap().to_string_lossy().to_lowercase();
        let stack = Stack {
            name: format!(
                "llmdev-test-{}",
                unique.trim_start_matches('.').replace("tmp", "")
            ),
            file: root.join("stack.yaml"),
            root,
            cluster: ClusterSpec::default(),
            namespace: "default".into(),
            render: Vec::new(),
            services: Vec::new(),
            secrets: Vec::new(),
            hooks: Hooks::default(),
            dev: Default::default(),
            strict: false,
            ignore: vec![],
        };
        Bench {
            folder,
            stack,
            planner: Planner::default(),
        }
    }

    /// A bench with one service `app`.
    pub fn with(dockerfile: &str, files: &[(&str, &str)]) -> Self {
        let mut bench = Bench::new();
        bench.service("app", dockerfile, files);
        bench
    }

    /// Adds a service whose context is the folder of its name.
    pub fn service(&mut self, name: &str, dockerfile: &str, files: &[(&str, &str)]) -> ServiceId {
        let context = self.stack.root.join(name);
        std::fs::create_dir_all(&context).unwrap();
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        for (path, content) in files {
            let path = context.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.stack.services.push(Service {
            name: name.into(),
            build: Some(BuildSpec {
                image: name.into(),
                dockerfile: context.join("Dockerfile"),
                context,
                target: None,
                args: BTreeMap::new(),
                secrets: BTreeMap::new(),
                requires: BTreeMap::new(),
            }),
            workload: WorkloadSpec::ByName,
            image_in: Vec::new(),
            depends_on: Vec::new(),
            forwards: Vec::new(),
            sync: Vec::new(),
            ready_timeout: Duration::from_secs(180),
            fast_rollout: false,
        });
        ServiceId(self.stack.services.len() - 1)
    }

    pub fn spec(&mut self) -> &mut BuildSpec {
        self.stack.services[0].build.as_mut().unwrap()
    }

    pub fn secret(&mut self, id: &str, source: SecretSource) {
        self.spec().secrets.insert(id.into(), source);
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.stack.root.join(path)
    }

    pub fn write(&self, path: &str, content: &str) {
        std::fs::write(self.path(path), content).unwrap();
    }

    pub fn plan(&mut self) -> ImagePlan {
        self.plans().unwrap().into_iter().last().unwrap()
    }

    pub fn plans(&mut self) -> Result<Vec<ImagePlan>, Failure> {
        self.planner.plan(&self.stack)
    }

    pub fn reference(&mut self) -> String {
        self.plan().reference
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let filter = format!("reference=llmdev.local/{}/*", self.stack.name);
        let listed = docker_cli(&[
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            "--filter",
            &filter,
        ]);
        for image in listed.lines() {
            docker_cli(&["rmi", "--force", image]);
        }
    }
}

/// What the `docker` command says, and on which engine it is asked is up to the environment.
pub fn docker_cli(args: &[&str]) -> String {
    let output = std::process::Command::new("docker")
        .args(args)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command in a container of the image prints.
pub fn run(image: &str, command: &[&str]) -> String {
    docker_cli(&[&["run", "--rm", "--network=none", image], command].concat())
}

/// Builds, and returns how it ended and what it printed.
pub async fn build(docker: &Docker, plan: &ImagePlan) -> (Result<Outcome, Failure>, Vec<String>) {
    let mut lines = Vec::new();
    let cancel = CancellationToken::new();
    let outcome = docker
        .build(plan, &mut |line: &str| lines.push(line.to_owned()), &cancel)
        .await;
    (outcome, lines)
}

/// Builds what must build.
pub async fn built(docker: &Docker, plan: &ImagePlan) -> (String, Vec<String>) {
    match build(docker, plan).await {
        (Ok(Outcome::Built(id)), lines) => (id, lines),
        (other, lines) => panic!("{other:?}\n{}", lines.join("\n")),
    }
}

/// Whether a process of this machine has a text in its command line.
pub fn runs(marker: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(Path::new(&process.path()).join("cmdline")).ok())
        .any(|line| {
            line.windows(marker.len())
                .any(|part| part == marker.as_bytes())
        })
}
