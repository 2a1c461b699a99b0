//! `fast_rollout`: shortens what holds a rollout in development, and says each thing it changed.

use serde_json::{Value, json};

use super::object::{Object, child};
use super::{Rendered, pods};
use crate::stack::Stack;

/// Longest time that a pod is given to end, in seconds.
const GRACE: i64 = 2;

/// Adapts the workloads of the services that ask for it.
pub fn adapt(stack: &Stack, rendered: &mut Rendered) {
    for (id, index) in &rendered.workloads {
        let service = stack.service(*id);
        if !service.fast_rollout {
            continue;
        }
        let mut changes = Vec::new();
        workload(&mut rendered.objects[*index], &mut changes);
        if !changes.is_empty() {
            let changes = changes.join(", ");
            rendered
                .notes
                .push(format!("fast rollout of {}: {changes}", service.name));
        }
    }
}

fn workload(object: &mut Object, changes: &mut Vec<String>) {
    if object.kind == "Deployment" {
        strategy(&mut object.value, changes);
    }
    let seconds = object
        .value
        .pointer("/spec/minReadySeconds")
        .and_then(Value::as_i64);
    if seconds.is_some_and(|seconds| seconds > 0) {
        object.value["spec"]["minReadySeconds"] = json!(0);
        changes.push(format!(
            "minReadySeconds {} → 0",
            seconds.unwrap_or_default()
        ));
    }
    let Some(template) = pods::template_mut(object) else {
        return;
    };
    for container in pods::containers_mut(template) {
        let name = container
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned();
        for field in ["startupProbe", "readinessProbe"] {
            if let Some(probe) = container.get_mut(field).filter(|probe| probe.is_object()) {
                quicken(probe, &format!("{name}.{field}"), changes);
            }
        }
    }
    let grace = template
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64);
    let grace = grace.unwrap_or(30);
    if grace > GRACE
        && let Some(spec) = child(template, "spec")
    {
        spec["terminationGracePeriodSeconds"] = json!(GRACE);
        changes.push(format!("terminationGracePeriodSeconds {grace} → {GRACE}"));
    }
}

/// The new version starts beside the old one, which serves until then.
fn strategy(value: &mut Value, changes: &mut Vec<String>) {
    let kind = value.pointer("/spec/strategy/type").and_then(Value::as_str);
    // Recreate is chosen where two must not run at once, as with a volume for one.
    if kind == Some("Recreate") {
        return;
    }
    let wanted = json!({"maxSurge": 1, "maxUnavailable": 0});
    if value.pointer("/spec/strategy/rollingUpdate") == Some(&wanted) {
        return;
    }
    if let Some(spec) = child(value, "spec") {
        spec["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": wanted});
        changes.push("maxSurge 1, maxUnavailable 0".to_owned());
    }
}

/// Asks each second from the start, and for as long as before in total.
fn quicken(probe: &mut Value, name: &str, changes: &mut Vec<String>) {
    let number =
        |field: &str, default: i64| probe.get(field).and_then(Value::as_i64).unwrap_or(default);
    let (delay, period) = (
        number("initialDelaySeconds", 0),
        number("periodSeconds", 10),
    );
    if delay == 0 && period <= 1 {
        return;
    }
    let failures = number("failureThreshold", 3);
    let patience = delay.saturating_add(period.max(1).saturating_mul(failures));
    probe["initialDelaySeconds"] = json!(0);
    probe["periodSeconds"] = json!(1);
    probe["failureThreshold"] = json!(patience);
    changes.push(format!(
        "{name} after {delay} s every {period} s → at once every 1 s"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        Object {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "x".into(),
            namespace: None,
            value,
            service: None,
            origin: String::new(),
            place: Default::default(),
        }
    }

    #[test]
    fn patience_does_not_shrink_and_a_second_time_changes_nothing() {
        let mut object = object(json!({"spec": {"minReadySeconds": 5, "template": {"spec": {
            "terminationGracePeriodSeconds": 60,
            "containers": [{"name": "c",
                "readinessProbe": {"initialDelaySeconds": 20, "periodSeconds": 5, "failureThreshold": 4},
                "livenessProbe": {"initialDelaySeconds": 20}}],
        }}}}));
        let mut changes = Vec::new();
        workload(&mut object, &mut changes);
        insta::assert_snapshot!(changes.join("\n"), @r"
        maxSurge 1, maxUnavailable 0
        minReadySeconds 5 → 0
        c.readinessProbe after 20 s every 5 s → at once every 1 s
        terminationGracePeriodSeconds 60 → 2
        ");
        let container = &object.value["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(
            container["readinessProbe"],
            json!({"initialDelaySeconds": 0, "periodSeconds": 1, "failureThreshold": 40})
        );
        assert_eq!(
            container["livenessProbe"],
            json!({"initialDelaySeconds": 20})
        );
        changes.clear();
        workload(&mut object, &mut changes);
        assert!(changes.is_empty(), "{changes:?}");
    }

    #[test]
    fn recreate_stays() {
        let mut object =
            object(json!({"spec": {"strategy": {"type": "Recreate"}, "template": {"spec": {}}}}));
        workload(&mut object, &mut Vec::new());
        assert_eq!(
            object.value["spec"]["strategy"],
            json!({"type": "Recreate"})
        );
    }
}
