//! Autoscalers that cannot.

use serde_json::Value;

use super::Findings;
use super::field::Field;
use super::resources::requests_of;
use super::scene::{Container, Scene, items, text};

/// `hpa-requests`.
pub fn requests<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for scaler in scene.kind("autoscaling", "HorizontalPodAutoscaler") {
        let target = scaler
            .value
            .pointer("/spec/scaleTargetRef")
            .unwrap_or(&Value::Null);
        let (kind, name) = (text(target, "/kind"), text(target, "/name"));
        let scaled = scene.pods.iter().find(|pod| {
            let object = pod.object;
            Some(object.kind.as_str()) == kind
                && Some(object.name.as_str()) == name
                && pod.namespace == scene.namespace(scaler)
        });
        let Some(pod) = scaled else { continue };
        for (field, resource, only) in measured(&scaler.value) {
            let lacking = |container: &Container<'_>| {
                !container.init
                    && only.is_none_or(|it| it == container.name)
                    && !requests_of(container, resource)
            };
            if let Some(container) = pod.containers().find(lacking) {
                let message = format!(
                    "container {} of {} requests no {resource}",
                    container.name,
                    pod.object.id()
                );
                let amount = if resource == "cpu" { "250m" } else { "512Mi" };
                let mend = format!(
                    "resources:\n  requests: {{ {resource}: {amount} }} # in {}",
                    pod.object.id()
                );
                found.add(scaler, field, message, &mend);
            }
        }
    }
}

/// What it measures as a share of the requests: where it says so, the resource, and which container.
fn measured(scaler: &Value) -> Vec<(Field, &str, Option<&str>)> {
    let spec = &scaler["spec"];
    let mut all = Vec::new();
    if spec.get("targetCPUUtilizationPercentage").is_some() {
        all.push((
            Field::of("spec.targetCPUUtilizationPercentage"),
            "cpu",
            None,
        ));
    }
    for (index, metric) in items(spec, "metrics").enumerate() {
        for way in ["resource", "containerResource"] {
            let Some(metric) = metric.get(way) else {
                continue;
            };
            let share = text(metric, "/target/type") == Some("Utilization")
                || metric.pointer("/target/averageUtilization").is_some();
            if let Some(resource) =
                text(metric, "/name").filter(|it| share && matches!(*it, "cpu" | "memory"))
            {
                let field = Field::of("spec.metrics").item(index).dot(way);
                all.push((field, resource, text(metric, "/container")));
            }
        }
    }
    all
}
