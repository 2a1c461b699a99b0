//! The picture of the cluster in which pods that are held back are not ready.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::view::View;

/// `view`, with the pods of these uids not ready.
pub fn masked(view: &Arc<View>, held_back: &BTreeSet<String>) -> Arc<View> {
    if held_back.is_empty() {
        return Arc::clone(view);
    }
    let mut masked = View::clone(view);
    for pod in masked.pods.values_mut() {
        if pod
            .metadata
            .uid
            .as_ref()
            .is_some_and(|uid| held_back.contains(uid))
        {
            unready(Arc::make_mut(pod));
        }
    }
    Arc::new(masked)
}

fn unready(pod: &mut Pod) {
    let conditions = pod
        .status
        .as_mut()
        .and_then(|status| status.conditions.as_mut());
    for condition in conditions
        .into_iter()
        .flatten()
        .filter(|one| one.type_ == "Ready")
    {
        condition.status = "False".to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::is_ready;

    #[test]
    fn only_who_is_held_back_is_not_ready() {
        let pod = |uid: &str| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": uid, "uid": uid, "labels": {"llmdev.dev/service": "api"}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }))
            .unwrap()
        };
        let mut view = View::default();
        for uid in ["a", "b"] {
            view.pods
                .insert(("ns".into(), uid.into()), Arc::new(pod(uid)));
        }
        let view = Arc::new(view);
        assert!(Arc::ptr_eq(&masked(&view, &BTreeSet::new()), &view));
        let masked = masked(&view, &BTreeSet::from(["b".to_owned()]));
        assert_eq!(masked.ready_pods_of("api").len(), 1);
        assert!(
            masked
                .pods
                .values()
                .zip(["a", "b"])
                .all(|(pod, uid)| is_ready(pod) == (uid == "a"))
        );
        assert_eq!(view.ready_pods_of("api").len(), 2);
    }
}
