//! What serves while a node or a pod goes away. For production.

use serde_json::Value;

use super::Findings;
use super::scene::{Pod, Scene, items, selects, text};
use crate::render::Object;

/// `single-replica`.
pub fn replicas<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for pod in &scene.pods {
        // `Recreate` is chosen where two must not run at once, as with a volume for one.
        let alone = text(&pod.object.value, "/spec/strategy/type") == Some("Recreate");
        if pod.object.kind == "Deployment" && !alone && copies(scene, pod) == 1 {
            let message = "it runs one pod".to_owned();
            found.add(pod.object, field("spec.replicas"), message, "replicas: 2");
        }
    }
}

/// `anti-affinity`.
pub fn spread<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector: { matchLabels: { KEY: VALUE } }";
    for pod in several(scene) {
        let apart = pod.spec.pointer("/affinity/podAntiAffinity").is_some();
        let spread = items(pod.spec, "topologySpreadConstraints")
            .next()
            .is_some();
        if !apart && !spread {
            let message = format!("its {} pods may all be on one node", copies(scene, pod));
            found.add(
                pod.object,
                pod.spec_field().dot("affinity.podAntiAffinity"),
                message,
                mend,
            );
        }
    }
}

/// `disruption-budget`.
pub fn budget<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "apiVersion: policy/v1
kind: PodDisruptionBudget
spec:
  maxUnavailable: 1
  selector: { matchLabels: { KEY: VALUE } }";
    for pod in several(scene) {
        let covers = |budget: &Object| {
            let selector = budget
                .value
                .pointer("/spec/selector")
                .unwrap_or(&Value::Null);
            selector.is_object() && selects(selector, pod.labels())
        };
        let mut budgets = scene.kind("policy", "PodDisruptionBudget");
        if !budgets.any(|budget| scene.namespace(budget) == pod.namespace && covers(budget)) {
            let message = "no PodDisruptionBudget covers its pods".to_owned();
            found.add(
                pod.object,
                pod.field().dot("metadata.labels"),
                message,
                mend,
            );
        }
    }
}

/// `rollout`.
pub fn rollout<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "strategy:
  type: RollingUpdate
  rollingUpdate: { maxSurge: 1, maxUnavailable: 0 }";
    for pod in scene
        .pods
        .iter()
        .filter(|pod| pod.object.kind == "Deployment")
    {
        let value = &pod.object.value;
        let rolls = text(value, "/spec/strategy/type").is_none_or(|kind| kind == "RollingUpdate");
        if rolls
            && value
                .pointer("/spec/strategy/rollingUpdate/maxUnavailable")
                .is_none()
        {
            let message = "how many pods a rollout may take away is not said".to_owned();
            found.add(pod.object, field("spec.strategy"), message, mend);
        }
    }
}

/// `data-not-kept`.
pub fn data<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    let mend = "volumeClaimTemplates:
  - metadata: { name: data }
    spec:
      accessModes: [ReadWriteOnce]
      resources: { requests: { storage: 20Gi } }";
    for pod in scene
        .pods
        .iter()
        .filter(|pod| pod.object.kind == "StatefulSet")
    {
        let claims = items(&pod.object.value["spec"], "volumeClaimTemplates")
            .next()
            .is_some();
        let kept = |volume: &Value| {
            [
                "persistentVolumeClaim",
                "hostPath",
                "nfs",
                "csi",
                "ephemeral",
            ]
            .iter()
            .any(|kind| volume.get(kind).is_some())
        };
        if !claims && !items(pod.spec, "volumes").any(kept) {
            let message = "what it stores ends with its pod".to_owned();
            found.add(
                pod.object,
                field("spec.volumeClaimTemplates"),
                message,
                mend,
            );
        }
    }
}

fn field(keys: &str) -> super::field::Field {
    super::field::Field::of(keys)
}

/// The workloads of several pods that could be anywhere.
fn several<'s, 'a>(scene: &'s Scene<'a>) -> impl Iterator<Item = &'s Pod<'a>> {
    let kinds = ["Deployment", "StatefulSet"];
    let all = scene.pods.iter();
    all.filter(move |pod| kinds.contains(&pod.object.kind.as_str()) && copies(scene, pod) > 1)
}

/// How many pods it has at least: an autoscaler decides before `replicas` does.
fn copies<'a>(scene: &Scene<'a>, pod: &Pod<'a>) -> i64 {
    let scales = |scaler: &&'a Object, own: &str| {
        let target = scaler
            .value
            .pointer("/spec/scaleTargetRef")
            .unwrap_or(&Value::Null);
        text(target, "/kind").unwrap_or(own) == pod.object.kind
            && text(target, "/name") == Some(&pod.object.name)
            && scene.namespace(scaler) == pod.namespace
    };
    let hpa = scene.kind("autoscaling", "HorizontalPodAutoscaler");
    let hpa = hpa
        .filter(|it| scales(it, ""))
        .map(|it| number(it, "/spec/minReplicas", 1));
    let keda = scene.kind("keda.sh", "ScaledObject");
    let keda = keda
        .filter(|it| scales(it, "Deployment"))
        .map(|it| number(it, "/spec/minReplicaCount", 0));
    hpa.chain(keda)
        .max()
        .unwrap_or_else(|| number(pod.object, "/spec/replicas", 1))
}

fn number(object: &Object, pointer: &str, default: i64) -> i64 {
    object
        .value
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or(default)
}
