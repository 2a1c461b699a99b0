//! Which program runs: tags that say it, and nodes that may fetch it.

use super::Findings;
use super::scene::{Scene, text};

/// `image-tag`.
pub fn tag<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for (pod, container) in scene.containers() {
        let Some(image) = text(container.value, "/image") else {
            continue;
        };
        let what = match version(image) {
            None => "has no tag",
            Some("latest") => "has the tag latest",
            Some(_) => continue,
        };
        let message = format!("container {}: the image {image} {what}", container.name);
        let mend = "image: NAME:1.4.2 # or NAME@sha256:…";
        found.add(pod.object, container.field(pod).dot("image"), message, mend);
    }
}

/// `image-never-pulled`.
pub fn never_pulled<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for (pod, container) in scene.containers() {
        if text(container.value, "/imagePullPolicy") == Some("Never") {
            let field = container.field(pod).dot("imagePullPolicy");
            let message = format!("container {} never pulls its image", container.name);
            found.add(pod.object, field, message, "imagePullPolicy: IfNotPresent");
        }
    }
}

/// The digest or the tag.
fn version(image: &str) -> Option<&str> {
    if let Some((_, digest)) = image.split_once('@') {
        return Some(digest);
    }
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    Some(name.split_once(':')?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_port_is_no_tag() {
        let table = [
            ("nginx", None),
            ("nginx:1.27", Some("1.27")),
            ("localhost:5000/nginx", None),
            ("localhost:5000/nginx:latest", Some("latest")),
            ("nginx@sha256:ab", Some("sha256:ab")),
        ];
        for (image, is) in table {
            assert_eq!(version(image), is, "{image}");
        }
    }
}
