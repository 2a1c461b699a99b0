//! What in the cluster carries this owner's labels.

use futures::FutureExt;
use std::sync::Arc;

use kube::Api;
use kube::api::{DynamicObject, ListParams};
use kube::core::ObjectMeta;

use super::kinds::KindInfo;
use super::{Applier, Target, answer};
use crate::error::Result;

/// An object with this owner's labels that no controller made.
#[derive(Debug, Clone)]
pub struct Owned {
    pub target: Target,
    pub kind: Arc<KindInfo>,
    pub metadata: ObjectMeta,
}

impl Applier {
    /// All objects with this owner's labels of the given kinds.
    pub(super) async fn owned(&self, kinds: &[Arc<KindInfo>]) -> Result<Vec<Owned>> {
        let selector = self.owner.selector();
        let lists = kinds
            .iter()
            .map(|kind| self.list(kind, None, Some(&selector)).boxed());
        let lists: Vec<Result<Vec<Owned>>> = super::at_once(lists).await;
        let mut owned = Vec::new();
        for list in lists {
            owned.extend(
                list?
                    .into_iter()
                    .filter(|it| !is_made_by_controller(&it.metadata)),
            );
        }
        Ok(owned)
    }

    /// The objects of a kind. Kinds that are gone or forbidden have none.
    pub(super) async fn list(
        &self,
        kind: &Arc<KindInfo>,
        namespace: Option<&str>,
        selector: Option<&str>,
    ) -> Result<Vec<Owned>> {
        let params = ListParams {
            label_selector: selector.map(str::to_owned),
            ..ListParams::default()
        };
        let api = self.api(kind, namespace);
        let list = match list(&api, &params).await? {
            Listed::All(list) => list,
            // On a shared cluster one may see one's own namespace only.
            Listed::Forbidden if kind.namespaced && namespace.is_none() => {
                match list(&self.api(kind, Some(&self.namespace)), &params).await? {
                    Listed::All(list) => list,
                    Listed::Forbidden => Vec::new(),
                }
            }
            Listed::Forbidden => Vec::new(),
        };
        let owned = |metadata: ObjectMeta| Owned {
            target: Target {
                api_version: kind.api_version.clone(),
                kind: kind.kind.clone(),
                namespace: metadata.namespace.clone(),
                name: metadata.name.clone().unwrap_or_default(),
            },
            kind: kind.clone(),
            metadata,
        };
        Ok(list.into_iter().map(owned).collect())
    }
}

enum Listed {
    All(Vec<ObjectMeta>),
    Forbidden,
}

async fn list(api: &Api<DynamicObject>, params: &ListParams) -> Result<Listed> {
    match api.list_metadata(params).await {
        Ok(list) => Ok(Listed::All(
            list.items.into_iter().map(|item| item.metadata).collect(),
        )),
        Err(kube::Error::Api(status)) => match status.code {
            403 => Ok(Listed::Forbidden),
            404 | 405 | 406 | 503 => Ok(Listed::All(Vec::new())),
            _ => Err(answer::unreachable(kube::Error::Api(status))),
        },
        Err(error) => Err(answer::unreachable(error)),
    }
}

/// Whether it goes, or comes back, with another object: an orphaned pod of a StatefulSet has its labels only.
pub fn is_made_by_controller(metadata: &ObjectMeta) -> bool {
    let owned = metadata
        .owner_references
        .as_ref()
        .is_some_and(|owners| !owners.is_empty());
    let labelled = metadata.labels.as_ref().is_some_and(|labels| {
        [
            "controller-revision-hash",
            "pod-template-hash",
            "batch.kubernetes.io/controller-uid",
        ]
        .iter()
        .any(|label| labels.contains_key(*label))
    });
    owned || labelled
}
