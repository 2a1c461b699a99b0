//! Sets the images that llmdev built, wherever pods stand and where services say that their image is named.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::object::Object;
use super::{Rendered, pods, secrets};
use crate::error::{Failure, Result};
use crate::stack::{ImagePlace, Service, Stack, WorkloadSpec};

/// Sets `images` and notes each that was built and that nothing names.
///
/// # Errors
/// A place of `imageIn` that is not there, or names another image.
pub fn set(
    stack: &Stack,
    images: &BTreeMap<String, String>,
    rendered: &mut Rendered,
) -> Result<()> {
    let mut used = BTreeSet::new();
    let pulled = stack.cluster.registry.is_some();
    for object in &mut rendered.objects {
        let Some(template) = pods::template_mut(object) else {
            continue;
        };
        for container in pods::containers_mut(template) {
            used.extend(set_container(container, images, pulled));
        }
    }
    for service in &stack.services {
        let Some(build) = &service.build else {
            continue;
        };
        let reference = images.get(&build.image);
        for place in &service.image_in {
            Setting::new(&build.image, reference).set(service, place, &mut rendered.objects)?;
        }
        let expected = reference.is_some()
            && service.workload != WorkloadSpec::None
            && service.image_in.is_empty();
        if expected && !used.contains(&build.image) {
            rendered.notes.push(format!(
                "no container has the image `{}` that the service {} builds; \
                 name it in the manifests, say with `imageIn` where it is named, or say `workload: none`",
                build.image, service.name
            ));
        }
    }
    Ok(())
}

/// An image on its way to where it is named.
struct Setting<'a> {
    image: &'a str,
    /// None: it is not known yet, as where nothing is built.
    reference: Option<&'a String>,
    named: bool,
    /// What stands there instead.
    others: BTreeSet<String>,
}

impl<'a> Setting<'a> {
    fn new(image: &'a str, reference: Option<&'a String>) -> Self {
        Setting {
            image,
            reference,
            named: false,
            others: BTreeSet::new(),
        }
    }

    fn set(mut self, service: &Service, place: &ImagePlace, objects: &mut [Object]) -> Result<()> {
        match place {
            ImagePlace::Env(name) => {
                let templates = objects.iter_mut().filter_map(pods::template_mut);
                for container in templates.flat_map(pods::containers_mut) {
                    self.variable(container, name);
                }
            }
            ImagePlace::Field { kind, name, path } => {
                for object in of(objects, kind, name.as_deref()) {
                    path.visit(&mut object.value, &mut |value| self.value(value));
                }
            }
        }
        if self.named {
            return Ok(());
        }
        Err(self.missed(service, place, objects))
    }

    fn variable(&mut self, container: &mut Value, name: &str) {
        let list = container.get_mut("env").and_then(Value::as_array_mut);
        for variable in list.into_iter().flatten() {
            if variable.get("name").and_then(Value::as_str) == Some(name)
                && let Some(value) = variable.get_mut("value")
            {
                self.value(value);
            }
        }
    }

    fn value(&mut self, value: &mut Value) {
        match value.as_str() {
            Some(text) if repository(text.trim()) == self.image => {
                self.named = true;
                if let Some(reference) = self.reference {
                    *value = Value::from(reference.as_str());
                }
            }
            Some(text) => {
                let line = text.lines().next().unwrap_or_default();
                self.others.insert(line.chars().take(80).collect());
            }
            None => {
                self.others.insert("something that is not text".to_owned());
            }
        }
    }

    fn missed(self, service: &Service, place: &ImagePlace, objects: &[Object]) -> Failure {
        let what = format!(
            "the image of {} is not named in {place}, as `imageIn` says",
            service.name
        );
        let failure = Failure::config(what);
        if let Some(other) = self.others.first() {
            let all: Vec<_> = self.others.iter().map(String::as_str).collect();
            return failure
                .cause(format!("there is {}", all.join(", ")))
                .remedy(format!(
                    "the image is called {}: write that there, or `build: {{ image: {} }}` in stack.yaml",
                    self.image,
                    repository(other)
                ));
        }
        match place {
            ImagePlace::Env(name) => failure
                .cause(format!("no container has an env value {name}"))
                .remedy("a variable that comes from a ConfigMap is named by the ConfigMap's kind, name and path"),
            ImagePlace::Field { kind, name, .. } => {
                let of_kind = objects.iter().filter(|object| object.kind == *kind);
                let all: Vec<_> = of_kind.map(|it| format!("{}  ({})", it.id(), it.origin)).collect();
                let there = objects.iter().any(|it| it.kind == *kind && resembles(it, name.as_deref()));
                let cause = match (there, name) {
                    (true, _) => "there is no such field".to_owned(),
                    (false, Some(name)) => format!("no {kind} of the manifests is called {name}"),
                    (false, None) => format!("the manifests have no {kind}"),
                };
                failure.cause(cause).detail(all).remedy("check `imageIn` in stack.yaml against what `llmdev render` shows")
            }
        }
    }
}

fn resembles(object: &Object, name: Option<&str>) -> bool {
    name.is_none_or(|name| secrets::rank(&object.name, name) > 0)
}

/// The objects of a kind, or of them those whose name is nearest.
fn of<'a>(
    objects: &'a mut [Object],
    kind: &'a str,
    name: Option<&'a str>,
) -> impl Iterator<Item = &'a mut Object> {
    let rank = move |object: &Object| name.map_or(1, |name| secrets::rank(&object.name, name));
    let of_kind = objects.iter().filter(|object| object.kind == kind);
    let best = of_kind.map(rank).max().unwrap_or(0);
    objects
        .iter_mut()
        .filter(move |object| object.kind == kind && best > 0 && rank(object) == best)
}

/// `pulled`: the nodes have to pull it.
fn set_container(
    container: &mut Value,
    images: &BTreeMap<String, String>,
    pulled: bool,
) -> Option<String> {
    let image = container.get("image")?.as_str()?;
    let (name, reference) = images.get_key_value(repository(image))?;
    let container = container.as_object_mut()?;
    container.insert("image".into(), Value::from(reference.as_str()));
    // A tag is one image for good: who has it need not ask. Where it is put into the nodes, no registry has it at all.
    let never = container.get("imagePullPolicy").and_then(Value::as_str) == Some("Never");
    if pulled || !never {
        container.insert("imagePullPolicy".into(), Value::from("IfNotPresent"));
    }
    Some(name.clone())
}

/// An image's name without tag and digest.
pub fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_a_tag() {
        let table = [
            ("redis", "redis"),
            ("redis:8", "redis"),
            ("localhost:5000/redis", "localhost:5000/redis"),
            ("localhost:5000/redis:8@sha256:00", "localhost:5000/redis"),
            ("ghcr.io/a/b@sha256:00", "ghcr.io/a/b"),
        ];
        for (image, name) in table {
            assert_eq!(repository(image), name);
        }
    }
}
