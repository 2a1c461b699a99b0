//! Takes away what the stack no longer contains.

use futures::FutureExt;
use std::collections::{BTreeSet, HashSet};

use kube::api::{DeleteParams, Preconditions};

use super::owned::Owned;
use super::send::is_adopted;
use super::{Applier, answer};
use crate::error::Result;
use crate::render::{Object, Rendered};

/// What [`Applier::prune`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// `kind/name in namespace`.
    pub deleted: Vec<String>,
    /// What is no longer in the stack and stays all the same, with the reason.
    pub notes: Vec<String>,
}

impl Applier {
    /// Deletes what carries this owner's labels and is not in `keep`. Claims stay, since data is in them, and so do
    /// objects that were there before the stack. Does not wait until they are gone.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn prune(&self, keep: &Rendered) -> Result<Pruned> {
        let kinds = self.kinds.used().await?;
        let owned = self.owned(&kinds).await?;
        let found: BTreeSet<_> = owned.iter().map(|it| it.kind.as_ref().clone()).collect();
        self.kinds.looked_through(found.into_iter())?;
        let kept: HashSet<_> = keep.objects.iter().map(|object| self.key(object)).collect();
        let stale = owned.into_iter().filter(|it| {
            let target = &it.target;
            let key = (it.kind.group(), target.kind.as_str(), target.name.as_str());
            let namespace = target.namespace.as_deref();
            !kept.contains(&(key, namespace)) && !kept.contains(&(key, None))
        });
        let mut pruned = Pruned::default();
        let mut delete = Vec::new();
        for it in stale {
            self.judge(it, keep, &mut pruned, &mut delete).await?;
        }
        let deletes = delete
            .iter()
            .map(|it| self.delete(it, DeleteParams::background()).boxed());
        let results: Vec<Result<()>> = super::at_once(deletes).await;
        results.into_iter().collect::<Result<()>>()?;
        pruned.deleted = delete.iter().map(|it| it.target.to_string()).collect();
        Ok(pruned)
    }

    /// Group, kind and name, and the namespace; none for what may be cluster-scoped.
    fn key<'a>(&'a self, object: &'a Object) -> ((&'a str, &'a str, &'a str), Option<&'a str>) {
        let key = (object.group(), object.kind.as_str(), object.name.as_str());
        let cluster_scoped = self
            .kinds
            .is_cluster_scoped(&object.api_version, &object.kind);
        let namespace = object.namespace.as_deref().unwrap_or(&self.namespace);
        (key, (!cluster_scoped).then_some(namespace))
    }

    async fn judge(
        &self,
        it: Owned,
        keep: &Rendered,
        pruned: &mut Pruned,
        delete: &mut Vec<Owned>,
    ) -> Result<()> {
        let target = &it.target;
        if it.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        if is_adopted(&it.metadata) {
            self.release(&it).await?;
            let note =
                format!("{target} is no longer in the stack; it was there before, so it stays");
            pruned.notes.push(note);
            return Ok(());
        }
        match target.kind.as_str() {
            "PersistentVolumeClaim" => {
                if !made_by_template(target, keep) {
                    pruned.notes.push(format!(
                        "{target} is no longer in the stack; it holds data, so it stays: \
                         kubectl delete {}",
                        target.words()
                    ));
                }
            }
            "Namespace" if target.name == self.namespace => {}
            "Namespace" | "CustomResourceDefinition" => match self.others_in(&it).await? {
                Some(other) => pruned.notes.push(format!(
                    "{target} is no longer in the stack; it stays, since {other}"
                )),
                None => delete.push(it),
            },
            _ => delete.push(it),
        }
        Ok(())
    }

    /// Asks for one object's deletion; gone already is as good.
    pub(super) async fn delete(&self, it: &Owned, params: DeleteParams) -> Result<()> {
        let api = self.api(&it.kind, it.target.namespace.as_deref());
        let preconditions = Some(Preconditions {
            uid: it.metadata.uid.clone(),
            resource_version: None,
        });
        match api
            .delete(
                &it.target.name,
                &DeleteParams {
                    preconditions,
                    ..params
                },
            )
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(answer::unreachable(error)),
        }
    }
}

/// Whether a StatefulSet of the stack made this claim.
fn made_by_template(target: &super::Target, keep: &Rendered) -> bool {
    let sets = keep
        .objects
        .iter()
        .filter(|object| object.kind == "StatefulSet");
    sets.into_iter().any(|set| {
        let templates = set.value.pointer("/spec/volumeClaimTemplates");
        let templates = templates
            .and_then(serde_json::Value::as_array)
            .into_iter()
            .flatten();
        let mut names = templates.filter_map(|it| it.pointer("/metadata/name")?.as_str());
        names.any(|name| {
            let ordinal = target.name.strip_prefix(&format!("{name}-{}-", set.name));
            ordinal.is_some_and(|it| !it.is_empty() && it.bytes().all(|c| c.is_ascii_digit()))
        })
    })
}
