//! Claims that no storage class will ever fill.

use serde_json::Value;

use super::{Class, Facts};
use crate::render::{Object, Rendered};
use crate::stack::Stack;

/// Provisioners whose volumes only one node can mount.
const SINGLE: [&str; 4] = [
    "rancher.io/local-path",
    "ebs.csi.aws.com",
    "disk.csi.azure.com",
    "pd.csi.storage.gke.io",
];

/// One line a claim that will stay pending.
pub fn lacking(stack: &Stack, rendered: &Rendered, facts: &Facts) -> Vec<String> {
    let mut classes = facts.storage.clone();
    classes.extend(rendered_classes(rendered));
    let mut lines = Vec::new();
    for object in &rendered.objects {
        for (name, claim) in claims(object) {
            if let Some((why, then)) = problem(&claim["spec"], &classes) {
                let whose = object.service.map(|id| stack.service(id).name.as_str());
                let then = whose.map_or(String::new(), |name| format!("; {name} will {then}"));
                lines.push(format!("claim {name}: {why}{then}"));
            }
        }
    }
    lines
}

fn rendered_classes(rendered: &Rendered) -> Vec<Class> {
    let own = rendered
        .objects
        .iter()
        .filter(|it| it.kind == "StorageClass");
    own.map(|object| Class {
        name: object.name.clone(),
        by: object.value["provisioner"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        default: object.value["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"]
            == "true",
    })
    .collect()
}

/// The claims that an object is or makes.
fn claims(object: &Object) -> Vec<(String, &Value)> {
    match object.kind.as_str() {
        "PersistentVolumeClaim" => vec![(object.name.clone(), &object.value)],
        "StatefulSet" => {
            let made = object.value["spec"]["volumeClaimTemplates"].as_array();
            let name = |claim: &Value| {
                let name = claim["metadata"]["name"].as_str().unwrap_or("?");
                format!("{name} of {}", object.name)
            };
            made.into_iter()
                .flatten()
                .map(|claim| (name(claim), claim))
                .collect()
        }
        _ => vec![],
    }
}

/// Why nothing fills a claim, and what who uses it will do.
fn problem(spec: &Value, classes: &[Class]) -> Option<(String, &'static str)> {
    // Bound by name, to a volume that is there.
    if spec["volumeName"].as_str().is_some_and(|it| !it.is_empty()) {
        return None;
    }
    let class = match spec["storageClassName"].as_str() {
        // No class on purpose: volumes that somebody makes by hand.
        Some("") => return None,
        Some(name) => match classes.iter().find(|class| class.name == name) {
            Some(class) => class,
            None => {
                let known: Vec<_> = classes.iter().map(|class| class.name.as_str()).collect();
                let known = match known[..] {
                    [] => "it has none".to_owned(),
                    _ => format!("it has {}", known.join(", ")),
                };
                let why = format!("the cluster has no storage class {name} ({known})");
                return Some((why, "fail"));
            }
        },
        None => match classes.iter().find(|class| class.default) {
            Some(class) => class,
            None => {
                let why = "it names no storage class, and the cluster has no default one";
                return Some((why.to_owned(), "wait"));
            }
        },
    };
    let mut modes = spec["accessModes"].as_array().into_iter().flatten();
    let many = modes.find(|mode| *mode == "ReadWriteMany" || *mode == "ReadOnlyMany")?;
    SINGLE.contains(&class.by.as_str()).then(|| {
        let many = many.as_str().unwrap_or_default();
        let why = format!(
            "storage class {} ({}) gives ReadWriteOnce, not {many}",
            class.name, class.by,
        );
        (why, "wait")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A claim, the classes there are, and what is wrong.
    type Case<'a> = (Value, &'a [Class], Option<(&'a str, &'a str)>);

    fn class(name: &str, by: &str, default: bool) -> Class {
        Class {
            name: name.into(),
            by: by.into(),
            default,
        }
    }

    #[test]
    fn claims_that_stay_pending_are_told() {
        let kind = [class("standard", "rancher.io/local-path", true)];
        let minikube = [class("standard", "k8s.io/minikube-hostpath", true)];
        let many = json!({"accessModes": ["ReadWriteMany"]});
        let table: &[Case] = &[
            (json!({"accessModes": ["ReadWriteOnce"]}), &kind, None),
            (
                json!({}),
                &[],
                Some((
                    "it names no storage class, and the cluster has no default one",
                    "wait",
                )),
            ),
            (json!({"storageClassName": ""}), &[], None),
            (
                json!({"storageClassName": "fast", "volumeName": "pv"}),
                &kind,
                None,
            ),
            (
                json!({"storageClassName": "fast"}),
                &kind,
                Some((
                    "the cluster has no storage class fast (it has standard)",
                    "fail",
                )),
            ),
            (
                json!({"storageClassName": "fast"}),
                &[],
                Some((
                    "the cluster has no storage class fast (it has none)",
                    "fail",
                )),
            ),
            (
                many.clone(),
                &kind,
                Some((
                    "storage class standard (rancher.io/local-path) gives ReadWriteOnce, not ReadWriteMany",
                    "wait",
                )),
            ),
            (many, &minikube, None),
        ];
        for (spec, classes, expected) in table {
            let found = problem(spec, classes);
            let found = found.as_ref().map(|(why, then)| (why.as_str(), *then));
            assert_eq!(found, *expected, "{spec}");
        }
    }
}
