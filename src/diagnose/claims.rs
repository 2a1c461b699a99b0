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
    let mut failure =
        Failure::failed(format!("volume claim {name} is not bound")).cause(message.trim());
    let classes = case.cluster.storage_classes().await;
    let class = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.as_deref());
    match class.filter(|class| !classes.iter().any(|one| one == class)) {
        Some(class) if !class.is_empty() => {
            failure = failure.cause(near::in_words(class, &classes, "storage class")).remedy(
                "leave storageClassName out, so that the cluster's default is taken, or name one that exists",
            );
        }
        None if class.is_none() => {
            failure = failure.remedy(
                "the cluster has no default storage class: name one, or mark one as default",
            );
        }
        _ => (),
    }
    Some((0, failure))
}
