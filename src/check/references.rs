//! ConfigMaps and Secrets that pods read, and the keys in them.

use serde_json::Value;

use super::Findings;
use super::field::Field;
use super::scene::{Scene, flag, items, text};
use crate::render::Object;

/// A place that reads a ConfigMap or a Secret.
struct Reference<'a> {
    owner: &'a Object,
    namespace: &'a str,
    field: Field,
    kind: &'static str,
    name: &'a str,
    /// The key, and its field below `field`; none: all of it.
    key: Option<(&'a str, Field)>,
}

/// `missing-key`.
pub fn keys<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for reference in references(scene) {
        let Some((key, field)) = reference.key else {
            continue;
        };
        let object = scene.find(reference.kind, reference.namespace, reference.name);
        if object.is_some_and(|object| !has_key(object, key)) {
            let message = format!("the {} {} has no key {key}", reference.kind, reference.name);
            let mend = match reference.kind {
                "ConfigMap" => format!("data:\n  {key}: VALUE # in the ConfigMap"),
                _ => format!("stringData:\n  {key}: VALUE # in the Secret"),
            };
            found.add(reference.owner, field, message, &mend);
        }
    }
}

/// `missing-config`.
pub fn objects<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mut said: Vec<(&Object, &str, &str)> = Vec::new();
    for reference in references(scene) {
        let Reference {
            owner,
            namespace,
            kind,
            name,
            ..
        } = reference;
        let known =
            scene.find(kind, namespace, name).is_some() || made(scene, kind, namespace, name);
        if known
            || said
                .iter()
                .any(|it| std::ptr::eq(it.0, owner) && it.1 == kind && it.2 == name)
        {
            continue;
        }
        said.push((owner, kind, name));
        let message = format!("the {kind} {name} is not among the objects");
        let mend = format!("apiVersion: v1\nkind: {kind}\nmetadata: {{ name: {name} }}");
        found.add(owner, reference.field, message, &mend);
    }
}

fn has_key(object: &Object, key: &str) -> bool {
    ["data", "stringData", "binaryData"].iter().any(|list| {
        object
            .value
            .get(list)
            .is_some_and(|it| it.get(key).is_some())
    })
}

/// What something in the cluster makes of another object, or puts into every namespace.
fn made(scene: &Scene<'_>, kind: &str, namespace: &str, name: &str) -> bool {
    if kind == "ConfigMap" {
        return matches!(name, "kube-root-ca.crt" | "openshift-service-ca.crt");
    }
    let named = |object: &Object, pointer: &str| {
        text(&object.value, pointer).unwrap_or(&object.name) == name
    };
    scene
        .objects
        .iter()
        .filter(|object| scene.namespace(object) == namespace)
        .any(|object| match object.kind.as_str() {
            "SealedSecret" => named(object, "/spec/template/metadata/name"),
            "ExternalSecret" => named(object, "/spec/target/name"),
            "Certificate" => named(object, "/spec/secretName"),
            "SecretProviderClass" => items(&object.value["spec"], "secretObjects")
                .any(|it| text(it, "/secretName") == Some(name)),
            _ => false,
        })
}

/// All that pods need; what is optional they do not.
fn references<'a>(scene: &Scene<'a>) -> Vec<Reference<'a>> {
    let mut all = Vec::new();
    for pod in &scene.pods {
        let mut add = |field: Field,
                       kind,
                       value: Option<&'a Value>,
                       name: &str,
                       keys: Vec<(&'a str, Field)>| {
            let Some(value) = value.filter(|it| flag(it, "/optional") != Some(true)) else {
                return;
            };
            let Some(name) = value.get(name).and_then(Value::as_str) else {
                return;
            };
            let (owner, namespace) = (pod.object, pod.namespace);
            let keys: Vec<_> = if keys.is_empty() {
                vec![None]
            } else {
                keys.into_iter().map(Some).collect()
            };
            all.extend(keys.into_iter().map(|key| Reference {
                owner,
                namespace,
                field: field.clone(),
                kind,
                name,
                key,
            }));
        };
        for container in pod.containers() {
            for (index, env) in items(container.value, "env").enumerate() {
                for (way, kind) in [("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")] {
                    let value = env.get("valueFrom").and_then(|it| it.get(way));
                    let field = container
                        .field(pod)
                        .dot("env")
                        .item(index)
                        .dot("valueFrom")
                        .dot(way);
                    let key = value.and_then(|it| text(it, "/key"));
                    let keys = key.map(|key| (key, field.clone().dot("key")));
                    add(field, kind, value, "name", keys.into_iter().collect());
                }
            }
            for (index, from) in items(container.value, "envFrom").enumerate() {
                for (way, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
                    let field = container.field(pod).dot("envFrom").item(index).dot(way);
                    add(field, kind, from.get(way), "name", vec![]);
                }
            }
        }
        for (index, volume) in items(pod.spec, "volumes").enumerate() {
            let field = pod.spec_field().dot("volumes").item(index);
            for (way, kind, name) in [
                ("configMap", "ConfigMap", "name"),
                ("secret", "Secret", "secretName"),
            ] {
                let (value, field) = (volume.get(way), field.clone().dot(way));
                add(field.clone(), kind, value, name, listed(value, &field));
            }
            let projected = volume.get("projected").unwrap_or(&Value::Null);
            for (at, source) in items(projected, "sources").enumerate() {
                for (way, kind) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
                    let (value, field) = (
                        source.get(way),
                        field.clone().dot("projected.sources").item(at).dot(way),
                    );
                    add(field.clone(), kind, value, "name", listed(value, &field));
                }
            }
        }
    }
    all
}

/// The keys that `items` of a volume names.
fn listed<'a>(value: Option<&'a Value>, field: &Field) -> Vec<(&'a str, Field)> {
    let named = value
        .into_iter()
        .flat_map(|value| items(value, "items"))
        .enumerate();
    named
        .filter_map(|(index, item)| {
            Some((
                text(item, "/key")?,
                field.clone().dot("items").item(index).dot("key"),
            ))
        })
        .collect()
}
