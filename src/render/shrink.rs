//! `dev.replicas`, `dev.storage`, `dev.accessModes`, `dev.loadBalancer`: what a developer's cluster has no use for or
//! cannot give, and what was changed of it.

use serde_json::{Value, json};

use super::object::{Object, text};
use super::{companions, pods, quantity};
use crate::stack::Dev;

/// The storage that a claim keeps when it is shrunk.
const ENOUGH: &str = "1Gi";

/// Modes that one node can give.
const SINGLE: [&str; 2] = ["ReadWriteOnce", "ReadWriteOncePod"];

/// What a Service of the type LoadBalancer may have and another may not.
const BALANCED: [&str; 6] = [
    "loadBalancerIP",
    "loadBalancerClass",
    "loadBalancerSourceRanges",
    "allocateLoadBalancerNodePorts",
    "externalTrafficPolicy",
    "healthCheckNodePort",
];

/// Adapts the objects as the stack asks; notes say each thing that was changed.
pub fn adapt(dev: &Dev, namespace: &str, objects: &mut Vec<Object>, notes: &mut Vec<String>) {
    let mut said = |what: &str, changes: Vec<String>| {
        if !changes.is_empty() {
            notes.push(format!("{what}: {}", changes.join(", ")));
        }
    };
    if let Some(most) = dev.replicas {
        let most = u64::from(most);
        let scalers = take_scalers(objects, most);
        let lowered = lower(objects, most, namespace, &scalers);
        said("replicas lowered", lowered.changes);
        said(
            "autoscalers left out, which would raise the replicas again",
            ids(&scalers),
        );
        let budgets = take_budgets(objects, most, namespace, &lowered.fewer);
        said(
            "disruption budgets left out, which fewer replicas cannot keep",
            ids(&budgets),
        );
    }
    if dev.shrink_storage {
        said("storage shrunk", claims(objects, shrink));
    }
    if dev.single_access {
        said("access modes", claims(objects, single));
    }
    if dev.cluster_ip {
        let all = objects.iter_mut().filter_map(unbalance);
        said(
            "Services of the type LoadBalancer made ClusterIP",
            all.collect(),
        );
    }
}

fn ids(objects: &[Object]) -> Vec<String> {
    objects.iter().map(Object::id).collect()
}

struct Lowered {
    changes: Vec<String>,
    /// Namespace and pod template of each workload that now has fewer pods.
    fewer: Vec<(String, Value)>,
}

fn lower(objects: &mut [Object], most: u64, namespace: &str, scalers: &[Object]) -> Lowered {
    let mut lowered = Lowered {
        changes: Vec::new(),
        fewer: Vec::new(),
    };
    for object in objects {
        let replicas = object
            .value
            .pointer("/spec/replicas")
            .and_then(Value::as_u64);
        let many = pods::template_path(object).is_some() && replicas.is_some_and(|it| it > most);
        if many {
            object.value["spec"]["replicas"] = json!(most);
            let before = replicas.unwrap_or_default();
            lowered
                .changes
                .push(format!("{} {before} → {most}", object.id()));
        }
        let scaled = scalers
            .iter()
            .any(|scaler| scales(scaler, object, namespace));
        if let Some(template) = pods::template(object).filter(|_| many || scaled) {
            let here = object.namespace_or(namespace).to_owned();
            lowered.fewer.push((here, template.clone()));
        }
    }
    lowered
}

/// Takes out what would raise the replicas beyond `most`.
fn take_scalers(objects: &mut Vec<Object>, most: u64) -> Vec<Object> {
    let beyond = |object: &mut Object| {
        let limit = match (object.group(), object.kind.as_str()) {
            ("autoscaling", "HorizontalPodAutoscaler") => "/spec/maxReplicas",
            ("keda.sh", "ScaledObject") => "/spec/maxReplicaCount",
            _ => return false,
        };
        let limit = object.value.pointer(limit).and_then(Value::as_u64);
        limit.is_none_or(|limit| limit > most)
    };
    objects.extract_if(.., beyond).collect()
}

fn scales(scaler: &Object, object: &Object, namespace: &str) -> bool {
    let target = |field: &str| text(&scaler.value, &format!("/spec/scaleTargetRef/{field}"));
    let kind = target("kind").unwrap_or_else(|| "Deployment".to_owned());
    kind == object.kind
        && target("name").as_ref() == Some(&object.name)
        && scaler.namespace_or(namespace) == object.namespace_or(namespace)
}

/// Takes out the budgets that would let no pod of these workloads go.
fn take_budgets(
    objects: &mut Vec<Object>,
    most: u64,
    namespace: &str,
    fewer: &[(String, Value)],
) -> Vec<Object> {
    let hold = |object: &mut Object| {
        let budget = object.group() == "policy" && object.kind == "PodDisruptionBudget";
        let spec = &object.value["spec"];
        let selector = &spec["selector"]["matchLabels"];
        let here = object.namespace_or(namespace);
        let theirs = |(there, template): &(String, Value)| {
            here == there && companions::selects(selector, template)
        };
        budget && holds_all(spec, most) && fewer.iter().any(theirs)
    };
    objects.extract_if(.., hold).collect()
}

/// Whether a budget lets none of so many pods go.
fn holds_all(spec: &Value, pods: u64) -> bool {
    let count = |value: &Value| match value {
        Value::String(text) => {
            let percent = text.strip_suffix('%')?.parse::<u64>().ok()?;
            Some((percent * pods).div_ceil(100))
        }
        other => other.as_u64(),
    };
    match (count(&spec["minAvailable"]), count(&spec["maxUnavailable"])) {
        (Some(least), _) => least >= pods,
        (None, unavailable) => unavailable == Some(0),
    }
}

/// Changes the claims that objects are or make; what was changed.
fn claims(objects: &mut [Object], change: fn(&mut Value) -> Option<String>) -> Vec<String> {
    let mut changes = Vec::new();
    for object in objects {
        let id = object.id();
        match (object.group(), object.kind.as_str()) {
            ("", "PersistentVolumeClaim") => {
                let said = object.value.get_mut("spec").and_then(change);
                changes.extend(said.map(|said| format!("{id} {said}")));
            }
            ("apps", "StatefulSet") => {
                let made = object.value.pointer_mut("/spec/volumeClaimTemplates");
                for claim in made.and_then(Value::as_array_mut).into_iter().flatten() {
                    let name = text(claim, "/metadata/name").unwrap_or_default();
                    let said = claim.get_mut("spec").and_then(change);
                    changes.extend(said.map(|said| format!("{name} of {id} {said}")));
                }
            }
            _ => {}
        }
    }
    changes
}

/// Bound to a volume that somebody made by hand: it is as it is.
fn by_hand(spec: &Value) -> bool {
    let said = |field: &str| spec[field].as_str();
    said("volumeName").is_some_and(|name| !name.is_empty()) || said("storageClassName") == Some("")
}

fn shrink(spec: &mut Value) -> Option<String> {
    let request = spec.pointer("/resources/requests/storage")?.clone();
    if by_hand(spec) || quantity::of(&request)? <= quantity::number(ENOUGH)? {
        return None;
    }
    spec["resources"]["requests"]["storage"] = json!(ENOUGH);
    // A request must not be above its limit, and a limit above the request is of no use here.
    if let Some(limits) = spec
        .pointer_mut("/resources/limits")
        .and_then(Value::as_object_mut)
    {
        limits.remove("storage");
    }
    let before = request
        .as_str()
        .map_or_else(|| request.to_string(), str::to_owned);
    Some(format!("{before} → {ENOUGH}"))
}

fn single(spec: &mut Value) -> Option<String> {
    if by_hand(spec) {
        return None;
    }
    let modes = spec.get("accessModes")?.as_array()?;
    let before: Vec<&str> = modes.iter().filter_map(Value::as_str).collect();
    let kept: Vec<&str> = before
        .iter()
        .copied()
        .filter(|mode| SINGLE.contains(mode))
        .collect();
    if kept.len() == before.len() {
        return None;
    }
    let after = match kept[..] {
        [] => vec![SINGLE[0]],
        _ => kept,
    };
    let said = format!("{} → {}", before.join(" and "), after.join(" and "));
    spec["accessModes"] = json!(after);
    Some(said)
}

fn unbalance(object: &mut Object) -> Option<String> {
    let service = object.group().is_empty() && object.kind == "Service";
    if !service || object.value.pointer("/spec/type")? != "LoadBalancer" {
        return None;
    }
    let spec = object.value.get_mut("spec")?.as_object_mut()?;
    spec.insert("type".into(), json!("ClusterIP"));
    for field in BALANCED {
        spec.remove(field);
    }
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        port.remove("nodePort");
    }
    Some(object.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_lets_no_pod_go_holds_all() {
        let table = [
            (json!({"minAvailable": 1}), 1, true),
            (json!({"minAvailable": 1}), 2, false),
            (json!({"minAvailable": "50%"}), 1, true),
            (json!({"minAvailable": "50%"}), 2, false),
            (json!({"minAvailable": "51%"}), 2, true),
            (json!({"minAvailable": 0}), 1, false),
            (json!({"maxUnavailable": 1}), 1, false),
            (json!({"maxUnavailable": "1%"}), 1, false),
            (json!({"maxUnavailable": 0}), 3, true),
            (json!({}), 1, false),
        ];
        for (spec, pods, holds) in table {
            assert_eq!(holds_all(&spec, pods), holds, "{spec} {pods}");
        }
    }

    #[test]
    fn claims_are_changed_where_that_is_of_use() {
        let of = |spec: Value, change: fn(&mut Value) -> Option<String>| {
            let mut spec = spec;
            let said = change(&mut spec);
            (said, spec)
        };
        let size = |size: Value| json!({"resources": {"requests": {"storage": size}}});
        let (said, after) = of(size(json!("100Gi")), shrink);
        assert_eq!(
            (said.as_deref(), after),
            (Some("100Gi → 1Gi"), size(json!("1Gi")))
        );
        for kept in [
            size(json!("1Gi")),
            size(json!("500M")),
            size(json!("much")),
            json!({"volumeName": "pv", "resources": {"requests": {"storage": "9Gi"}}}),
            json!({"storageClassName": "", "resources": {"requests": {"storage": "9Gi"}}}),
        ] {
            assert_eq!(of(kept.clone(), shrink), (None, kept));
        }
        let modes = |modes: &[&str]| json!({"accessModes": modes});
        let table: [(&[&str], Option<&str>); 4] = [
            (&["ReadWriteMany"], Some("ReadWriteMany → ReadWriteOnce")),
            (
                &["ReadOnlyMany", "ReadWriteOncePod"],
                Some("ReadOnlyMany and ReadWriteOncePod → ReadWriteOncePod"),
            ),
            (&["ReadWriteOnce"], None),
            (&["ReadWriteOnce", "ReadWriteOncePod"], None),
        ];
        for (before, expected) in table {
            assert_eq!(of(modes(before), single).0.as_deref(), expected);
        }
    }
}
