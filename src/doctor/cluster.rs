//! The cluster: which, does it answer, are its nodes and its DNS well.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};

use super::Check;
use crate::cluster::{self, Flavor, detect};
use crate::stack::{ClusterSpec, Stack};

pub(super) async fn check(stack: Option<&Stack>) -> Vec<Check> {
    let nothing = ClusterSpec::default();
    let spec = stack.map_or(&nothing, |stack| &stack.cluster);
    let name = stack.map_or("llmdev", |stack| stack.name.as_str());
    let config = cluster::kubeconfig();
    let choice = match detect::choose(spec, name, &config) {
        Ok(choice) => choice,
        Err(failure) => return vec![Check::failed("context", &failure)],
    };
    if !choice.known {
        // minikube takes the context of a profile away that it stops.
        let (found, mends) = match &choice.flavor {
            Flavor::Minikube(profile) => (
                format!("no minikube profile {profile} runs"),
                "starts or creates it",
            ),
            _ => (format!("there is no {} yet", choice.context), "creates it"),
        };
        return vec![if spec.create {
            Check::good("context", format!("{found}; `llmdev up` {mends}"))
        } else {
            Check::bad("context", found)
                .remedy("`cluster: { create: true }` in stack.yaml, or create it")
        }];
    }
    let where_ = if detect::is_local(&config, &choice.context) {
        "local"
    } else {
        "not local, but named outright"
    };
    let mut checks = vec![Check::good(
        "context",
        format!("{}, {where_}", choice.context),
    )];
    // Half of the time is for the answer, the rest for what is asked then.
    let connected = cluster::connect_existing(spec, name);
    let client = match tokio::time::timeout(super::LONGEST / 2, connected).await {
        Ok(Ok(cluster)) => cluster.client,
        Ok(Err(failure)) => {
            checks.push(Check::failed("cluster", &failure));
            return checks;
        }
        Err(_) => {
            let found = format!("{} does not answer", choice.context);
            let remedy = format!("kubectl --context {} get nodes", choice.context);
            checks.push(Check::bad("cluster", found).remedy(remedy));
            return checks;
        }
    };
    let (version, nodes, dns) = tokio::join!(version(&client), nodes(&client), dns(&client));
    checks.push(version);
    checks.extend(nodes);
    checks.extend(dns);
    checks
}

async fn version(client: &kube::Client) -> Check {
    match client.apiserver_version().await {
        Ok(version) => Check::good("cluster", format!("Kubernetes {}", version.git_version)),
        Err(error) => Check::bad("cluster", error.to_string()),
    }
}

async fn nodes(client: &kube::Client) -> Vec<Check> {
    let nodes: Api<Node> = Api::all(client.clone());
    match nodes.list(&ListParams::default()).await {
        Ok(nodes) => nodes.items.iter().map(node).collect(),
        Err(error) => vec![Check::bad("node", error.to_string())],
    }
}

fn node(node: &Node) -> Check {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let holds = |kind: &str| {
        conditions
            .unwrap_or_default()
            .iter()
            .find(|one| one.type_ == kind && one.status == "True")
    };
    let describe = format!("kubectl describe node {name}");
    if holds("Ready").is_none() {
        return Check::bad("node", format!("{name} is not ready")).remedy(describe);
    }
    let pressures = [
        (
            "DiskPressure",
            "has too little disk: images and pods are thrown out",
        ),
        (
            "MemoryPressure",
            "has too little memory: pods are thrown out",
        ),
        ("PIDPressure", "has too many processes"),
    ];
    match pressures.iter().find(|(kind, _)| holds(kind).is_some()) {
        Some((kind, what)) => {
            let remedy = if *kind == "DiskPressure" {
                "`docker system prune` makes room".into()
            } else {
                describe
            };
            Check::bad("node", format!("{name} {what}")).remedy(remedy)
        }
        None => Check::good("node", format!("{name} is ready")),
    }
}

/// Nothing where the cluster has its DNS under another name.
async fn dns(client: &kube::Client) -> Option<Check> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    let coredns = deployments.get_opt("coredns").await.ok()??;
    let ready = coredns
        .status
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0);
    Some(if ready > 0 {
        Check::good("dns", format!("coredns, {ready} ready"))
    } else {
        Check::bad(
            "dns",
            "coredns is not ready: no service finds another by name",
        )
        .remedy("kubectl -n kube-system describe pods -l k8s-app=kube-dns")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_node_under_pressure_is_no_good_node() {
        let of = |conditions: &[(&str, &str)]| {
            let conditions: Vec<_> = conditions
                .iter()
                .map(|(kind, status)| serde_json::json!({"type": kind, "status": status}))
                .collect();
            let value = serde_json::json!({"metadata": {"name": "n"}, "status": {"conditions": conditions}});
            node(&serde_json::from_value(value).unwrap())
        };
        assert_eq!(
            of(&[("Ready", "True"), ("DiskPressure", "False")]).verdict,
            Verdict::Good
        );
        let full = of(&[("Ready", "True"), ("DiskPressure", "True")]);
        assert_eq!((full.verdict, full.remedy.is_some()), (Verdict::Bad, true));
        assert_eq!(of(&[("Ready", "Unknown")]).found, "n is not ready");
        assert_eq!(of(&[]).verdict, Verdict::Bad);
    }
}
