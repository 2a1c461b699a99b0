//! What a stack asks for beside what a cluster has: what is lowered, what is said, and what is an error.

use std::collections::BTreeMap;

use llmdev::cluster::room::{self, Class, Facts, Node, Taint};
use llmdev::cluster::{Choice, Flavor};
use llmdev::error::Kind;
use llmdev::owner::Owner;
use llmdev::render::fit::{self, Budget};
use llmdev::render::requests::{self, Amount};
use llmdev::render::{self, Rendered};
use llmdev::stack::{self, Stack};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

const GI: u64 = 1 << 30;

/// A stack of Deployments, each with its CPU request (thousandths) and dependencies.
struct Bench {
    _folder: TempDir,
    stack: Stack,
    rendered: Rendered,
}

impl Bench {
    async fn of(services: &[(&str, u64, &str)], dev: &str, more: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = format!(
            "apiVersion: llmdev/v1\nname: bench\nrender: [{{ manifests: [all.json] }}]\n{dev}\nservices:\n"
        );
        let mut items = more.to_vec();
        for (name, milli, after) in services {
            text += &format!("  {name}: {{ dependsOn: [{after}] }}\n");
            items.push(deployment(name, *milli));
        }
        std::fs::write(folder.path().join("stack.yaml"), text).unwrap();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        std::fs::write(folder.path().join("all.json"), list.to_string()).unwrap();
        let stack = stack::read(&folder.path().join("stack.yaml"), None).unwrap();
        let images = BTreeMap::new();
        let rendered = render::render(&stack, &Owner::of(&stack), &images, folder.path())
            .await
            .unwrap();
        Bench {
            _folder: folder,
            stack,
            rendered,
        }
    }

    fn fit(&mut self, facts: &Facts) {
        fit::fit(
            &self.stack,
            &mut self.rendered,
            &facts.budget().expect("a node"),
        );
    }

    fn check(&self, facts: &Facts) -> Result<Option<String>, llmdev::error::Failure> {
        let choice = Choice {
            context: "kind-dev".into(),
            flavor: Flavor::Kind("dev".into()),
            known: true,
        };
        room::check(&self.stack, &self.rendered, facts, &choice)
    }

    fn asks(&self) -> Vec<(u64, u64)> {
        let all = self.rendered.objects.iter().filter_map(requests::of);
        all.map(|asks| (asks.cpu, asks.memory >> 20)).collect()
    }
}

fn deployment(name: &str, milli: u64) -> Value {
    let resources = json!({
        "requests": {"cpu": format!("{milli}m"), "memory": "512Mi"},
        "limits": {"cpu": "4", "memory": "1Gi"},
    });
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "containers": [{"name": name, "image": "busybox:1", "resources": resources}],
        }},
    }})
}

fn node(name: &str, milli: u64, system: u64, taken: u64) -> Node {
    let all = Amount {
        cpu: milli,
        memory: 8 * GI,
        pods: 110,
    };
    let cpu = |cpu: u64| Amount {
        cpu,
        ..Amount::default()
    };
    Node {
        name: name.into(),
        capacity: all,
        allocatable: all,
        disk: 100 * GI,
        system: cpu(system),
        taken: cpu(taken),
        ..Node::default()
    }
}

fn one(milli: u64, system: u64, taken: u64) -> Facts {
    let class = |name: &str| Class {
        name: name.into(),
        by: "rancher.io/local-path".into(),
        default: true,
    };
    Facts {
        nodes: vec![node("dev-control-plane", milli, system, taken)],
        storage: vec![class("standard")],
        ..Facts::default()
    }
}

const THREE: [(&str, u64, &str); 3] = [("db", 100, ""), ("api", 500, "db"), ("page", 250, "api")];

#[tokio::test]
async fn requests_are_lowered_by_one_factor_and_it_is_said() {
    let mut bench = Bench::of(&THREE, "dev: { resources: fit }", &[]).await;
    bench.fit(&one(2000, 910, 1500));
    insta::assert_snapshot!(bench.rendered.notes.join("\n"), @"CPU requests lowered to 75 % to fit dev-control-plane: 850m wanted (and 500m while a pod is replaced beside it), 1090m free: db 100m → 75m, api 500m → 375m, page 250m → 187m");
    // Limits and memory are as they were.
    let spec = &bench.rendered.objects[1].value["spec"]["template"]["spec"];
    insta::assert_snapshot!(spec["containers"][0]["resources"], @r#"{"requests":{"cpu":"375m","memory":"512Mi"},"limits":{"cpu":"4","memory":"1Gi"}}"#);
    assert_eq!(bench.check(&one(2000, 910, 910)).unwrap(), None);
}

#[tokio::test]
async fn what_fits_stays_as_it_is() {
    for dev in ["dev: { resources: fit }", ""] {
        let mut bench = Bench::of(&THREE, dev, &[]).await;
        let before = bench.rendered.objects.clone();
        bench.fit(&one(if dev.is_empty() { 1000 } else { 3000 }, 910, 910));
        assert_eq!(bench.rendered.objects, before);
        assert!(bench.rendered.notes.is_empty());
    }
}

#[tokio::test]
async fn half_is_half_of_both() {
    let bench = Bench::of(&THREE, "dev: { resources: half }", &[]).await;
    assert_eq!(bench.asks(), [(50, 256), (250, 256), (125, 256)]);
    insta::assert_snapshot!(bench.rendered.notes.join("\n"), @"requests halved: db 100m → 50m and 512Mi → 256Mi, api 500m → 250m and 512Mi → 256Mi, page 250m → 125m and 512Mi → 256Mi");
}

#[tokio::test]
async fn whoever_will_wait_is_named_with_the_remedy() {
    let bench = Bench::of(
        &THREE,
        "cluster: { cpus: 4, memory: 16Gi, disk: 20Gi }",
        &[],
    )
    .await;
    insta::assert_snapshot!(bench.check(&one(2000, 910, 1500)).unwrap().unwrap(), @r"
    kind-dev has not all that the stack asks for
        cluster.cpus is 4, the nodes have 2
        cluster.memory is 16Gi, the nodes have 8Gi
        cpu         850m requested     500m free of 2000m  ✗
        memory     1.5Gi requested      8Gi free of 8Gi
        pods           3 requested      110 free of 110
        no room for api (500m cpu, 512Mi memory)
        waiting for those: page
        remedy: `dev: { resources: fit }` in stack.yaml lowers CPU requests; or stop what else runs (it has 590m cpu); or give Docker more, or a larger machine
    ");
}

#[tokio::test]
async fn nothing_that_could_run_is_an_error() {
    let bench = Bench::of(&THREE, "", &[]).await;
    let mut facts = one(2000, 910, 1950);
    let failure = bench.check(&facts).unwrap_err();
    assert_eq!(failure.kind, Kind::Environment);
    assert_eq!(
        failure.line(),
        "no service of the stack finds room on kind-dev: nothing was applied"
    );
    // Where no node takes pods that tolerate nothing, room is not what they lack: the scheduler says what is.
    facts.nodes[0].taken = Amount::default();
    facts.nodes[0].taints = vec![Taint {
        key: "node-role.kubernetes.io/control-plane".into(),
        value: String::new(),
        effect: "NoSchedule".into(),
    }];
    assert_eq!(bench.check(&facts).unwrap(), None);
    assert_eq!(facts.budget(), None);
    facts.nodes.push(node("worker", 2000, 100, 100));
    assert_eq!(bench.check(&facts).unwrap(), None);
    assert_eq!(facts.budget().unwrap().name, "worker");
}

#[tokio::test]
async fn storage_and_network_that_nobody_serves_are_named() {
    let claim = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec});
    let more = [
        claim("shared", json!({"accessModes": ["ReadWriteMany"]})),
        claim(
            "fast",
            json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "ssd"}),
        ),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"}, "spec": {"type": "LoadBalancer"}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"}, "spec": {"ingressClassName": "nginx"}}),
    ];
    let bench = Bench::of(&THREE[..1], "", &more).await;
    insta::assert_snapshot!(bench.check(&one(2000, 910, 910)).unwrap().unwrap(), @r"
    kind-dev has not all that the stack asks for
        claim shared: storage class standard (rancher.io/local-path) gives ReadWriteOnce, not ReadWriteMany
        claim fast: the cluster has no storage class ssd (it has standard)
        Service front of type LoadBalancer gets no address: cloud-provider-kind or MetalLB would give one
        Ingress web: the cluster has no ingress class nginx, so nobody serves it
    ");
    let mut facts = one(2000, 910, 910);
    facts.balancer = true;
    facts.storage[0].by = "k8s.io/minikube-hostpath".into();
    for (classes, name) in [(&mut facts.storage, "ssd"), (&mut facts.ingress, "nginx")] {
        classes.push(Class {
            name: name.into(),
            ..Class::default()
        });
    }
    assert_eq!(bench.check(&facts).unwrap(), None);
}

#[tokio::test]
async fn nodes_that_may_not_be_looked_at_change_nothing() {
    let facts = Facts {
        unseen: Some("nodes is forbidden".into()),
        ..Facts::default()
    };
    assert_eq!(facts.budget(), None);
    let bench = Bench::of(&THREE, "", &[]).await;
    assert_eq!(bench.check(&facts).unwrap(), None);
    let bench = Bench::of(&THREE, "dev: { resources: fit }", &[]).await;
    insta::assert_snapshot!(bench.check(&facts).unwrap().unwrap(), @"the nodes of kind-dev cannot be looked at, so requests stay as they are (`dev.resources: fit` has nothing to go by): nodes is forbidden");
}

/// On a real cluster: what is asked for is what `kubectl describe node` says, and other tenants change no budget.
#[tokio::test]
async fn a_real_cluster_is_looked_at() {
    let context = std::env::var("LLMDEV_TEST_CONTEXT").unwrap_or_else(|_| "kind-kind".to_owned());
    let options = kube::config::KubeConfigOptions {
        context: Some(context),
        ..Default::default()
    };
    let config = kube::Config::from_kubeconfig(&options).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let owner = Owner {
        stack: "none".into(),
        root: "none".into(),
    };
    let facts = Facts::ask(&client, &owner).await;
    assert_eq!(facts.unseen, None);
    let node = &facts.nodes[0];
    // The control plane's own pods: 100m and more for the API server, etcd, CoreDNS.
    assert!(node.system.cpu >= 500 && node.system.pods >= 6, "{node:?}");
    assert!(node.taken.cpu >= node.system.cpu, "{node:?}");
    assert!(
        node.allocatable.cpu >= 1000 && node.allocatable.memory > GI,
        "{node:?}"
    );
    assert!(node.disk > GI, "{node:?}");
    assert!(facts.storage.iter().any(|class| class.default), "{facts:?}");
    let again = Facts::ask(&client, &owner).await;
    assert_eq!(again.budget(), facts.budget());
}

proptest! {
    /// What is lowered fits whenever it can, never grows, keeps the order, and comes out the same each time.
    #[test]
    fn lowered_requests_fit(wants in prop::collection::vec(1u64..2000, 1..6), room in 200u64..4000) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let names: Vec<String> = (0..wants.len()).map(|index| format!("s{index}-x")).collect();
            let services: Vec<_> = names.iter().zip(&wants).map(|(name, want)| (name.as_str(), *want, "")).collect();
            let budget = Budget { cpu: room, spare: 50, nodes: 1, name: "n".into() };
            let mut bench = Bench::of(&services, "dev: { resources: fit }", &[]).await;
            let mut twin = Bench::of(&services, "dev: { resources: fit }", &[]).await;
            fit::fit(&bench.stack, &mut bench.rendered, &budget);
            fit::fit(&twin.stack, &mut twin.rendered, &budget);
            let after: Vec<u64> = bench.asks().iter().map(|asks| asks.0).collect();
            assert_eq!(bench.asks(), twin.asks());
            for (one, (before, now)) in wants.iter().zip(&after).enumerate() {
                assert!(now <= before && *now >= (*before).min(10), "{before} → {now}");
                for (before_other, now_other) in wants.iter().zip(&after).skip(one) {
                    assert!(before > before_other || now <= now_other);
                    assert!(before < before_other || now >= now_other);
                }
            }
            let total: u64 = after.iter().sum::<u64>() + after.iter().max().unwrap();
            let least = wants.iter().all(|want| *want * 5 / 100 <= 10);
            assert!(total <= room - 50 || least || bench.rendered.notes[0].contains("lowered to 5 %"), "{total}");
        });
    }
}
