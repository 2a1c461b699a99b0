//! A cluster of several nodes that llmdev makes, uses and takes away.

#[path = "common/alone.rs"]
mod alone;
#[path = "common/journey/mod.rs"]
mod journey;

use std::process::Command;

use journey::{Run, Stack, containers, context, docker, web};
use llmdev::event::Phase;
use serde_json::json;

/// Takes the cluster away when the test fails.
struct Cluster(String);

impl Drop for Cluster {
    fn drop(&mut self) {
        let arguments = ["delete", "cluster", "--name", &self.0];
        let _ = Command::new("kind")
            .args(arguments)
            .env("KUBECONFIG", "/dev/null")
            .output();
    }
}

#[test]
fn a_cluster_of_several_nodes_is_made_used_and_taken_away() {
    let _addresses = alone::together(alone::ADDRESSES);
    let image = std::env::var("LLMDEV_TEST_NODE_IMAGE").unwrap_or_else(|_| {
        let node = format!("{}-control-plane", context().trim_start_matches("kind-"));
        let image = docker(&["inspect", "--format", "{{.Config.Image}}", &node]);
        image.trim().to_owned()
    });
    let mut stack = Stack::new();
    let cluster = Cluster(stack.space.clone());
    let kubeconfig = stack.path("kubeconfig").display().to_string();
    stack.with_env("KUBECONFIG", kubeconfig.clone());
    let mut service = web("web")
        .that_says("one")
        .with_key("sync", json!([{"src": "*.txt", "dest": "/www"}]));
    service.replicas = 2;
    service.pod["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"},
    ]}});
    stack.has(service);
    let workload = std::fs::read_to_string(stack.path("k8s/web.yaml")).unwrap();
    // There is no third node for a pod beside the two.
    let one_by_one = "\"spec\": {\n    \"strategy\": {\"rollingUpdate\": {\"maxSurge\": 0, \"maxUnavailable\": 1}},";
    stack.write(
        "k8s/web.yaml",
        workload.replacen("\"spec\": {", one_by_one, 1),
    );
    let wanted = format!(
        "cluster: {{ provider: kind, name: {}, create: true, nodes: 3, image: '{image}' }}",
        cluster.0
    );
    let yaml = stack.yaml();
    let own = yaml
        .lines()
        .find(|line| line.starts_with("cluster: "))
        .unwrap();
    stack.write("stack.yaml", yaml.replace(own, &wanted));

    let up = stack
        .up()
        .went_well()
        .saying(&["creating the kind cluster", &format!("kind-{}", cluster.0)]);
    println!("{up}");
    assert_eq!(stack.get("web"), "one");
    let nodes = |stack: &Stack| {
        let mut nodes: Vec<_> = stack
            .row("web")
            .pods
            .into_iter()
            .filter_map(|pod| pod.node)
            .collect();
        nodes.sort();
        nodes
    };
    let workers = [
        format!("{}-worker", cluster.0),
        format!("{}-worker2", cluster.0),
    ];
    assert_eq!(nodes(&stack), workers);

    let mut events = stack.events();
    stack.write("web/more.txt", "synced");
    println!("{}", events.until_note("synced more.txt to 2 pods"));

    let kubectl = |words: &[&str]| {
        let mut kubectl = Command::new("kubectl");
        kubectl.args(["--kubeconfig", &kubeconfig, "--namespace", &stack.space]);
        kubectl.args(words);
        Run::start(kubectl, words.join(" ")).ends().out
    };
    let says = |path: &str| {
        let pods = kubectl(&["get", "pods", "-o", "name"]);
        let cat = |pod: &str| kubectl(&["exec", pod, "--", "cat", path]);
        pods.lines().map(cat).collect::<Vec<_>>()
    };
    assert_eq!(says("/www/more.txt"), ["synced", "synced"]);

    let image = stack.row("web").image;
    stack.write("web/index.html", "two");
    stack.until_service("web", "is built anew", |row| {
        row.image != image && row.phase == Phase::Ready && row.pods.iter().all(|pod| pod.ready)
    });
    assert_eq!(says("/www/index.html"), ["two", "two"]);
    assert_eq!(nodes(&stack), workers);

    let down = stack.run(&["down", "--cluster"]).ends().went_well();
    println!("{down}");
    assert_eq!(containers(&cluster.0), "");
}
