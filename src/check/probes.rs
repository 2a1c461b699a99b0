//! Probes: how Kubernetes learns that a program serves, or hangs.

use serde_json::Value;

use super::Findings;
use super::scene::{Container, Pod, Scene, items};

/// Longer than this before the first liveness probe is a startup probe in disguise, in seconds.
const LONG_START: i64 = 30;
/// What a probe asks.
const HANDLERS: [&str; 4] = ["httpGet", "tcpSocket", "exec", "grpc"];

/// `readiness-probe`.
pub fn readiness<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "readinessProbe:
  httpGet: { path: /health/ready, port: PORT }
  periodSeconds: 5";
    // Without a port it serves nobody who could be sent elsewhere.
    let serves = |container: &Container| items(container.value, "ports").next().is_some();
    missing(scene, found, "readiness", serves, mend);
}

/// `liveness-probe`.
pub fn liveness<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "livenessProbe:
  httpGet: { path: /health/live, port: PORT }
  periodSeconds: 10
  failureThreshold: 6";
    missing(scene, found, "liveness", |_| true, mend);
}

fn missing<'a>(
    scene: &Scene<'a>,
    found: &mut Findings<'a>,
    kind: &str,
    asks_for: impl Fn(&Container) -> bool,
    mend: &'static str,
) {
    let field = format!("{kind}Probe");
    for (pod, container) in long_running(scene) {
        if asks_for(&container) && probe(&container, &field).is_none() {
            let message = format!("container {} has no {kind} probe", container.name);
            let place = container.field(pod).dot(&field);
            found.add(pod.object, place, message, mend);
        }
    }
}

/// `startup-probe`.
pub fn startup<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "startupProbe:
  httpGet: { path: /health/live, port: PORT }
  periodSeconds: 2
  failureThreshold: 60";
    for (pod, container) in long_running(scene) {
        let Some(liveness) = probe(&container, "livenessProbe") else {
            continue;
        };
        let delay = number(liveness, "initialDelaySeconds", 0);
        if delay >= LONG_START && probe(&container, "startupProbe").is_none() {
            let field = container
                .field(pod)
                .dot("livenessProbe.initialDelaySeconds");
            let message = format!(
                "container {} waits {delay} s in place of a startup probe",
                container.name
            );
            found.add(pod.object, field, message, mend);
        }
    }
}

/// `probes-identical`.
pub fn identical<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "livenessProbe:
  periodSeconds: 10
  failureThreshold: 6 # more patient than readiness, or another path";
    for (pod, container) in long_running(scene) {
        let both = probe(&container, "livenessProbe").zip(probe(&container, "readinessProbe"));
        let Some((liveness, readiness)) = both else {
            continue;
        };
        let same = HANDLERS
            .iter()
            .all(|one| liveness.get(one) == readiness.get(one));
        if same && patience(liveness) <= patience(readiness) {
            let field = container.field(pod).dot("livenessProbe");
            let message = format!(
                "container {}: liveness asks what readiness asks, and is no more patient",
                container.name
            );
            found.add(pod.object, field, message, mend);
        }
    }
}

/// The containers that run for as long as their pod, of pods that run on.
fn long_running<'s, 'a>(
    scene: &'s Scene<'a>,
) -> impl Iterator<Item = (&'s Pod<'a>, Container<'a>)> {
    let all = scene.containers();
    all.filter(|(pod, container)| pod.runs_on() && !container.init)
}

fn probe<'a>(container: &Container<'a>, name: &str) -> Option<&'a Value> {
    container.value.get(name).filter(|probe| probe.is_object())
}

fn number(probe: &Value, field: &str, default: i64) -> i64 {
    probe.get(field).and_then(Value::as_i64).unwrap_or(default)
}

/// Seconds until it has failed.
fn patience(probe: &Value) -> i64 {
    number(probe, "periodSeconds", 10).saturating_mul(number(probe, "failureThreshold", 3))
}
