//! API versions that Kubernetes no longer serves.

use super::Findings;
use super::field::Field;
use super::scene::Scene;

/// Group and version, kinds (none: all), the release that removed them, and what took their place.
type Removed = (
    &'static str,
    &'static [&'static str],
    &'static str,
    Option<&'static str>,
);

/// From the deprecated API migration guide.
const REMOVED: &[Removed] = &[
    (
        "extensions/v1beta1",
        &["Ingress"],
        "1.22",
        Some("networking.k8s.io/v1"),
    ),
    (
        "extensions/v1beta1",
        &["NetworkPolicy"],
        "1.16",
        Some("networking.k8s.io/v1"),
    ),
    ("extensions/v1beta1", &["PodSecurityPolicy"], "1.16", None),
    (
        "extensions/v1beta1",
        &["Deployment", "DaemonSet", "ReplicaSet"],
        "1.16",
        Some("apps/v1"),
    ),
    ("apps/v1beta1", &[], "1.16", Some("apps/v1")),
    ("apps/v1beta2", &[], "1.16", Some("apps/v1")),
    (
        "networking.k8s.io/v1beta1",
        &["Ingress", "IngressClass"],
        "1.22",
        Some("networking.k8s.io/v1"),
    ),
    (
        "rbac.authorization.k8s.io/v1alpha1",
        &[],
        "1.22",
        Some("rbac.authorization.k8s.io/v1"),
    ),
    (
        "rbac.authorization.k8s.io/v1beta1",
        &[],
        "1.22",
        Some("rbac.authorization.k8s.io/v1"),
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        &[
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
        ],
        "1.22",
        Some("admissionregistration.k8s.io/v1"),
    ),
    (
        "apiextensions.k8s.io/v1beta1",
        &[],
        "1.22",
        Some("apiextensions.k8s.io/v1"),
    ),
    (
        "apiregistration.k8s.io/v1beta1",
        &[],
        "1.22",
        Some("apiregistration.k8s.io/v1"),
    ),
    (
        "certificates.k8s.io/v1beta1",
        &["CertificateSigningRequest"],
        "1.22",
        Some("certificates.k8s.io/v1"),
    ),
    (
        "coordination.k8s.io/v1beta1",
        &["Lease"],
        "1.22",
        Some("coordination.k8s.io/v1"),
    ),
    (
        "scheduling.k8s.io/v1beta1",
        &["PriorityClass"],
        "1.22",
        Some("scheduling.k8s.io/v1"),
    ),
    (
        "storage.k8s.io/v1beta1",
        &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"],
        "1.22",
        Some("storage.k8s.io/v1"),
    ),
    (
        "storage.k8s.io/v1beta1",
        &["CSIStorageCapacity"],
        "1.27",
        Some("storage.k8s.io/v1"),
    ),
    ("batch/v1beta1", &["CronJob"], "1.25", Some("batch/v1")),
    (
        "discovery.k8s.io/v1beta1",
        &["EndpointSlice"],
        "1.25",
        Some("discovery.k8s.io/v1"),
    ),
    (
        "events.k8s.io/v1beta1",
        &["Event"],
        "1.25",
        Some("events.k8s.io/v1"),
    ),
    (
        "policy/v1beta1",
        &["PodDisruptionBudget"],
        "1.25",
        Some("policy/v1"),
    ),
    ("policy/v1beta1", &["PodSecurityPolicy"], "1.25", None),
    (
        "node.k8s.io/v1beta1",
        &["RuntimeClass"],
        "1.25",
        Some("node.k8s.io/v1"),
    ),
    (
        "autoscaling/v2beta1",
        &["HorizontalPodAutoscaler"],
        "1.25",
        Some("autoscaling/v2"),
    ),
    (
        "autoscaling/v2beta2",
        &["HorizontalPodAutoscaler"],
        "1.26",
        Some("autoscaling/v2"),
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1beta1",
        &[],
        "1.26",
        Some("flowcontrol.apiserver.k8s.io/v1"),
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1beta2",
        &[],
        "1.29",
        Some("flowcontrol.apiserver.k8s.io/v1"),
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1beta3",
        &[],
        "1.32",
        Some("flowcontrol.apiserver.k8s.io/v1"),
    ),
];

/// `removed-api`.
pub fn removed<'a>(scene: &Scene<'a>, found: &mut Findings<'a>) {
    for object in scene.objects {
        let is = |(version, kinds, ..): &&Removed| {
            *version == object.api_version
                && (kinds.is_empty() || kinds.contains(&object.kind.as_str()))
        };
        if let Some((version, _, release, now)) = REMOVED.iter().find(is) {
            let message = format!(
                "{version} {} is gone since Kubernetes {release}",
                object.kind
            );
            let mend = match now {
                Some(now) => format!("apiVersion: {now}"),
                None => "metadata: # of the Namespace, in place of this object\n  labels: { pod-security.kubernetes.io/enforce: restricted }".to_owned(),
            };
            found.add(object, Field::of("apiVersion"), message, &mend);
        }
    }
}
