//! Sets the images that llmdev built, wherever pods stand.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Rendered, pods};
use crate::stack::{Stack, WorkloadSpec};

/// Sets `images` and notes each that was built and that nothing names.
pub fn set(stack: &Stack, images: &BTreeMap<String, String>, rendered: &mut Rendered) {
    let mut used = BTreeSet::new();
    for object in &mut rendered.objects {
        let Some(template) = pods::template_mut(object) else {
            continue;
        };
        for container in pods::containers_mut(template) {
            used.extend(set_container(container, images));
        }
    }
    for service in &stack.services {
        let Some(build) = &service.build else {
            continue;
        };
        let expected = images.contains_key(&build.image) && service.workload != WorkloadSpec::None;
        if expected && !used.contains(&build.image) {
            rendered.notes.push(format!(
                "no container has the image `{}` that the service {} builds; \
                 name it in the manifests, or say `workload: none`",
                build.image, service.name
            ));
        }
    }
}

fn set_container(container: &mut Value, images: &BTreeMap<String, String>) -> Option<String> {
    let image = container.get("image")?.as_str()?;
    let (name, reference) = images.get_key_value(repository(image))?;
    let container = container.as_object_mut()?;
    container.insert("image".into(), Value::from(reference.as_str()));
    // The image is in the node; a registry has never heard of it.
    if container.get("imagePullPolicy").and_then(Value::as_str) != Some("Never") {
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
