//! Pods that no node takes: what they ask for, and what the nodes have left.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use super::cluster::Cluster;
use crate::error::Failure;
use crate::render::quantity;

type Amounts = BTreeMap<String, Quantity>;

/// Says which resource lacks, or which taint or selector is in the way.
pub(super) async fn explain(
    cluster: &Cluster<'_>,
    pod: &Pod,
    message: &str,
    mut failure: Failure,
) -> Failure {
    let lacking = lacking(message);
    if !lacking.is_empty() {
        for node in cluster.nodes().await {
            let others = cluster.pods_on(&node.name_any()).await;
            for resource in &lacking {
                failure = failure.cause(shortage(pod, &node, &others, resource));
            }
        }
        let what = lacking.join(" and ");
        return failure.remedy(format!(
            "lower resources.requests of {what}, stop what else runs, or give the cluster more"
        ));
    }
    match in_the_way(message) {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

/// The resources that the scheduler misses, such as `cpu`.
fn lacking(message: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for part in message.split("Insufficient ").skip(1) {
        let end = part.find([',', ' ', ';']).unwrap_or(part.len());
        let name = part[..end].trim_end_matches('.');
        if !name.is_empty() && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// What else keeps a pod off the nodes.
fn in_the_way(message: &str) -> Option<&'static str> {
    let known = [
        (
            "disk-pressure",
            "the node's disk is nearly full: `llmdev prune` removes old images",
        ),
        (
            "memory-pressure",
            "the node's memory is nearly full: stop what else runs, or give it more",
        ),
        (
            "node-role.kubernetes.io/control-plane",
            "add a toleration for the control plane's taint, or a worker node",
        ),
        (
            "node(s) were unschedulable",
            "a node is cordoned: kubectl uncordon it",
        ),
        (
            "node(s) had untolerated taint",
            "add a toleration for the taint, or take it off the node",
        ),
        (
            "node affinity/selector",
            "nodeSelector or nodeAffinity asks for labels that no node has",
        ),
        (
            "pod anti-affinity",
            "podAntiAffinity asks for more nodes than there are",
        ),
        (
            "free ports for the requested pod ports",
            "another pod has the hostPort: use a Service and `forward` instead",
        ),
        (
            "volume node affinity conflict",
            "the volume is on another node: delete the claim, or let the pod go there",
        ),
        (
            "persistentvolumeclaim",
            "add the claim to the manifests, or correct its name",
        ),
    ];
    known
        .iter()
        .find(|(said, _)| message.contains(said))
        .map(|(_, remedy)| *remedy)
}

/// One sentence on one resource of one node.
fn shortage(pod: &Pod, node: &Node, others: &[Pod], resource: &str) -> String {
    let wanted = requests(pod, resource);
    let has = node
        .status
        .as_ref()
        .and_then(|status| status.allocatable.as_ref());
    let has = has.and_then(|all| all.get(resource)).map_or(0.0, amount);
    let taken: f64 = others.iter().map(|other| requests(other, resource)).sum();
    format!(
        "it asks for {} {resource}, node {} has {}, of which {} are free",
        in_words(resource, wanted),
        node.name_any(),
        in_words(resource, has),
        in_words(resource, (has - taken).max(0.0)),
    )
}

/// What the scheduler counts for a pod: its containers together, or its hungriest init container.
fn requests(pod: &Pod, resource: &str) -> f64 {
    let Some(spec) = pod.spec.as_ref() else {
        return 0.0;
    };
    let of = |requests: Option<&Amounts>| {
        requests
            .and_then(|all| all.get(resource))
            .map_or(0.0, amount)
    };
    let one = |container: &k8s_openapi::api::core::v1::Container| {
        of(container
            .resources
            .as_ref()
            .and_then(|all| all.requests.as_ref()))
    };
    let together: f64 = spec.containers.iter().map(one).sum();
    let hungriest = spec
        .init_containers
        .iter()
        .flatten()
        .map(one)
        .fold(0.0, f64::max);
    together.max(hungriest) + of(spec.overhead.as_ref())
}

/// A quantity as a number; what cannot be read is nothing.
fn amount(quantity: &Quantity) -> f64 {
    quantity::number(&quantity.0).unwrap_or(0.0)
}

/// Bytes in the unit that fits; other resources as numbers.
fn in_words(resource: &str, amount: f64) -> String {
    let bytes = matches!(resource, "memory" | "ephemeral-storage");
    match amount {
        _ if !bytes => {
            let text = format!("{amount:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        a if a >= 1_073_741_824.0 => format!("{:.1}Gi", a / 1_073_741_824.0),
        a => format!("{:.0}Mi", a / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedulers_message_is_read() {
        let message =
            "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory. no new claims";
        assert_eq!(lacking(message), ["cpu", "memory"]);
        assert_eq!(
            lacking("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
            ["nvidia.com/gpu"]
        );
        assert_eq!(lacking("Insufficient "), Vec::<&str>::new());
        assert!(
            in_the_way("1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }")
                .is_some_and(|said| said.contains("prune"))
        );
    }

    #[test]
    fn amounts_are_said_briefly() {
        assert_eq!(in_words("cpu", 1.85), "1.85");
        assert_eq!(in_words("cpu", 1000.0), "1000");
        assert_eq!(in_words("memory", 67_108_864.0), "64Mi");
        assert_eq!(in_words("memory", 1.5 * 1_073_741_824.0), "1.5Gi");
    }
}
