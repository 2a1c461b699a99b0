//! `imageIn:` of a service: where its image is named beside containers.

use std::fmt;

use serde_json::Value as Json;

use super::decode::{Fields, list, read};
use super::diagnostic::Report;
use super::scalar::{self, Read, Wrong};
use super::tree::Node;

/// The keys of an entry of `imageIn` for an environment variable.
pub const ENV: &[&str] = &["env"];
/// The keys of an entry of `imageIn` for a field.
pub const FIELD: &[&str] = &["kind", "name", "path"];

/// An entry of `imageIn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImagePlace {
    /// The environment variable of that name, in any container.
    Env(String),
    /// A field of objects.
    Field {
        /// Such as `ConfigMap`, or a kind that the cluster learnt.
        kind: String,
        /// As rendered, or as before an overlay's prefix. Unset: all objects of the kind.
        name: Option<String>,
        /// Where it stands in them.
        path: FieldPath,
    },
}

impl fmt::Display for ImagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImagePlace::Env(name) => write!(f, "the env value {name}"),
            ImagePlace::Field {
                kind,
                name: Some(name),
                path,
            } => write!(f, "{path} of {kind} {name}"),
            ImagePlace::Field { kind, path, .. } => write!(f, "{path} of {kind}"),
        }
    }
}

/// A field's place in an object, such as `data.IMAGE`, `spec.steps[*].image` or `data['app.image']`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    /// `[3]`
    Item(usize),
    /// `[*]`: every item of a list, every value of a mapping.
    Every,
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FieldPath {
    /// Calls `found` with each value that the path leads to.
    pub fn visit(&self, value: &mut Json, found: &mut dyn FnMut(&mut Json)) {
        visit(&self.steps, value, found);
    }
}

fn visit(steps: &[Step], value: &mut Json, found: &mut dyn FnMut(&mut Json)) {
    let Some((step, rest)) = steps.split_first() else {
        return found(value);
    };
    match (step, value) {
        (Step::Key(key), Json::Object(map)) => {
            if let Some(value) = map.get_mut(key) {
                visit(rest, value, found);
            }
        }
        (Step::Item(index), Json::Array(items)) => {
            if let Some(value) = items.get_mut(*index) {
                visit(rest, value, found);
            }
        }
        (Step::Every, Json::Array(items)) => {
            items.iter_mut().for_each(|it| visit(rest, it, found));
        }
        (Step::Every, Json::Object(map)) => {
            map.values_mut().for_each(|it| visit(rest, it, found));
        }
        _ => {}
    }
}

/// Reads `a.b[*].c['d.e']`.
fn field_path(text: &str) -> Read<FieldPath> {
    let wrong = || Wrong {
        why: format!("{text:?} is not a field's path"),
        help: Some("write it like data.IMAGE, spec.steps[*].image or data['app.image']".to_owned()),
    };
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (step, after) = if let Some(inner) = rest.strip_prefix('[') {
            bracket(inner).ok_or_else(wrong)?
        } else {
            let key = match steps.is_empty() {
                true => rest,
                false => rest.strip_prefix('.').ok_or_else(wrong)?,
            };
            let end = key.find(['.', '[']).unwrap_or(key.len());
            let good = end > 0 && !key[..end].contains([' ', ']', '\'', '"', '*']);
            let step = good.then(|| Step::Key(key[..end].to_owned()));
            (step.ok_or_else(wrong)?, &key[end..])
        };
        steps.push(step);
        rest = after;
    }
    if !matches!(steps.first(), Some(Step::Key(_))) {
        return Err(wrong());
    }
    Ok(FieldPath {
        text: text.to_owned(),
        steps,
    })
}

/// What follows a `[`: the step, and what comes after its `]`.
fn bracket(inner: &str) -> Option<(Step, &str)> {
    for quote in ['\'', '"'] {
        if let Some(key) = inner.strip_prefix(quote) {
            let (key, after) = key.split_once(quote)?;
            return Some((Step::Key(key.to_owned()), after.strip_prefix(']')?));
        }
    }
    let (step, after) = inner.split_once(']')?;
    match step {
        "*" => Some((Step::Every, after)),
        number => Some((Step::Item(number.parse().ok()?), after)),
    }
}

/// Reads an entry of `imageIn`; mistakes go to `report`.
fn place(node: &Node, service: &str, report: &mut Report) -> Option<ImagePlace> {
    let at = format!("in imageIn of service {service:?}");
    if node.get("env").is_some() {
        let fields = Fields::of(node, None, &at, ENV, report)?;
        let name = fields
            .need("env", report)
            .and_then(|it| read(it, report, scalar::variable));
        return name.map(|name| ImagePlace::Env(name.it));
    }
    let fields = Fields::of(node, None, &at, FIELD, report)?;
    let kind = fields
        .need("kind", report)
        .and_then(|it| read(it, report, kind));
    let path = fields
        .need("path", report)
        .and_then(|it| read(it, report, field_path));
    let name = fields
        .get("name")
        .map(|it| read(it, report, scalar::subdomain));
    Some(ImagePlace::Field {
        kind: kind?.it,
        name: name.map_or(Some(None), |it| it.map(|it| Some(it.it)))?,
        path: path?.it,
    })
}

/// All entries.
pub fn places(node: &Node, service: &str, report: &mut Report) -> Vec<ImagePlace> {
    let items = list(node, report).iter();
    items
        .filter_map(|item| place(item, service, report))
        .collect()
}

fn kind(text: &str) -> Read<String> {
    let good = text.chars().all(|c| c.is_ascii_alphanumeric());
    if good && text.starts_with(|c: char| c.is_ascii_uppercase()) {
        return Ok(text.to_owned());
    }
    Err(Wrong {
        why: format!("{text:?} is not a kind"),
        help: Some("write it as the manifests do, such as ConfigMap".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_where_they_say() {
        let object = json!({
            "data": {"IMAGE": "a", "app.image": "b"},
            "spec": {"steps": [{"image": "c"}, {"image": "d"}, {}], "named": {"x": {"image": "e"}}},
        });
        let table: &[(&str, &[&str])] = &[
            ("data.IMAGE", &["a"]),
            ("data['app.image']", &["b"]),
            ("data[\"app.image\"]", &["b"]),
            ("spec.steps[*].image", &["c", "d"]),
            ("spec.steps[1].image", &["d"]),
            ("spec.named[*].image", &["e"]),
            ("spec.steps.image", &[]),
            ("spec.steps[9].image", &[]),
            ("data.gone", &[]),
        ];
        for (path, expected) in table {
            let mut found = Vec::new();
            let path = field_path(path).unwrap_or_else(|wrong| panic!("{}", wrong.why));
            path.visit(&mut object.clone(), &mut |it| {
                found.push(it.as_str().unwrap_or("?").to_owned());
            });
            assert_eq!(found, *expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "", ".", "a.", ".a", "a..b", "[0].a", "a[", "a[x]", "a['b", "a['b'", "a[*]b", "a b",
            "a.*.b",
        ] {
            assert!(field_path(text).is_err(), "{text}");
        }
    }
}
