//! What was applied last, so that an object which neither the manifests nor anybody in the cluster has changed since
//! need not be sent again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kube::core::ObjectMeta;
use serde_json::Value;

use super::Target;

/// By object. Lost with the process: then everything is sent once.
#[derive(Default)]
pub struct Known(Mutex<HashMap<Target, Last>>);

/// An object as it was right after it was applied.
struct Last {
    body: blake3::Hash,
    uid: Option<String>,
    version: Option<String>,
    generation: Option<i64>,
}

impl Known {
    /// Remembers what the cluster answered to a body.
    pub fn record(&self, target: &Target, body: &Value, after: &ObjectMeta) {
        let last = Last {
            body: digest(body),
            uid: after.uid.clone(),
            version: after.resource_version.clone(),
            generation: after.generation,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(target.clone(), last);
    }

    /// Whether sending this body to the object that has this metadata would change nothing.
    pub fn is_current(&self, target: &Target, body: &Value, live: &ObjectMeta) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = known.get(target) else {
            return false;
        };
        if last.uid != live.uid || last.body != digest(body) {
            return false;
        }
        last.version == live.resource_version
            // Of a workload the status changes all the time. Its generation stands for all but the metadata.
            || (last.generation.is_some() && last.generation == live.generation && has(live, body))
    }
}

fn digest(body: &Value) -> blake3::Hash {
    blake3::hash(&serde_json::to_vec(body).unwrap_or_default())
}

/// Whether the live metadata says all that the body's says.
fn has(live: &ObjectMeta, body: &Value) -> bool {
    let metadata = body.get("metadata").and_then(Value::as_object);
    metadata
        .into_iter()
        .flatten()
        .all(|(field, value)| match field.as_str() {
            "name" | "namespace" => true,
            "labels" => contains(live.labels.as_ref(), value),
            "annotations" => contains(live.annotations.as_ref(), value),
            _ => false,
        })
}

fn contains(live: Option<&std::collections::BTreeMap<String, String>>, wanted: &Value) -> bool {
    let mut wanted = wanted.as_object().into_iter().flatten();
    wanted.all(|(key, value)| {
        live.and_then(|live| live.get(key)).map(String::as_str) == value.as_str()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_difference_counts() {
        let target = Target {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: None,
            name: "x".into(),
        };
        let live = |text: Value| serde_json::from_value::<ObjectMeta>(text).unwrap();
        let body = json!({"metadata": {"name": "x", "labels": {"a": "1"}}, "spec": {}});
        let first = live(json!({"uid": "u", "resourceVersion": "5", "generation": 1}));
        let known = Known::default();
        assert!(!known.is_current(&target, &body, &first));
        known.record(&target, &body, &first);
        assert!(known.is_current(&target, &body, &first));
        let table = [
            (
                "status",
                json!({"uid": "u", "resourceVersion": "6", "generation": 1, "labels": {"a": "1", "b": "2"}}),
                true,
            ),
            (
                "label",
                json!({"uid": "u", "resourceVersion": "6", "generation": 1, "labels": {"a": "2"}}),
                false,
            ),
            (
                "label gone",
                json!({"uid": "u", "resourceVersion": "6", "generation": 1}),
                false,
            ),
            (
                "spec",
                json!({"uid": "u", "resourceVersion": "6", "generation": 2, "labels": {"a": "1"}}),
                false,
            ),
            (
                "made anew",
                json!({"uid": "v", "resourceVersion": "5", "generation": 1, "labels": {"a": "1"}}),
                false,
            ),
        ];
        for (what, metadata, same) in table {
            assert_eq!(
                known.is_current(&target, &body, &live(metadata)),
                same,
                "{what}"
            );
        }
        let other = json!({"metadata": {"name": "x", "labels": {"a": "1"}}, "spec": {"b": 1}});
        assert!(!known.is_current(&target, &other, &first));
        // Without a generation, every change of the object is one.
        let map = live(json!({"uid": "u", "resourceVersion": "5", "labels": {"a": "1"}}));
        known.record(&target, &body, &map);
        let touched = live(json!({"uid": "u", "resourceVersion": "6", "labels": {"a": "1"}}));
        assert!(!known.is_current(&target, &body, &touched));
    }
}
