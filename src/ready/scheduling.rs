//! Whether a pod has found its node.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;

use super::pod::condition;

/// Whether a pod has found its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// It has.
    Found,
    /// It may.
    Waiting(String),
    /// No node takes it, for the reason that the scheduler says.
    None(String),
}

/// What the scheduler says while the reason may go away by itself, and what that is in words.
const PASSING: &[(&str, &str)] = &[
    (
        "unbound immediate PersistentVolumeClaims",
        "waiting for volume claim {claims} to be bound",
    ),
    (
        "waiting for ephemeral volume controller",
        "waiting for volume claim {claims} to be bound",
    ),
    ("node.kubernetes.io/not-ready", "the node is not ready yet"),
    (
        "node.kubernetes.io/unreachable",
        "the node is not reachable at the moment",
    ),
    (
        "node.cloudprovider.kubernetes.io/uninitialized",
        "the node is not ready yet",
    ),
    (
        "no nodes available to schedule pods",
        "the cluster has no node yet",
    ),
];

/// How long a pod may lack room before that is taken for lasting: in a rollout the older pod makes room when it ends.
const ROOM: std::time::Duration = std::time::Duration::from_secs(20);

/// When it is known whether a pod that lacks room lacks it for good.
pub(super) fn settles_at(pod: &Pod) -> Option<Timestamp> {
    let scheduled = condition(pod, "PodScheduled").filter(|scheduled| lacks_room(scheduled))?;
    let since = scheduled.last_transition_time.as_ref()?.0;
    since.checked_add(ROOM).ok()
}

fn lacks_room(scheduled: &PodCondition) -> bool {
    let message = scheduled.message.as_deref().unwrap_or_default();
    scheduled.status == "False" && message.contains("Insufficient")
}

/// Whether the pod has found its node.
pub(super) fn state(pod: &Pod, now: Timestamp) -> Place {
    let spec = pod.spec.as_ref();
    if spec.is_some_and(|spec| spec.node_name.is_some()) {
        return Place::Found;
    }
    let Some(scheduled) = condition(pod, "PodScheduled") else {
        return soon();
    };
    if scheduled.status == "True" {
        return Place::Found;
    }
    let message = scheduled.message.clone().unwrap_or_default();
    if let Some((_, words)) = PASSING.iter().find(|(said, _)| message.contains(said)) {
        return Place::Waiting(words.replace("{claims}", &claims(pod)));
    }
    if settles_at(pod).is_some_and(|then| now < then) {
        return Place::Waiting("no node has room for the pod yet".to_owned());
    }
    match scheduled.reason.as_deref() {
        Some("Unschedulable") => Place::None(message),
        Some("SchedulingGated") => Place::Waiting("pod is held by a scheduling gate".to_owned()),
        _ => soon(),
    }
}

fn soon() -> Place {
    Place::Waiting("pod is being scheduled".to_owned())
}

/// The names of the claims that a pod mounts.
pub(super) fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .map(|one| &*one.claim_name)
}

fn claims(pod: &Pod) -> String {
    claims_of(pod).collect::<Vec<_>>().join(", ")
}
