//! What a diagnosis asks the API server and the nodes. No answer is an empty answer.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, Secret};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ListParams, LogParams, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::PATIENCE;
use crate::cluster::load::Loader;
use crate::view::Key;

/// How many lines of a run are shown.
const LINES: i64 = 15;
/// Bytes of them at most: a container may write without ever ending a line.
const BYTES: i64 = 16 * 1024;

/// The API server, and the nodes themselves where they can be asked.
pub(super) struct Cluster<'a> {
    client: &'a Client,
    loader: Option<&'a Loader>,
}

/// Which run of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// The present one, or the last one while none is.
    Current,
    /// The one before the present one.
    Previous,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(client: &'a Client, loader: Option<&'a Loader>) -> Self {
        Cluster { client, loader }
    }

    /// The references of all images in the nodes; none when they cannot be asked.
    pub(super) async fn references(&self) -> Option<Vec<String>> {
        let asked = tokio::time::timeout(PATIENCE, self.loader?.references());
        asked.await.ok()?
    }

    /// The last lines of a container's run.
    pub(super) async fn log(&self, pod: &Key, container: &str, run: Run) -> Vec<String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.0);
        let params = LogParams {
            container: Some(container.to_owned()),
            previous: run == Run::Previous,
            tail_lines: Some(LINES),
            limit_bytes: Some(BYTES),
            ..LogParams::default()
        };
        let text = soon(api.logs(&pod.1, &params)).await.unwrap_or_default();
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// Warnings of a namespace.
    pub(super) async fn warnings(&self, namespace: &str) -> Vec<Event> {
        self.events(namespace, "type=Warning").await
    }

    /// Everything that was said of one object.
    pub(super) async fn events_of(&self, namespace: &str, uid: &str) -> Vec<Event> {
        self.events(namespace, &format!("involvedObject.uid={uid}"))
            .await
    }

    async fn events(&self, namespace: &str, fields: &str) -> Vec<Event> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let params = ListParams::default().fields(fields);
        soon(api.list(&params))
            .await
            .map(|list| list.items)
            .unwrap_or_default()
    }

    /// The nodes.
    pub(super) async fn nodes(&self) -> Vec<Node> {
        let api: Api<Node> = Api::all(self.client.clone());
        soon(api.list(&ListParams::default()))
            .await
            .map(|list| list.items)
            .unwrap_or_default()
    }

    /// All pods of a node that still run.
    pub(super) async fn pods_on(&self, node: &str) -> Vec<Pod> {
        let api: Api<Pod> = Api::all(self.client.clone());
        let fields = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
        let params = ListParams::default().fields(&fields);
        soon(api.list(&params))
            .await
            .map(|list| list.items)
            .unwrap_or_default()
    }

    /// The names of a namespace's ConfigMaps.
    pub(super) async fn config_maps(&self, namespace: &str) -> Vec<String> {
        self.names::<ConfigMap>(namespace).await
    }

    /// The names of a namespace's Secrets.
    pub(super) async fn secrets(&self, namespace: &str) -> Vec<String> {
        self.names::<Secret>(namespace).await
    }

    /// The keys of a ConfigMap.
    pub(super) async fn config_map_keys(&self, namespace: &str, name: &str) -> Vec<String> {
        self.keys(namespace, name, |found: ConfigMap| found.data)
            .await
    }

    /// The keys of a Secret. Its values go no further than this.
    pub(super) async fn secret_keys(&self, namespace: &str, name: &str) -> Vec<String> {
        self.keys(namespace, name, |found: Secret| found.data).await
    }

    async fn keys<K, V>(
        &self,
        namespace: &str,
        name: &str,
        data: fn(K) -> Option<BTreeMap<String, V>>,
    ) -> Vec<String>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let found = soon(api.get(name)).await;
        let data = found.and_then(data).into_iter().flatten();
        data.map(|(key, _)| key).collect()
    }

    /// The names of the storage classes.
    pub(super) async fn storage_classes(&self) -> Vec<String> {
        let api: Api<PartialObjectMeta<StorageClass>> = Api::all(self.client.clone());
        let list = soon(api.list(&ListParams::default())).await;
        list.map(|list| list.items)
            .iter()
            .flatten()
            .map(ResourceExt::name_any)
            .collect()
    }

    async fn names<K>(&self, namespace: &str) -> Vec<String>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned,
    {
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), namespace);
        let list = soon(api.list(&ListParams::default())).await;
        list.map(|list| list.items)
            .iter()
            .flatten()
            .map(ResourceExt::name_any)
            .collect()
    }
}

async fn soon<T>(answer: impl Future<Output = kube::Result<T>>) -> Option<T> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the API server has no answer for a diagnosis");
            None
        }
        Err(_) => None,
    }
}
