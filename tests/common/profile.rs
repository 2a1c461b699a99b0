//! A double of minikube on the PATH of a stack, and the profile that it has.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::journey::{Stack, context, kubectl};

/// The profile and its minikube.
pub struct Profile {
    folder: TempDir,
    pub name: String,
}

impl Profile {
    /// A profile whose API server is the test cluster's, known to nobody yet. `state`: see `minikube.sh`.
    pub fn new(stack: &mut Stack, state: &str) -> Profile {
        let name = stack.space.clone();
        let config = [
            "config",
            "view",
            "--raw",
            "--minify",
            "--flatten",
            "--output",
            "json",
        ];
        let config = serde_json::from_str(&kubectl(&config)).unwrap();
        Profile::with(stack, &name, state, config)
    }

    /// A profile with this kubeconfig, which has one context.
    pub fn with(stack: &mut Stack, name: &str, state: &str, config: Value) -> Profile {
        let folder = tempfile::tempdir().unwrap();
        let profile = Profile {
            folder,
            name: name.to_owned(),
        };
        // A file that was written a moment ago may be "busy", open in a child that another test starts.
        let double = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/minikube.sh");
        symlink(double, profile.path("minikube")).unwrap();
        profile.put("name", name);
        profile.put("calls", "");
        profile.leads_to(config);
        let path = std::env::var("PATH").unwrap();
        stack.with_env("PATH", format!("{}:{path}", profile.path("").display()));
        let known = profile.path("known").display().to_string();
        stack.with_env("KUBECONFIG", known);
        profile.is(state);
        profile
    }

    /// Its API server is that of a kubeconfig, which has one context.
    pub fn leads_to(&self, config: Value) {
        let config = as_minikube_writes(config, &self.name);
        self.put("kubeconfig", &config.to_string());
    }

    /// Puts the profile into a state, and the kubeconfig likewise.
    pub fn is(&self, state: &str) {
        self.put("state", state);
        let listed = ["running", "several", "paused", "half"].contains(&state);
        let config = fs::read_to_string(self.path("kubeconfig")).unwrap();
        self.put("known", if listed { &config } else { "" });
    }

    pub fn state(&self) -> String {
        fs::read_to_string(self.path("state")).unwrap()
    }

    /// The kubeconfig that people have.
    pub fn known(&self) -> Value {
        let known = fs::read_to_string(self.path("known")).unwrap();
        serde_yaml::from_str(&known).unwrap()
    }

    pub fn current_context(&self) -> String {
        self.known()["current-context"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub fn put(&self, file: &str, content: &str) {
        fs::write(self.path(file), content).unwrap();
    }

    pub fn forget(&self, file: &str) {
        fs::remove_file(self.path(file)).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// What minikube was asked since the last time, without the words that all have.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap();
        self.put("calls", "");
        let profile = format!(" --profile {}", self.name);
        let short = |line: &str| line.replace(&profile, "").replace(" --output json", "");
        calls.lines().map(short).collect()
    }

    /// Runs minikube, as a person would.
    pub fn minikube(&self, command: &str) {
        let run = Command::new(self.path("minikube"))
            .args([command, "--profile", &self.name])
            .env("KUBECONFIG", self.path("known"))
            .output()
            .unwrap();
        assert!(run.status.success(), "{run:?}");
        self.calls();
    }
}

/// The kubeconfig as minikube would have written it for its profile.
fn as_minikube_writes(mut config: Value, name: &str) -> Value {
    let extensions = |what: &str| json!([{"name": what, "extension": {"provider": "minikube.sigs.k8s.io", "version": "v1.38.1"}}]);
    for (list, extended) in [
        ("clusters", "cluster"),
        ("contexts", "context"),
        ("users", ""),
    ] {
        config[list][0]["name"] = json!(name);
        if !extended.is_empty() {
            config[list][0][extended]["extensions"] = extensions(&format!("{extended}_info"));
        }
    }
    config["contexts"][0]["context"]["cluster"] = json!(name);
    config["contexts"][0]["context"]["user"] = json!(name);
    config.as_object_mut().unwrap().remove("current-context");
    config
}

/// The line of `stack.yaml` that says where it runs is replaced.
pub fn runs_on(stack: &Stack, cluster: &Value) {
    let yaml = stack.yaml();
    let own = yaml
        .lines()
        .find(|line| line.starts_with("cluster: "))
        .unwrap();
    stack.write(
        "stack.yaml",
        yaml.replace(own, &format!("cluster: {cluster}")),
    );
}

/// The test cluster's first node.
pub fn node() -> String {
    format!("{}-control-plane", context().trim_start_matches("kind-"))
}
