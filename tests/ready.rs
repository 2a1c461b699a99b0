//! The watched view and readiness, on the test cluster.

#[path = "common/view.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{TestStack, config, shell, with, workload};
use k8s_openapi::jiff::Timestamp;
use llmdev::ready::{Readiness, held, serving};
use llmdev::view::service_of;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const SLEEP: &str = "sleep 3600";

#[tokio::test]
async fn a_deployment_with_its_service_becomes_ready() {
    let stack = TestStack::new().await;
    let pod = with(
        shell("sleep 1; touch /tmp/ok; sleep 3600"),
        "/containers/0/readinessProbe",
        json!({
            "exec": {"command": ["test", "-f", "/tmp/ok"]}, "periodSeconds": 1,
        }),
    );
    let deployment = with(
        workload("Deployment", "web", pod),
        "/spec/replicas",
        json!(2),
    );
    let mut target = stack.apply("web", deployment).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    });
    target
        .objects
        .extend(stack.apply("web", service).await.objects);

    let waiting = stack
        .until_readiness(&target, |one| matches!(one, Readiness::Waiting { .. }))
        .await;
    assert_ne!(waiting, Readiness::Ready);
    stack.until_ready(&target).await;

    let view = stack.views.borrow().clone();
    assert_eq!(view.ready_pods_of("web").len(), 2);
    // Slices carry the labels of their Service.
    let slice = view.slices.values().next().expect("a slice");
    assert_eq!(service_of(&slice.metadata), Some("web"));
    let why = stack.why("web").await;
    assert!(
        why.line.starts_with("web is healthy: ready for "),
        "{}",
        why.line
    );
    assert!(why.line.contains("no restarts"), "{}", why.line);
    assert!(why.findings.is_empty());
}

#[tokio::test]
async fn a_broken_new_version_fails_while_the_old_one_serves() {
    let stack = TestStack::new().await;
    let web = |script: &str| {
        let probe =
            json!({"exec": {"command": ["true"]}, "initialDelaySeconds": 2, "periodSeconds": 1});
        let pod = with(shell(script), "/containers/0/readinessProbe", probe);
        workload("Deployment", "web", pod)
    };
    let good = stack.apply("web", web(SLEEP)).await;
    stack.until_ready(&good).await;
    let bad = stack.apply("web", web("exit 4")).await;
    assert!(bad.objects[0].generation > good.objects[0].generation);
    let why = stack.until_failed(&bad).await;
    assert!(
        why.findings[0]
            .what
            .starts_with("container main ended with exit code 4"),
        "{why:#?}"
    );
    assert!(serving(&stack.views.borrow(), "web"));

    let better = stack.apply("web", web("true; sleep 3600")).await;
    stack.until_ready(&better).await;
}

#[tokio::test]
async fn a_program_that_ends_at_once_fails_although_nothing_asks_it() {
    let stack = TestStack::new().await;
    let target = stack
        .apply("web", workload("Deployment", "web", shell("exit 7")))
        .await;
    let why = stack.until_failed(&target).await;
    assert!(why.findings[0].what.contains("exit code 7"), "{why:#?}");
}

#[tokio::test]
async fn a_service_that_selects_nothing_says_so() {
    let stack = TestStack::new().await;
    let mut target = stack
        .apply("web", workload("Deployment", "web", shell(SLEEP)))
        .await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "wep"}, "ports": [{"port": 80}]},
    });
    target
        .objects
        .extend(stack.apply("web", service).await.objects);
    let selects_nothing = Readiness::Waiting {
        why: "Service web selects no pod: app=wep".to_owned(),
    };
    stack
        .until_readiness(&target, |readiness| *readiness == selects_nothing)
        .await;
    let why = stack.why("web").await;
    assert_eq!(
        why.findings[0].causes,
        ["there is label app=web"],
        "{why:#?}"
    );
}

#[tokio::test]
async fn a_stateful_set_with_its_volume_becomes_ready() {
    let stack = TestStack::new().await;
    let pod = with(
        shell(SLEEP),
        "/containers/0/volumeMounts",
        json!([{"name": "data", "mountPath": "/data"}]),
    );
    let claim = json!([{
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }]);
    let set = with(
        workload("StatefulSet", "db", pod),
        "/spec/volumeClaimTemplates",
        claim,
    );
    let target = stack.apply("db", set).await;
    stack.until_ready(&target).await;
    // Claims carry the labels of their template.
    let view = stack
        .until("the claim is seen", |view| !view.claims.is_empty())
        .await;
    let claim = view.claims.values().next().expect("a claim");
    assert_eq!(service_of(&claim.metadata), Some("db"));
}

#[tokio::test]
async fn a_storage_class_that_is_not_there_fails_at_once() {
    let stack = TestStack::new().await;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "llmdev-test-none",
            "resources": {"requests": {"storage": "1Mi"}}},
    });
    stack.apply("web", claim).await;
    let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    let pod = with(shell(SLEEP), "/volumes", volumes);
    let target = stack.apply("web", workload("Deployment", "web", pod)).await;
    let why = stack.until_failed(&target).await;
    let finding = &why.findings[0];
    assert_eq!(
        finding.what,
        "volume claim data: the cluster has no storage class llmdev-test-none"
    );
    let remedy = finding.remedy.as_deref().unwrap_or_default();
    assert!(remedy.contains("leave storageClassName out"), "{remedy}");
}

#[tokio::test]
async fn a_probe_that_begins_late_is_said_to_hold_a_rollout() {
    let stack = TestStack::new().await;
    // On a busy machine the answer takes a while, too.
    for (delay, period, expected) in [
        (
            5,
            5,
            Some("the readinessProbe of main, first asked after 5 s"),
        ),
        (0, 1, None),
    ] {
        let probe = json!({"exec": {"command": ["true"]}, "initialDelaySeconds": delay, "periodSeconds": period});
        let pod = with(shell(SLEEP), "/containers/0/readinessProbe", probe);
        let applied = Timestamp::now();
        let target = stack.apply("web", workload("Deployment", "web", pod)).await;
        stack.until_ready(&target).await;
        let held = held(&stack.views.borrow(), &target, applied);
        assert_eq!(held.as_deref(), expected);
    }
}

#[tokio::test]
async fn a_daemon_set_becomes_ready_and_its_new_version_fails() {
    let stack = TestStack::new().await;
    let target = stack
        .apply("agent", workload("DaemonSet", "agent", shell(SLEEP)))
        .await;
    stack.until_ready(&target).await;
    let target = stack
        .apply("agent", workload("DaemonSet", "agent", shell("exit 5")))
        .await;
    let why = stack.until_failed(&target).await;
    assert!(why.findings[0].what.contains("exit code 5"), "{why:#?}");
}

#[tokio::test]
async fn jobs_and_pods_end_well_or_not() {
    let stack = TestStack::new().await;
    let job = |name: &str, script: &str| {
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": {
                "metadata": {}, "spec": with(shell(script), "/restartPolicy", json!("Never")),
            }},
        })
    };
    let pod = with(shell("true"), "/restartPolicy", json!("Never"));
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "once"}, "spec": pod});
    let good = stack.apply("good", job("good", "true")).await;
    let bad = stack
        .apply("bad", job("bad", "echo relation missing; exit 3"))
        .await;
    let pod = stack.apply("once", pod).await;
    stack.until_ready(&good).await;
    stack.until_ready(&pod).await;
    let why = stack.until_failed(&bad).await;
    assert_eq!(why.findings[0].what, "Job bad failed", "{why:#?}");
    assert_eq!(why.findings[0].detail, ["relation missing"], "{why:#?}");
}

#[tokio::test]
async fn a_cut_connection_is_said_and_survived() {
    let proxy = Proxy::start().await;
    let stack = TestStack::watched_by(proxy.way().await).await;
    stack.apply("web", pod("old")).await;
    stack.apply("web", pod("stays")).await;
    let names = |view: &llmdev::view::View| {
        view.pods
            .keys()
            .map(|key| key.1.clone())
            .collect::<Vec<_>>()
    };
    stack
        .until("both pods", |view| {
            view.complete && names(view) == ["old", "stays"]
        })
        .await;

    let cut = proxy.cut();
    let view = stack
        .until("it is said", |view| view.unreachable.is_some())
        .await;
    assert_eq!(names(&view), ["old", "stays"], "what was known last stays");
    stack.delete("Pod", "old").await;
    stack.apply("web", pod("young")).await;
    assert_eq!(names(&stack.views.borrow()), ["old", "stays"]);

    drop(cut);
    stack
        .until("it is back", |view| {
            view.unreachable.is_none() && names(view) == ["stays", "young"]
        })
        .await;
    // The watches go on as well, not only the lists.
    stack.delete("Pod", "young").await;
    stack
        .until("a later change", |view| names(view) == ["stays"])
        .await;
}

#[tokio::test]
async fn a_view_keeps_nothing_that_nobody_reads() {
    let stack = TestStack::new().await;
    let object = with(
        pod("plain"),
        "/metadata/annotations",
        json!({
            "kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes",
        }),
    );
    stack.apply("web", object).await;
    let view = stack.until("the pod", |view| !view.pods.is_empty()).await;
    let meta = &view.pods.values().next().expect("the pod").metadata;
    assert_eq!(meta.managed_fields, None);
    let annotations: Vec<_> = meta
        .annotations
        .iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(annotations, ["kept"]);
}

/// Run with `LLMDEV_TEST_DISRUPTIVE=1`, alone: it takes the API server of the test cluster down.
#[tokio::test]
async fn a_restart_of_the_api_server_is_survived() {
    if std::env::var_os("LLMDEV_TEST_DISRUPTIVE").is_none() {
        eprintln!("not run: LLMDEV_TEST_DISRUPTIVE is not set");
        return;
    }
    let stack = TestStack::new().await;
    stack.apply("web", pod("before")).await;
    stack
        .until("the pod", |view| view.complete && view.pods.len() == 1)
        .await;
    let node = common::context().replace("kind-", "") + "-control-plane";
    let kill = ["exec", &node, "pkill", "-9", "-x", "kube-apiserver"];
    let killed = tokio::process::Command::new("docker")
        .args(kill)
        .status()
        .await;
    assert!(killed.expect("docker runs").success());
    stack
        .until("it is said", |view| view.unreachable.is_some())
        .await;
    stack
        .until("it is back", |view| view.unreachable.is_none())
        .await;
    stack.apply("web", pod("later")).await;
    stack.until("both pods", |view| view.pods.len() == 2).await;
}

fn pod(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": shell(SLEEP)})
}

/// A way to the API server that can be cut.
struct Proxy {
    address: SocketAddr,
    switch: tokio::sync::watch::Sender<CancellationToken>,
    _serving: AbortOnDropHandle<()>,
}

/// While it lives, the way is cut.
struct Cut<'a>(&'a Proxy);

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.0.switch.send_replace(CancellationToken::new());
    }
}

impl Proxy {
    async fn start() -> Self {
        let target = config()
            .await
            .cluster_url
            .authority()
            .expect("an address")
            .to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (switch, cuts) = tokio::sync::watch::channel(CancellationToken::new());
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let cut = cuts.borrow().clone();
                if cut.is_cancelled() {
                    continue;
                }
                let target = target.clone();
                connections.spawn(async move {
                    let _ = cut.run_until_cancelled(carry(near, target)).await;
                });
            }
        });
        Proxy {
            address,
            switch,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    async fn way(&self) -> kube::Config {
        let mut way = config().await;
        way.cluster_url = format!("https://{}", self.address)
            .parse()
            .expect("an address");
        way.connect_timeout = Some(Duration::from_secs(5));
        way
    }

    fn cut(&self) -> Cut<'_> {
        self.switch.borrow().cancel();
        Cut(self)
    }
}

async fn carry(mut near: TcpStream, target: String) {
    let Ok(mut far) = TcpStream::connect(target).await else {
        return;
    };
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
