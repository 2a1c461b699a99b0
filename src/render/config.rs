//! Makes pods follow their configuration: a digest of the ConfigMaps and Secrets that a pod template refers to
//! stands on it as an annotation, so that a change of one rolls the pods that read it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::object::{Object, child};
use super::pods;

/// The annotation on pod templates.
pub const ANNOTATION: &str = "llmdev.dev/config";

/// Namespace, kind and name.
type Key = (String, &'static str, String);

/// Annotates every pod template that refers to a ConfigMap or Secret of the render.
pub fn annotate(objects: &mut [Object], namespace: &str) {
    let digests = digests(objects, namespace);
    for object in objects {
        // A bare pod cannot roll; it would have to be deleted for a comment in a ConfigMap.
        if object.kind == "Pod" {
            continue;
        }
        let own_namespace = object.namespace_or(namespace).to_owned();
        let Some(template) = pods::template_mut(object) else {
            continue;
        };
        let Some(digest) = digest_of(template, &own_namespace, &digests) else {
            continue;
        };
        if let Some(Value::Object(annotations)) =
            child(template, "metadata").and_then(|metadata| child(metadata, "annotations"))
        {
            annotations.insert(ANNOTATION.into(), Value::from(digest));
        }
    }
}

fn digests(objects: &[Object], namespace: &str) -> BTreeMap<Key, [u8; 32]> {
    let mut digests = BTreeMap::new();
    for object in objects {
        let kind = match (object.group(), object.kind.as_str()) {
            ("", "ConfigMap") => "ConfigMap",
            ("", "Secret") => "Secret",
            _ => continue,
        };
        let mut digest = Sha256::new();
        for field in ["data", "binaryData", "stringData"] {
            let sorted: BTreeMap<_, _> = object
                .value
                .get(field)
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .collect();
            digest.update(serde_json::to_vec(&sorted).unwrap_or_default());
        }
        let key = (
            object.namespace_or(namespace).to_owned(),
            kind,
            object.name.clone(),
        );
        digests.insert(key, digest.finalize().into());
    }
    digests
}

fn digest_of(
    template: &Value,
    namespace: &str,
    digests: &BTreeMap<Key, [u8; 32]>,
) -> Option<String> {
    let mut all = Sha256::new();
    let mut any = false;
    for (kind, name) in references(template) {
        if let Some(digest) = digests.get(&(namespace.to_owned(), kind, name)) {
            all.update(digest);
            any = true;
        }
    }
    any.then(|| {
        all.finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    })
}

/// The ConfigMaps and Secrets that a pod template takes environment or files from.
pub fn references(template: &Value) -> BTreeSet<(&'static str, String)> {
    let mut found = BTreeSet::new();
    let Some(spec) = template.get("spec") else {
        return found;
    };
    for container in pods::containers(template) {
        for env in list(container, "env") {
            name(
                &mut found,
                "ConfigMap",
                env.pointer("/valueFrom/configMapKeyRef/name"),
            );
            name(
                &mut found,
                "Secret",
                env.pointer("/valueFrom/secretKeyRef/name"),
            );
        }
        for source in list(container, "envFrom") {
            name(
                &mut found,
                "ConfigMap",
                source.pointer("/configMapRef/name"),
            );
            name(&mut found, "Secret", source.pointer("/secretRef/name"));
        }
    }
    for volume in list(spec, "volumes") {
        name(&mut found, "ConfigMap", volume.pointer("/configMap/name"));
        name(&mut found, "Secret", volume.pointer("/secret/secretName"));
        for source in volume
            .get("projected")
            .into_iter()
            .flat_map(|it| list(it, "sources"))
        {
            name(&mut found, "ConfigMap", source.pointer("/configMap/name"));
            name(&mut found, "Secret", source.pointer("/secret/name"));
        }
    }
    found
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn name(found: &mut BTreeSet<(&'static str, String)>, kind: &'static str, value: Option<&Value>) {
    if let Some(name) = value.and_then(Value::as_str) {
        found.insert((kind, name.to_owned()));
    }
}
