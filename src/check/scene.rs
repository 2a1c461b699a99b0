//! All objects, arranged so that rules find what belongs together.

use std::collections::HashMap;

use serde_json::Value;

use super::field::Field;
use crate::render::{Object, pods};

/// What rules look at.
pub struct Scene<'a> {
    /// In the order of the render.
    pub objects: &'a [Object],
    /// All that run pods.
    pub pods: Vec<Pod<'a>>,
    default_namespace: &'a str,
    kinds: HashMap<&'a str, Vec<&'a Object>>,
    /// By kind, namespace and name; of kinds that several API groups have, the last one.
    names: HashMap<(&'a str, &'a str, &'a str), &'a Object>,
}

/// An object that runs pods, and their template.
pub struct Pod<'a> {
    /// The workload.
    pub object: &'a Object,
    /// Where it runs.
    pub namespace: &'a str,
    /// Has the pods' `metadata` and `spec`.
    pub template: &'a Value,
    /// The pods' spec.
    pub spec: &'a Value,
    path: &'static str,
}

/// A container of a pod template.
pub struct Container<'a> {
    /// Its name, `?` where it has none.
    pub name: &'a str,
    /// All of it.
    pub value: &'a Value,
    /// Ends before the others start.
    pub init: bool,
    list: &'static str,
    index: usize,
}

impl<'a> Scene<'a> {
    /// Arranges objects; those that name no namespace are in `namespace`.
    pub fn new(objects: &'a [Object], namespace: &'a str) -> Self {
        let mut scene = Scene {
            objects,
            pods: Vec::new(),
            default_namespace: namespace,
            kinds: HashMap::new(),
            names: HashMap::new(),
        };
        for object in objects {
            let namespace = scene.namespace(object);
            let name = (object.kind.as_str(), namespace, object.name.as_str());
            scene.names.insert(name, object);
            scene.kinds.entry(&object.kind).or_default().push(object);
            scene.pods.extend(Pod::of(object, namespace));
        }
        scene
    }

    /// Where an object is; of one that is in no namespace it says nothing.
    pub fn namespace(&self, object: &'a Object) -> &'a str {
        object
            .namespace
            .as_deref()
            .unwrap_or(self.default_namespace)
    }

    /// All objects of a kind.
    pub fn kind(&self, group: &'static str, kind: &str) -> impl Iterator<Item = &'a Object> {
        let all = self.kinds.get(kind).map_or(&[][..], Vec::as_slice);
        all.iter()
            .copied()
            .filter(move |object| object.group() == group)
    }

    /// The object of that name.
    pub fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&'a Object> {
        self.names.get(&(kind, namespace, name)).copied()
    }

    /// The pods whose labels a `matchLabels` mapping names.
    pub fn labelled(&self, namespace: &str, labels: &Value) -> Vec<&Pod<'a>> {
        let pods = self.pods.iter();
        pods.filter(|pod| pod.namespace == namespace && has_labels(pod.labels(), labels))
            .collect()
    }

    /// The containers of all pods.
    pub fn containers(&self) -> impl Iterator<Item = (&Pod<'a>, Container<'a>)> {
        let pods = self.pods.iter();
        pods.flat_map(|pod| pod.containers().map(move |container| (pod, container)))
    }
}

impl<'a> Pod<'a> {
    fn of(object: &'a Object, namespace: &'a str) -> Option<Self> {
        let path = pods::template_path(object)?;
        let template = object.value.pointer(path)?;
        Some(Pod {
            object,
            namespace,
            template,
            spec: template.get("spec")?,
            path,
        })
    }

    /// Where the template is.
    pub fn field(&self) -> Field {
        Field::of(&self.path.replace('/', "."))
    }

    /// Where the pods' spec is.
    pub fn spec_field(&self) -> Field {
        self.field().dot("spec")
    }

    /// The pods' labels.
    pub fn labels(&self) -> &'a Value {
        self.template
            .pointer("/metadata/labels")
            .unwrap_or(&Value::Null)
    }

    /// Whether its pods are to run on and on.
    pub fn runs_on(&self) -> bool {
        !matches!(self.object.kind.as_str(), "Job" | "CronJob")
    }

    /// Its containers; ephemeral ones are nobody's to configure.
    pub fn containers(&self) -> impl Iterator<Item = Container<'a>> + use<'a> {
        let spec = self.spec;
        let lists = ["initContainers", "containers"].into_iter();
        lists.flat_map(move |list| {
            let containers = items(spec, list).enumerate();
            containers.map(move |(index, value)| Container {
                name: text(value, "/name").unwrap_or("?"),
                value,
                // One that is restarted always stays beside the others.
                init: list == "initContainers" && text(value, "/restartPolicy") != Some("Always"),
                list,
                index,
            })
        })
    }
}

impl Container<'_> {
    /// Where it is.
    pub fn field(&self, pod: &Pod<'_>) -> Field {
        pod.spec_field().dot(self.list).item(self.index)
    }
}

/// Whether labels have all those of a `matchLabels` mapping.
pub fn has_labels(labels: &Value, wanted: &Value) -> bool {
    let wanted = wanted.as_object().into_iter().flatten();
    wanted
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a label selector, with its expressions, picks these labels.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let expression = |one: &Value| {
        let label = text(one, "/key").and_then(|key| labels.get(key));
        let listed = || items(one, "values").any(|value| Some(value) == label);
        match text(one, "/operator") {
            Some("In") => listed(),
            Some("NotIn") => !listed(),
            Some("Exists") => label.is_some(),
            Some("DoesNotExist") => label.is_none(),
            _ => false,
        }
    };
    let named = selector.get("matchLabels").unwrap_or(&Value::Null);
    has_labels(labels, named) && items(selector, "matchExpressions").all(expression)
}

/// A string in a value.
pub fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// A boolean in a value.
pub fn flag(value: &Value, pointer: &str) -> Option<bool> {
    value.pointer(pointer)?.as_bool()
}

/// The items of a list in a value; none where there is no list.
pub fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_pick_as_kubernetes_does() {
        let labels = json!({"app": "web", "tier": "front"});
        let table = [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (
                json!({"matchLabels": {"app": "web", "tier": "back"}}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "Gt"}]}),
                false,
            ),
        ];
        for (selector, picks) in table {
            assert_eq!(selects(&selector, &labels), picks, "{selector}");
        }
    }
}
