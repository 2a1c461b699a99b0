//! Sets the owner's labels: on every object and on what objects make (pods, Jobs, claims), never on a selector.

use std::collections::BTreeMap;

use serde_json::Value;

use super::object::{Object, child};
use super::pods;
use crate::owner::Owner;
use crate::stack::Stack;

/// Labels all objects.
pub fn set(stack: &Stack, owner: &Owner, objects: &mut [Object]) {
    for object in objects {
        let service = object.service.map(|id| stack.service(id).name.as_str());
        let labels = owner.labels(service);
        label(&mut object.value, &labels);
        if let Some(template) = pods::template_mut(object) {
            label(template, &labels);
        }
        match object.kind.as_str() {
            "CronJob" => at(object, "/spec/jobTemplate", &labels),
            "StatefulSet" => claims(object, &labels),
            _ => {}
        }
    }
}

fn at(object: &mut Object, path: &str, labels: &BTreeMap<String, String>) {
    if let Some(value) = object.value.pointer_mut(path) {
        label(value, labels);
    }
}

/// So that `down --volumes` finds the claims that a StatefulSet made.
fn claims(object: &mut Object, labels: &BTreeMap<String, String>) {
    let claims = object.value.pointer_mut("/spec/volumeClaimTemplates");
    for claim in claims.and_then(Value::as_array_mut).into_iter().flatten() {
        label(claim, labels);
    }
}

fn label(value: &mut Value, labels: &BTreeMap<String, String>) {
    let Some(Value::Object(own)) =
        child(value, "metadata").and_then(|metadata| child(metadata, "labels"))
    else {
        return;
    };
    for (key, label) in labels {
        own.insert(key.clone(), Value::from(label.as_str()));
    }
}
