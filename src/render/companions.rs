//! Which objects go with a service's workload, and with no other.

use serde_json::Value;

use super::object::{Object, text};
use super::{config, pods};
use crate::stack::{ServiceId, Stack};

/// Marks what is a service's alone: what selects its pods, and what only its pods use.
pub fn mark(stack: &Stack, objects: &mut [Object]) {
    let marks: Vec<_> = objects
        .iter()
        .map(|object| {
            object
                .service
                .or_else(|| companion(object, objects, &stack.namespace))
        })
        .collect();
    for (object, mark) in objects.iter_mut().zip(marks) {
        object.service = mark;
    }
}

fn companion(object: &Object, objects: &[Object], namespace: &str) -> Option<ServiceId> {
    let neighbours = || {
        let here = object.namespace_or(namespace);
        objects
            .iter()
            .filter(move |other| other.namespace_or(namespace) == here)
    };
    let uses = |test: &dyn Fn(&Object, &Value) -> bool| {
        let users =
            neighbours().filter(|other| pods::template(other).is_some_and(|it| test(other, it)));
        single(users.map(|user| user.service))
    };
    let name = &object.name;
    match (object.group(), object.kind.as_str()) {
        ("", "Service") => {
            let selector = object.value.pointer("/spec/selector")?;
            uses(&|_, template| selects(selector, template))
        }
        ("policy", "PodDisruptionBudget") => {
            let selector = object.value.pointer("/spec/selector/matchLabels")?;
            uses(&|_, template| selects(selector, template))
        }
        ("autoscaling", "HorizontalPodAutoscaler") => {
            let target = object.value.pointer("/spec/scaleTargetRef")?;
            uses(&|other, _| {
                target.get("kind").and_then(Value::as_str) == Some(&other.kind)
                    && target.get("name").and_then(Value::as_str) == Some(&other.name)
            })
        }
        ("", "ConfigMap") => {
            uses(&|_, template| config::references(template).contains(&("ConfigMap", name.clone())))
        }
        ("", "Secret") => {
            uses(&|_, template| config::references(template).contains(&("Secret", name.clone())))
        }
        ("", "PersistentVolumeClaim") => uses(&|_, template| claims(template, name)),
        ("", "ServiceAccount") => {
            uses(&|_, template| text(template, "/spec/serviceAccountName").as_ref() == Some(name))
        }
        _ => None,
    }
}

/// The service of all of them, if it is the same.
fn single(mut users: impl Iterator<Item = Option<ServiceId>>) -> Option<ServiceId> {
    let first = users.next()??;
    users.all(|other| other == Some(first)).then_some(first)
}

/// Whether a selector's labels are all on a pod template.
pub fn selects(selector: &Value, template: &Value) -> bool {
    let Some(wanted) = selector.as_object().filter(|wanted| !wanted.is_empty()) else {
        return false;
    };
    let labels = template.pointer("/metadata/labels");
    wanted
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

fn claims(template: &Value, name: &str) -> bool {
    let volumes = template.pointer("/spec/volumes").and_then(Value::as_array);
    volumes
        .into_iter()
        .flatten()
        .any(|volume| text(volume, "/persistentVolumeClaim/claimName").as_deref() == Some(name))
}
