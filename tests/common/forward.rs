//! A namespace of its own on the test cluster, its pods as a view, and pods that exist in a view only.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use llmdev::owner::SERVICE;
use llmdev::view::{View, Views};
use serde_json::json;
use tokio::sync::watch;

/// The kubeconfig context that tests use.
pub fn context() -> String {
    std::env::var("LLMDEV_TEST_CONTEXT").unwrap_or_else(|_| "kind-kind".to_owned())
}

pub async fn client() -> Client {
    let options = KubeConfigOptions {
        context: Some(context()),
        ..Default::default()
    };
    let file = Kubeconfig::read().expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(file, &options)
        .await
        .expect("the context");
    Client::try_from(config).expect("a client")
}

/// Puts a local image into the node, unless it is there.
pub fn load(image: &str) {
    let context = context();
    let cluster = context.strip_prefix("kind-").expect("a kind cluster");
    let node = format!("{cluster}-control-plane");
    let full = if image.contains('/') {
        image.to_owned()
    } else {
        format!("docker.io/library/{image}")
    };
    let images = Command::new("docker")
        .args([
            "exec",
            &node,
            "ctr",
            "-n",
            "k8s.io",
            "images",
            "list",
            "-q",
            &format!("name=={full}"),
        ])
        .output()
        .expect("docker");
    if String::from_utf8_lossy(&images.stdout).trim() != full {
        let args = ["load", "docker-image", "--name", cluster, image];
        assert!(
            Command::new("kind")
                .args(args)
                .status()
                .expect("kind")
                .success()
        );
    }
}

/// A namespace that goes when this goes.
pub struct Space {
    pub client: Client,
    pub name: String,
    views: Views,
}

impl Space {
    pub async fn new() -> Space {
        let client = client().await;
        let random = std::collections::hash_map::RandomState::new();
        let number = std::hash::BuildHasher::hash_one(&random, std::process::id());
        let name = format!("llmdev-test-{number:016x}");
        let space = json!({"metadata": {"name": name}});
        let space: Namespace = serde_json::from_value(space).unwrap();
        Api::all(client.clone())
            .create(&Default::default(), &space)
            .await
            .expect("a namespace");
        let views = observe(Api::namespaced(client.clone(), &name));
        Space {
            client,
            name,
            views,
        }
    }

    pub fn views(&self) -> Views {
        self.views.clone()
    }

    /// Applies manifests with kubectl, as a person would.
    pub fn apply(&self, manifests: &serde_json::Value) {
        let file = tempfile::NamedTempFile::new().unwrap();
        serde_json::to_writer(&file, manifests).unwrap();
        self.kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
    }

    pub fn kubectl(&self, args: &[&str]) -> String {
        let context = context();
        let output = Command::new("kubectl")
            .args(["--context", &context, "-n", &self.name])
            .args(args)
            .output()
            .expect("kubectl");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until the view is as it should be.
    pub async fn until(&self, what: &str, is: impl Fn(&View) -> bool) {
        let mut views = self.views();
        let wait = views.wait_for(|view| is(view));
        let done = tokio::time::timeout(Duration::from_secs(120), wait).await;
        assert!(done.is_ok(), "waited 2 minutes until {what}");
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let args = ["delete", "namespace", &self.name, "--wait=false"];
        let _ = Command::new("kubectl")
            .args(["--context", &context()])
            .args(args)
            .output();
    }
}

/// The pods of a namespace, watched.
fn observe(pods: Api<Pod>) -> Views {
    let (sender, views) = watch::channel(Arc::new(View::default()));
    tokio::spawn(async move {
        let mut events = watcher(pods, Default::default()).default_backoff().boxed();
        let mut view = View::default();
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(pod)) => drop(listed.insert(key(&pod), Arc::new(pod))),
                Ok(watcher::Event::InitDone) => {
                    view.pods = std::mem::take(&mut listed);
                    view.complete = true;
                }
                Ok(watcher::Event::Apply(pod)) => drop(view.pods.insert(key(&pod), Arc::new(pod))),
                Ok(watcher::Event::Delete(pod)) => drop(view.pods.remove(&key(&pod))),
                Err(_) => {}
            }
            if sender.send(Arc::new(view.clone())).is_err() {
                return;
            }
        }
    });
    views
}

fn key(pod: &Pod) -> (String, String) {
    (
        pod.metadata.namespace.clone().unwrap_or_default(),
        pod.metadata.name.clone().unwrap_or_default(),
    )
}

/// Pods that exist in a view only.
pub struct Imagined {
    sender: watch::Sender<Arc<View>>,
}

impl Imagined {
    pub fn new() -> Imagined {
        let view = View {
            complete: true,
            ..View::default()
        };
        Imagined {
            sender: watch::channel(Arc::new(view)).0,
        }
    }

    pub fn views(&self) -> Views {
        self.sender.subscribe()
    }

    /// Adds or changes a pod of `service`; its uid is its name.
    pub fn pod(&self, service: &str, name: &str, ready: bool) {
        self.pod_since(service, name, ready, "2020-01-01T00:00:00Z");
    }

    pub fn pod_since(&self, service: &str, name: &str, ready: bool, since: &str) {
        let status = if ready { "True" } else { "False" };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": name, "uid": name, "labels": {SERVICE: service},
                "creationTimestamp": "2020-01-01T00:00:00Z"},
            "status": {"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": since}]},
        }))
        .unwrap();
        self.change(|view| drop(view.pods.insert(key(&pod), Arc::new(pod.clone()))));
    }

    pub fn remove(&self, name: &str) {
        self.change(|view| drop(view.pods.remove(&("n".to_owned(), name.to_owned()))));
    }

    fn change(&self, change: impl Fn(&mut View)) {
        self.sender.send_modify(|view| change(Arc::make_mut(view)));
    }
}
