//! Volume claims.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use super::problem::{Problem, Trouble};
use super::{State, scheduling};
use crate::view::View;

/// Bound, or not needed yet: a claim may be bound only once a pod uses it, so one that nobody uses is not waited for.
pub(super) fn claim(view: &View, claim: &PersistentVolumeClaim) -> State {
    let name = claim.name_any();
    match claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
    {
        Some("Bound") => State::Ready,
        Some("Lost") => State::failed(Problem {
            object: format!("volume claim {name}"),
            pod: None,
            container: None,
            trouble: Trouble::VolumeLost,
        }),
        _ if used(view, claim, &name) => {
            State::Waiting(format!("waiting for volume claim {name} to be bound"))
        }
        _ => State::Ready,
    }
}

fn used(view: &View, claim: &PersistentVolumeClaim, name: &str) -> bool {
    view.pods.values().any(|pod| {
        pod.metadata.namespace == claim.metadata.namespace
            && pod.metadata.deletion_timestamp.is_none()
            && scheduling::claims_of(pod).any(|used| used == name)
    })
}
