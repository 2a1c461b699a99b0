//! Volume claims that are not bound.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use super::{Case, Ranked, near};
use crate::error::Failure;
use crate::view::service_of;

/// A finding for each claim of the service that the cluster says something bad of.
pub(super) async fn findings(case: &Case<'_>) -> Vec<Ranked> {
    let mut found = Vec::new();
    for claim in case.view.claims.values() {
        let pending = claim.status.as_ref().and_then(|one| one.phase.as_deref()) == Some("Pending");
        if pending && service_of(&claim.metadata) == Some(&case.target.service) {
            found.extend(finding(case, claim).await);
        }
    }
    found
}

async fn finding(case: &Case<'_>, claim: &Arc<PersistentVolumeClaim>) -> Option<Ranked> {
    let name = claim.name_any();
    let namespace = claim.namespace().unwrap_or_default();
    let events = case
        .cluster
        .events_of(&namespace, claim.metadata.uid.as_deref()?)
        .await;
    // `FailedBinding` is no warning, although it is one.
    let bad = events.into_iter().filter(|event| {
        matches!(
            event.reason.as_deref(),
            Some("ProvisioningFailed" | "FailedBinding")
        )
    });
    let message = bad.filter_map(|event| event.message).next_back()?;
    let classes = case.cluster.storage_classes().await;
    let class = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.as_deref());
    let unknown = class.filter(|class| !classes.iter().any(|one| one == class));
    let failure = match unknown.filter(|class| !class.is_empty()) {
        // In the words in which the service is said to have failed.
        Some(class) => Failure::failed(format!(
            "volume claim {name}: the cluster has no storage class {class}"
        ))
        .cause(near::in_words(class, &classes, "storage class"))
        .remedy("leave storageClassName out, so that the cluster's default is taken, or name one that exists"),
        None => {
            let failure = Failure::failed(format!("volume claim {name} is not bound"));
            let failure = failure.cause(message.trim());
            match class {
                Some(_) => failure,
                None => failure.remedy(
                    "the cluster has no default storage class: name one, or mark one as default",
                ),
            }
        }
    };
    Some((0, failure))
}
