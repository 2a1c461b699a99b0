//! An object of the render: named, and told apart from all others.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value;

use super::Source;
use crate::error::{Failure, Result};
use crate::stack::ServiceId;

/// Where an object's text stands, as far as its render step knows; paths are absolute.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Place {
    /// Nothing is known.
    #[default]
    Unknown,
    /// In a document of a file.
    Document {
        /// The file; empty is standard input.
        file: PathBuf,
        /// The document's first line, from 1.
        line: usize,
        /// The way into it, where it is a `List`.
        items: Vec<usize>,
    },
    /// In one of the files that the kustomization in this folder is made of.
    Kustomization(PathBuf),
    /// In a template of a chart.
    Template(PathBuf),
}

impl Place {
    fn item(&self, index: usize) -> Self {
        let mut place = self.clone();
        if let Place::Document { items, .. } = &mut place {
            items.push(index);
        }
        place
    }
}

/// One object, as it will be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`. None: cluster-scoped, or for the stack's namespace.
    pub namespace: Option<String>,
    /// All of it.
    pub value: Value,
    /// Whose it is. None: the stack's as a whole.
    pub service: Option<ServiceId>,
    /// Where it comes from, for messages.
    pub origin: String,
    /// The same for what looks its text up.
    pub place: Place,
}

impl Object {
    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version
            .rsplit_once('/')
            .map_or("", |(group, _)| group)
    }

    /// `kind/name` as kubectl writes it.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }

    /// Its namespace, given the stack's.
    pub(super) fn namespace_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(default)
    }
}

/// Reads what an object is; `List`s are opened.
pub(super) fn parse(namespace: &str, sources: Vec<Source>) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    for source in sources {
        open(source, &mut objects)?;
    }
    refuse_twins(&objects, namespace)?;
    Ok(objects)
}

fn open(source: Source, objects: &mut Vec<Object>) -> Result<()> {
    let Source {
        mut value,
        origin,
        place,
    } = source;
    let kind = text(&value, "/kind").unwrap_or_default();
    if kind.ends_with("List") && value.get("items").is_some_and(Value::is_array) {
        let items = value["items"]
            .as_array_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        for (index, value) in items.into_iter().enumerate() {
            open(
                Source {
                    value,
                    origin: format!("{origin}, item {}", index + 1),
                    place: place.item(index),
                },
                objects,
            )?;
        }
        return Ok(());
    }
    objects.push(named(value, origin, place)?);
    Ok(())
}

fn named(value: Value, origin: String, place: Place) -> Result<Object> {
    if !value.is_object() {
        let failure = Failure::config(format!("{origin} is not a Kubernetes object"));
        return Err(failure.remedy("a manifest is a mapping with apiVersion, kind and metadata"));
    }
    let field = |path: &str| {
        let missing = || {
            let name = path.trim_start_matches('/').replace('/', ".");
            let what = format!("the object in {origin} has no {name}");
            Failure::config(what).remedy("every object needs apiVersion, kind and metadata.name")
        };
        text(&value, path)
            .filter(|text| !text.is_empty())
            .ok_or_else(missing)
    };
    Ok(Object {
        api_version: field("/apiVersion")?,
        kind: field("/kind")?,
        name: field("/metadata/name")?,
        namespace: text(&value, "/metadata/namespace").filter(|text| !text.is_empty()),
        service: None,
        value,
        origin,
        place,
    })
}

fn refuse_twins(objects: &[Object], namespace: &str) -> Result<()> {
    let mut seen = HashMap::new();
    for object in objects {
        let key = (
            object.group(),
            &object.kind,
            object.namespace_or(namespace),
            &object.name,
        );
        if let Some(first) = seen.insert(key, object) {
            let what = format!("{} is rendered twice", object.id());
            return Err(Failure::config(what)
                .cause(format!(
                    "once in {}, once in {}",
                    first.origin, object.origin
                ))
                .remedy("remove one of the two, or rename it"));
        }
    }
    Ok(())
}

/// A string in a value; a scalar that YAML took for a number or boolean is not one.
pub(super) fn text(value: &Value, path: &str) -> Option<String> {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .map(str::to_owned)
}

/// The mapping at a field of a mapping, made when it is not there. None: something else stands there.
pub(super) fn child<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    let map = value.as_object_mut()?;
    let child = map.entry(field).or_insert(Value::Null);
    if child.is_null() {
        *child = Value::Object(serde_json::Map::new());
    }
    child.is_object().then_some(child)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn source(value: Value) -> Source {
        Source {
            value,
            origin: "k8s/a.yaml:3".into(),
            place: Place::default(),
        }
    }

    #[test]
    fn lists_are_opened() {
        let pod =
            |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}});
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [pod("a"), pod("b")]});
        let objects = parse("default", vec![source(list)]).unwrap();
        assert_eq!(objects[1].origin, "k8s/a.yaml:3, item 2");
        assert_eq!(objects[1].id(), "pod/b");
    }

    #[test]
    fn what_is_missing_is_named() {
        let table = [
            (
                json!({"kind": "A", "metadata": {"name": "x"}}),
                "the object in k8s/a.yaml:3 has no apiVersion",
            ),
            (
                json!({"apiVersion": "v1", "metadata": {"name": "x"}}),
                "the object in k8s/a.yaml:3 has no kind",
            ),
            (
                json!({"apiVersion": "v1", "kind": "A"}),
                "the object in k8s/a.yaml:3 has no metadata.name",
            ),
            (
                json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": 5}}),
                "the object in k8s/a.yaml:3 has no metadata.name",
            ),
            (json!([1]), "k8s/a.yaml:3 is not a Kubernetes object"),
        ];
        for (value, what) in table {
            assert_eq!(
                parse("default", vec![source(value)]).unwrap_err().what,
                what
            );
        }
    }

    #[test]
    fn twins_are_refused_across_versions_of_a_group() {
        let one = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}});
        let mut two = one.clone();
        two["apiVersion"] = json!("apps/v1beta1");
        let failure = parse("default", vec![source(one.clone()), source(two)]).unwrap_err();
        assert_eq!(
            failure.line(),
            "deployment/x is rendered twice: once in k8s/a.yaml:3, once in k8s/a.yaml:3"
        );
        let mut said = one.clone();
        said["metadata"]["namespace"] = json!("default");
        assert!(parse("default", vec![source(one.clone()), source(said.clone())]).is_err());
        assert!(parse("other", vec![source(one.clone()), source(said)]).is_ok());
        let mut other = one.clone();
        other["apiVersion"] = json!("example.org/v1");
        assert_eq!(
            parse("default", vec![source(one), source(other)])
                .unwrap()
                .len(),
            2
        );
    }
}
