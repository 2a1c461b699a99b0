//! Logs of real containers.

#[path = "common/forward.rs"]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::{Space, context};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use llmdev::cluster::agent::Agents;
use llmdev::cluster::node;
use llmdev::error::Kind;
use llmdev::logs::{LogItem, LogLine, LogQuery, stream};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const IMAGE: &str = "busybox:1";

/// A Deployment of the service `app`.
fn deployment(replicas: u32, pod: serde_json::Value) -> serde_json::Value {
    let labels = json!({"app": "app", llmdev::owner::SERVICE: "app"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "app"}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    })
}

fn container(name: &str, script: &str) -> serde_json::Value {
    json!({
        "name": name, "image": IMAGE, "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1},
    })
}

fn query() -> LogQuery {
    LogQuery {
        services: vec!["app".to_owned()],
        ..LogQuery::default()
    }
}

fn open(space: &Space, query: LogQuery) -> mpsc::Receiver<LogItem> {
    stream(
        space.client.clone(),
        None,
        space.views(),
        query,
        CancellationToken::new(),
    )
    .expect("a query")
}

async fn all(space: &Space, query: LogQuery) -> Vec<LogLine> {
    let mut lines = open(space, query);
    let mut all = Vec::new();
    while let Some(line) = lines.recv().await {
        all.push(line.expect("all containers can be read"));
    }
    all
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

/// Reads until `enough`.
async fn read_until(
    lines: &mut mpsc::Receiver<LogItem>,
    into: &mut Vec<LogLine>,
    enough: impl Fn(&[LogLine]) -> bool,
) {
    let read = async {
        while !enough(into) {
            into.push(
                lines
                    .recv()
                    .await
                    .expect("it goes on")
                    .expect("it can be read"),
            );
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(90), read).await;
    assert!(
        read.is_ok(),
        "after 90 s only {} lines, the last: {:?}",
        into.len(),
        into.last()
    );
}

#[tokio::test]
async fn pods_and_containers_are_merged_by_time() {
    common::load(IMAGE);
    let space = Space::new().await;
    let script = |name: &str| {
        format!(
            "for n in $(seq 10 29); do echo {name} $n; usleep 10000; done; touch /tmp/ready; sleep 1d & wait"
        )
    };
    let init = json!({"name": "before", "image": IMAGE, "imagePullPolicy": "Never", "command": ["echo", "init"]});
    let pod = json!({
        "terminationGracePeriodSeconds": 0,
        "initContainers": [init],
        "containers": [container("one", &script("one")), container("two", &script("two"))],
    });
    space.apply(&deployment(2, pod));
    space
        .until("both pods are ready", |view| {
            view.ready_pods_of("app").len() == 2
        })
        .await;

    let lines = all(&space, query()).await;
    assert_eq!(lines.len(), 2 * (1 + 20 + 20));
    assert!(lines.is_sorted_by_key(|line| line.at), "{lines:?}");
    let pods: std::collections::BTreeSet<_> = lines.iter().map(|line| &line.pod).collect();
    assert_eq!(pods.len(), 2);
    let ours = |line: &&LogLine| line.pod == lines[0].pod && &*line.container == "two";
    let ours: Vec<_> = lines
        .iter()
        .filter(ours)
        .map(|line| line.text.clone())
        .collect();
    assert_eq!(
        ours,
        (10..30).map(|n| format!("two {n}")).collect::<Vec<_>>()
    );

    let tail = all(
        &space,
        LogQuery {
            tail: Some(7),
            ..query()
        },
    )
    .await;
    assert_eq!(tail, lines[lines.len() - 7..]);
    assert_eq!(tail, in_the_node(&space, 7).await);
    assert_eq!(
        all(
            &space,
            LogQuery {
                tail: Some(0),
                ..query()
            }
        )
        .await,
        []
    );

    let grep = LogQuery {
        grep: Some("^one 1[13]$".to_owned()),
        ..query()
    };
    let found = all(&space, grep.clone()).await;
    assert_eq!(
        texts(&found)
            .iter()
            .filter(|text| **text == "one 11")
            .count(),
        2
    );
    assert_eq!(found.len(), 4);
    assert_eq!(
        all(
            &space,
            LogQuery {
                tail: Some(1),
                ..grep
            }
        )
        .await,
        found[3..]
    );

    let only = all(
        &space,
        LogQuery {
            container: Some("before".to_owned()),
            ..query()
        },
    )
    .await;
    assert_eq!(texts(&only), ["init", "init"]);

    let since = lines[50].at;
    let late = all(
        &space,
        LogQuery {
            since: Some(since),
            ..query()
        },
    )
    .await;
    let expected: Vec<_> = lines
        .iter()
        .filter(|line| line.at >= since)
        .cloned()
        .collect();
    assert_eq!(late, expected);

    // What was printed, then what is printed: with nothing between them lost or repeated.
    let mut follow = open(
        &space,
        LogQuery {
            follow: true,
            tail: Some(3),
            ..query()
        },
    );
    let mut followed = Vec::new();
    read_until(&mut follow, &mut followed, |lines| lines.len() == 3).await;
    assert_eq!(followed, lines[lines.len() - 3..]);
    let pod = lines[0].pod.to_string();
    space.kubectl(&[
        "exec",
        &pod,
        "-c",
        "one",
        "--",
        "sh",
        "-c",
        "echo live > /proc/1/fd/1",
    ]);
    read_until(&mut follow, &mut followed, |lines| lines.len() > 3).await;
    assert_eq!(followed[3].text, "live");
}

#[tokio::test]
async fn a_run_before_the_last_one_is_read_too() {
    common::load(IMAGE);
    let space = Space::new().await;
    let script = "if mkdir /data/second 2>/dev/null; then echo first run; exit 1; fi; echo second run; touch /tmp/ready; sleep 1d & wait";
    let mut main = container("main", script);
    main["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let pod = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [main],
        "volumes": [{"name": "data", "emptyDir": {}}],
    });
    space.apply(&deployment(1, pod));
    space
        .until("the second run is ready", |view| {
            !view.ready_pods_of("app").is_empty()
        })
        .await;
    assert_eq!(texts(&all(&space, query()).await), ["second run"]);
    let previous = LogQuery {
        previous: true,
        ..query()
    };
    assert_eq!(texts(&all(&space, previous.clone()).await), ["first run"]);

    // The kubelet says so in the place of lines, with a status of 200.
    let ask = |path: &str| space.kubectl(&["get", "pod", "-o", &format!("jsonpath={path}")]);
    let id = ask("{.items[*].status.containerStatuses[*].lastState.terminated.containerID}");
    let id = id.strip_prefix("containerd://").expect("a container's id");
    let node = ask("{.items[*].spec.nodeName}");
    let removed = std::process::Command::new("docker")
        .args(["exec", &node, "crictl", "--timeout=60s", "rm", id])
        .output();
    assert!(removed.unwrap().status.success());
    let failure = open(&space, previous).recv().await.unwrap().unwrap_err();
    assert_eq!(failure.kind, Kind::Environment);
    let said = format!("{failure:?}");
    assert!(said.contains("unable to retrieve container logs"), "{said}");
}

/// Prints its pod's own numbers, from 0 on, and ends once after the hundredth.
fn counter() -> serde_json::Value {
    let script = "
        trap 'echo the end; exit 0' TERM
        n=$(cat /data/n 2>/dev/null || echo 0)
        touch /tmp/ready
        while true; do
            echo $n; n=$((n + 1)); echo $n > /data/n
            if [ $n = 100 ]; then exit 1; fi
            usleep 10000
        done";
    let mut main = container("main", script);
    main["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    json!({
        "terminationGracePeriodSeconds": 5,
        "containers": [main],
        "volumes": [{"name": "data", "emptyDir": {}}],
    })
}

/// Fails unless each pod's lines are 0, 1, 2 and so on.
fn check_numbers(lines: &[LogLine]) -> BTreeMap<Arc<str>, usize> {
    let mut next: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.text != "the end") {
        let next = next.entry(line.pod.clone()).or_default();
        assert_eq!(line.text, next.to_string(), "of pod {}", line.pod);
        *next += 1;
    }
    next
}

#[tokio::test]
async fn restart_and_replacement_lose_and_repeat_nothing() {
    common::load(IMAGE);
    let space = Space::new().await;
    space
        .until("the watch has begun", |view| view.complete)
        .await;
    // Before there is a pod.
    let mut follow = open(
        &space,
        LogQuery {
            follow: true,
            ..query()
        },
    );
    space.apply(&deployment(1, counter()));
    let mut lines = Vec::new();
    read_until(&mut follow, &mut lines, |lines| lines.len() >= 250).await;
    let first = lines[0].pod.clone();
    space.kubectl(&["delete", "pod", &first, "--wait=false"]);
    let of = |lines: &[LogLine], pod: &str| lines.iter().filter(|line| &*line.pod == pod).count();
    read_until(&mut follow, &mut lines, |lines| {
        lines.len() >= of(lines, &first) + 150
    })
    .await;
    let counts = check_numbers(&lines);
    assert_eq!(counts.len(), 2, "{counts:?}");
    let last = lines.iter().rfind(|line| line.pod == first).unwrap();
    assert_eq!(last.text, "the end", "the last words of the pod that went");
}

#[tokio::test]
async fn an_api_server_that_hangs_up_loses_and_repeats_nothing() {
    common::load(IMAGE);
    let space = Space::new().await;
    space.apply(&deployment(1, counter()));
    let proxy = Proxy::new().await;
    let cancel = CancellationToken::new();
    let query = LogQuery {
        follow: true,
        ..query()
    };
    let mut follow = stream(
        proxy.client.clone(),
        None,
        space.views(),
        query,
        cancel.clone(),
    )
    .unwrap();
    space
        .until("it prints", |view| !view.ready_pods_of("app").is_empty())
        .await;
    let mut lines = Vec::new();
    for round in 1..=8 {
        read_until(&mut follow, &mut lines, |lines| lines.len() >= round * 40).await;
        proxy.cut();
    }
    read_until(&mut follow, &mut lines, |lines| lines.len() >= 500).await;
    check_numbers(&lines);
    cancel.cancel();
    while follow.recv().await.is_some() {}
}

/// The last lines, with an API server that nobody can ask.
async fn in_the_node(space: &Space, tail: usize) -> Vec<LogLine> {
    let docker = bollard::Docker::connect_with_defaults().unwrap();
    let context = context();
    let cluster = context.strip_prefix("kind-").expect("a kind cluster");
    let nodes = node::of_kind(&docker, cluster).await.unwrap();
    let agents = Agents::new(&docker, &nodes, env!("CARGO_BIN_EXE_llmdev").into());
    agents.on(&nodes[0].name).await.expect("an agent");
    let nobody = Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let query = LogQuery {
        tail: Some(tail),
        ..query()
    };
    let end = CancellationToken::new();
    let mut lines = stream(nobody, Some(Arc::new(agents)), space.views(), query, end).unwrap();
    let mut all = Vec::new();
    while let Some(line) = lines.recv().await {
        all.push(line.expect("the node has it"));
    }
    all
}

#[tokio::test]
async fn a_pattern_that_is_none_is_refused() {
    let space = common::client().await;
    let (_sender, views) = watch::channel(Arc::default());
    let query = LogQuery {
        grep: Some("(".to_owned()),
        ..query()
    };
    let failure = stream(space, None, views, query, CancellationToken::new()).unwrap_err();
    assert_eq!(failure.kind, Kind::Usage);
}

/// A way to the API server that can be cut.
struct Proxy {
    client: Client,
    cuts: watch::Sender<()>,
}

impl Proxy {
    async fn new() -> Proxy {
        let options = KubeConfigOptions {
            context: Some(context()),
            ..Default::default()
        };
        let file = Kubeconfig::read().unwrap();
        let mut config = Config::from_custom_kubeconfig(file, &options)
            .await
            .unwrap();
        let host = config.cluster_url.host().unwrap().to_owned();
        let server = (host.clone(), config.cluster_url.port_u16().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        config.cluster_url = format!("https://127.0.0.1:{port}").parse().unwrap();
        config.tls_server_name = Some(host);
        let cuts = watch::Sender::new(());
        let cut = cuts.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let server = server.clone();
                let mut cut = cut.subscribe();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Proxy {
            client: Client::try_from(config).unwrap(),
            cuts,
        }
    }

    fn cut(&self) {
        self.cuts.send_replace(());
    }
}
