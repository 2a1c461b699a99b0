//! What the cluster says of a stack's own objects, kept current by watches, never by polling.

mod observe;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::owner;

pub use observe::{Scope, observe};

/// Namespace and name.
pub type Key = (String, String);

/// Objects of one kind.
pub type Objects<K> = BTreeMap<Key, Arc<K>>;

/// One consistent picture; a change makes a new one, which shares all that did not change.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Whether every watch has listed once.
    pub complete: bool,
    /// Why the API server can't be reached at the moment, if so. The objects are the last ones known then.
    pub unreachable: Option<String>,
    /// Pods whose template llmdev labelled.
    pub pods: Objects<Pod>,
    /// Workloads.
    pub deployments: Objects<Deployment>,
    /// Which pods are of a Deployment's newest version. Kept without their pod templates.
    pub replica_sets: Objects<ReplicaSet>,
    /// Workloads.
    pub stateful_sets: Objects<StatefulSet>,
    /// Workloads.
    pub daemon_sets: Objects<DaemonSet>,
    /// Workloads.
    pub jobs: Objects<Job>,
    /// Claims.
    pub claims: Objects<PersistentVolumeClaim>,
    /// What selects pods.
    pub services: Objects<Service>,
    /// Where Services lead; they carry the labels of their Service.
    pub slices: Objects<EndpointSlice>,
    /// Failed probes and mounts of any pods, and volumes that cannot be made for claims, in the namespaces watched;
    /// events carry no labels.
    pub warnings: Objects<Event>,
}

/// How the rest of llmdev follows the cluster.
pub type Views = tokio::sync::watch::Receiver<Arc<View>>;

impl View {
    /// The pods of a service, oldest first.
    pub fn pods_of<'a>(&'a self, service: &'a str) -> Vec<&'a Arc<Pod>> {
        let of_service = |pod: &&Arc<Pod>| service_of(&pod.metadata) == Some(service);
        let mut pods: Vec<_> = self.pods.values().filter(of_service).collect();
        pods.sort_by(|a, b| {
            a.metadata
                .creation_timestamp
                .cmp(&b.metadata.creation_timestamp)
        });
        pods
    }

    /// The pods of a service that take connections, newest first.
    pub fn ready_pods_of<'a>(&'a self, service: &'a str) -> Vec<&'a Arc<Pod>> {
        let mut pods = self.pods_of(service);
        pods.retain(|pod| is_ready(pod));
        pods.reverse();
        pods
    }
}

/// The service that an object's labels name.
pub fn service_of(meta: &ObjectMeta) -> Option<&str> {
    meta.labels
        .as_ref()?
        .get(owner::SERVICE)
        .map(String::as_str)
}

/// Whether a pod takes connections: its `Ready` condition is true and nobody has asked for its end.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|all| {
            all.iter()
                .any(|one| one.type_ == "Ready" && one.status == "True")
        })
}
