//! A namespace of its own on the test cluster, with objects as a stack of llmdev's would have them.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use bollard::Docker;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};
use llmdev::cluster::load::Loader;
use llmdev::cluster::node;
use llmdev::diagnose::{self, Why};
use llmdev::owner::Owner;
use llmdev::ready::{self, Readiness, Target};
use llmdev::view::{Scope, View, Views, observe};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Long, since the machine may be busy; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(90);

/// The kubeconfig context of the test cluster.
pub fn context() -> String {
    std::env::var("LLMDEV_TEST_CONTEXT").unwrap_or_else(|_| "kind-kind".to_owned())
}

/// How the test cluster is reached.
pub async fn config() -> Config {
    let options = KubeConfigOptions {
        context: Some(context()),
        ..KubeConfigOptions::default()
    };
    Config::from_kubeconfig(&options)
        .await
        .expect("the kubeconfig has the test context")
}

/// What asks the nodes of the test cluster.
async fn loader() -> Loader {
    let docker = Docker::connect_with_defaults().expect("Docker is there");
    let context = context();
    let cluster = context.strip_prefix("kind-").expect("a kind cluster");
    let nodes = node::of_kind(&docker, cluster).await.expect("its nodes");
    Loader::new(&docker, &nodes, &std::env::temp_dir())
}

/// A stack with one namespace, watched.
pub struct TestStack {
    pub client: Client,
    pub owner: Owner,
    pub namespace: String,
    pub views: Views,
    loader: Loader,
    _end: DropGuard,
}

impl Drop for TestStack {
    fn drop(&mut self) {
        let arguments = [
            "delete",
            "namespace",
            &self.namespace,
            "--wait=false",
            "--ignore-not-found",
        ];
        let deleted = Command::new("kubectl")
            .arg("--context")
            .arg(context())
            .args(arguments)
            .output();
        if let Err(error) = deleted {
            eprintln!("cannot delete namespace {}: {error}", self.namespace);
        }
    }
}

impl TestStack {
    /// A new one, watched directly.
    pub async fn new() -> Self {
        Self::watched_by(config().await).await
    }

    /// A new one that is watched by another way to the same cluster.
    pub async fn watched_by(way: Config) -> Self {
        tokio::task::spawn_blocking(load_busybox)
            .await
            .expect("busybox is loaded");
        let client = Client::try_from(config().await).expect("a client");
        let namespace = format!("llmdev-test-{}", random());
        let owner = Owner {
            stack: namespace.clone(),
            root: "0123456789abcdef".to_owned(),
        };
        let end = CancellationToken::new();
        let watching = Client::try_from(way).expect("a client");
        let scope = Scope::Namespace(namespace.clone());
        let views = observe(watching, &owner, scope, end.clone());
        let stack = TestStack {
            client,
            owner,
            namespace,
            views,
            loader: loader().await,
            _end: end.drop_guard(),
        };
        let object = json!({"metadata": {"name": stack.namespace}});
        let object = serde_json::from_value(object).expect("a namespace");
        let namespaces: Api<Namespace> = Api::all(stack.client.clone());
        namespaces
            .create(&PostParams::default(), &object)
            .await
            .expect("the namespace is made");
        stack
    }

    /// Applies an object as one of that service, its pod template with it.
    pub async fn apply(&self, service: &str, mut object: Value) -> Target {
        let labels = json!(self.owner.labels(Some(service)));
        label(&mut object["metadata"], &labels);
        object["metadata"]["namespace"] = json!(self.namespace);
        if object["spec"]["template"].is_object() {
            label(&mut object["spec"]["template"]["metadata"], &labels);
        }
        let claims = object.pointer_mut("/spec/volumeClaimTemplates");
        let claims = claims.and_then(Value::as_array_mut);
        for claim in claims.into_iter().flatten() {
            label(&mut claim["metadata"], &labels);
        }
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        let name = object["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned();
        let params = PatchParams::apply("llmdev-test").force();
        let api = self.api(&kind);
        let applied = api
            .patch(&name, &params, &Patch::Apply(object))
            .await
            .expect("it is applied");
        let object = ready::TargetObject {
            kind,
            namespace: self.namespace.clone(),
            name,
            uid: applied.metadata.uid,
            generation: applied.metadata.generation.unwrap_or(0),
        };
        Target {
            service: service.to_owned(),
            objects: vec![object],
        }
    }

    /// Deletes an object at once.
    pub async fn delete(&self, kind: &str, name: &str) {
        let params = kube::api::DeleteParams::default().grace_period(0);
        self.api(kind)
            .delete(name, &params)
            .await
            .expect("it is deleted");
    }

    /// The objects of a kind.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        let (group, plural) = match kind {
            "Deployment" => ("apps", "deployments"),
            "StatefulSet" => ("apps", "statefulsets"),
            "DaemonSet" => ("apps", "daemonsets"),
            "Job" => ("batch", "jobs"),
            "Pod" => ("", "pods"),
            "Service" => ("", "services"),
            "ConfigMap" => ("", "configmaps"),
            "Secret" => ("", "secrets"),
            "ResourceQuota" => ("", "resourcequotas"),
            "PersistentVolumeClaim" => ("", "persistentvolumeclaims"),
            other => panic!("no test applies a {other}"),
        };
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Waits until the view is as it should be.
    pub async fn until(&self, what: &str, is: impl FnMut(&View) -> bool) -> std::sync::Arc<View> {
        let mut views = self.views.clone();
        let mut is = is;
        let found = tokio::time::timeout(PATIENCE, views.wait_for(|view| is(view))).await;
        match found {
            Ok(view) => view.expect("the watches go on").clone(),
            Err(_) => panic!(
                "not in time: {what}; the view is {:#?}",
                *self.views.borrow()
            ),
        }
    }

    /// Waits until the target's readiness is as it should be.
    pub async fn until_readiness(
        &self,
        target: &Target,
        is: impl Fn(&Readiness) -> bool,
    ) -> Readiness {
        let what = format!("readiness of {}", target.service);
        let view = self.until(&what, |view| is(&readiness(view, target))).await;
        readiness(&view, target)
    }

    /// Waits until it is ready.
    pub async fn until_ready(&self, target: &Target) {
        self.until_readiness(target, |readiness| *readiness == Readiness::Ready)
            .await;
    }

    /// Waits until it has failed, and says why.
    pub async fn until_failed(&self, target: &Target) -> Why {
        self.until_readiness(target, |readiness| {
            matches!(readiness, Readiness::Failed(_))
        })
        .await;
        self.why(&target.service).await
    }

    /// Waits until what `llmdev why` says is as it should be: events come a moment after the objects.
    pub async fn until_why(&self, service: &str, is: impl Fn(&Why) -> bool) -> Why {
        let looking = async {
            loop {
                let why = self.why(service).await;
                if is(&why) {
                    return why;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(why) => why,
            Err(_) => panic!("not in time: {:#?}", self.why(service).await),
        }
    }

    /// What `llmdev why` says.
    pub async fn why(&self, service: &str) -> Why {
        let view = self.views.borrow().clone();
        diagnose::why(
            &self.client,
            Some(&self.loader),
            &view,
            service,
            Timestamp::now(),
        )
        .await
    }
}

fn readiness(view: &View, target: &Target) -> Readiness {
    ready::readiness(view, target, Timestamp::now())
}

fn label(metadata: &mut Value, labels: &Value) {
    let all = &mut metadata["labels"];
    for (key, value) in labels.as_object().expect("labels") {
        all[key] = value.clone();
    }
}

/// A pod's spec with one container `main` that runs a shell script.
pub fn shell(script: &str) -> Value {
    json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "main", "image": "busybox:1", "command": ["sh", "-c", script]}],
    })
}

/// With one value at a JSON pointer replaced or added.
pub fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(parent).expect("a parent")[key] = value;
    object
}

/// A workload of that kind, called like its label `app`.
pub fn workload(kind: &str, name: &str, pod: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!(name);
    }
    object
}

fn random() -> String {
    let mut bytes = [0_u8; 5];
    let source = std::fs::File::open("/dev/urandom");
    let read = source.and_then(|mut source| std::io::Read::read_exact(&mut source, &mut bytes));
    read.expect("random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Once: the node gets busybox from Docker if it has not got it.
fn load_busybox() {
    static LOADED: OnceLock<()> = OnceLock::new();
    LOADED.get_or_init(|| {
        let context = context();
        let Some(cluster) = context.strip_prefix("kind-") else {
            return;
        };
        let node = format!("{cluster}-control-plane");
        let look = [
            "exec",
            &node,
            "crictl",
            "inspecti",
            "-q",
            "docker.io/library/busybox:1",
        ];
        let there = Command::new("docker")
            .args(look)
            .output()
            .expect("docker runs");
        if !there.status.success() {
            let load = ["load", "docker-image", "busybox:1", "--name", cluster];
            let loaded = Command::new("kind").args(load).output().expect("kind runs");
            assert!(
                loaded.status.success(),
                "{}",
                String::from_utf8_lossy(&loaded.stderr)
            );
        }
    });
}
