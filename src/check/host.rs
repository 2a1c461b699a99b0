//! Ways from a pod to its node.

use super::Findings;
use super::scene::{Scene, flag, items, text};
use serde_json::Value;

/// `host-path`.
pub fn path<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "volumes:
  - name: NAME
    persistentVolumeClaim: { claimName: CLAIM }";
    for pod in &scene.pods {
        for (index, volume) in items(pod.spec, "volumes").enumerate() {
            if let Some(path) = text(volume, "/hostPath/path") {
                let name = text(volume, "/name").unwrap_or("?");
                let field = pod.spec_field().dot("volumes").item(index).dot("hostPath");
                found.add(
                    pod.object,
                    field,
                    format!("volume {name} is {path} of the node"),
                    mend,
                );
            }
        }
    }
}

/// `host-namespace`.
pub fn namespace<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for pod in &scene.pods {
        for (field, what) in [
            ("hostNetwork", "network"),
            ("hostPID", "processes"),
            ("hostIPC", "shared memory"),
        ] {
            if flag(pod.spec, &format!("/{field}")) == Some(true) {
                let mend = format!("{field}: false");
                found.add(
                    pod.object,
                    pod.spec_field().dot(field),
                    format!("its pods share the node's {what}"),
                    &mend,
                );
            }
        }
    }
}

/// `host-port`.
pub fn port<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for (pod, container) in scene.containers() {
        for (index, port) in items(container.value, "ports").enumerate() {
            if let Some(host) = port
                .get("hostPort")
                .and_then(Value::as_u64)
                .filter(|port| *port > 0)
            {
                let field = container
                    .field(pod)
                    .dot("ports")
                    .item(index)
                    .dot("hostPort");
                let message = format!("container {} takes port {host} of its node", container.name);
                let mend = "ports:\n  - containerPort: PORT # a Service leads to it";
                found.add(pod.object, field, message, mend);
            }
        }
    }
}
