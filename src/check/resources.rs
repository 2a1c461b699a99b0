//! What containers may take, and what is kept free for them.

use super::Findings;
use super::scene::{Container, Scene};

/// `memory-limit`.
pub fn memory_limit<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "resources:
  limits: { memory: 512Mi }";
    lacking(
        scene,
        found,
        "no memory limit",
        mend,
        "resources.limits.memory",
        |it| has(it, "limits", "memory"),
    );
}

/// `cpu-limit`.
pub fn cpu_limit<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "resources:
  limits: { cpu: 500m }";
    lacking(
        scene,
        found,
        "no CPU limit",
        mend,
        "resources.limits.cpu",
        |it| has(it, "limits", "cpu"),
    );
}

/// `requests`.
pub fn requests<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "resources:
  requests: { cpu: 100m, memory: 256Mi }";
    let requested = |it: &Container<'_>| requests_of(it, "cpu") && requests_of(it, "memory");
    lacking(
        scene,
        found,
        "no requests for CPU and memory",
        mend,
        "resources.requests",
        requested,
    );
}

/// Whether a container requests a resource; a limit is a request where none is said.
pub fn requests_of(container: &Container<'_>, resource: &str) -> bool {
    has(container, "requests", resource) || has(container, "limits", resource)
}

fn has(container: &Container<'_>, list: &str, resource: &str) -> bool {
    let value = container
        .value
        .get("resources")
        .and_then(|it| it.get(list)?.get(resource));
    value.is_some_and(|value| !value.is_null())
}

fn lacking<'a>(
    scene: &Scene<'a>,
    found: &mut Findings<'a>,
    what: &str,
    mend: &str,
    field: &str,
    good: impl Fn(&Container<'_>) -> bool,
) {
    for (pod, container) in scene.containers() {
        if !good(&container) {
            let message = format!("container {} has {what}", container.name);
            found.add(pod.object, container.field(pod).dot(field), message, mend);
        }
    }
}
