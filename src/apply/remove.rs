//! `down`: takes away all that this owner has, and nothing else.

use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::try_join_all;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::kinds::KindInfo;
use super::owned::{Owned, is_made_by_controller};
use super::send::{PATIENCE, is_adopted};
use super::{ADOPTED, Applier, Target, answer, gone};
use crate::error::Result;
use crate::owner;

/// What [`Applier::remove`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// `kind/name in namespace`, gone.
    pub deleted: Vec<String>,
    /// What stays, with the reason.
    pub notes: Vec<String>,
}

/// How far a removal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What just went; none at the beginning.
    pub gone: Option<Target>,
    /// How many are still there.
    pub left: usize,
}

/// What goes in one go, after what goes before it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Rest,
    Claims,
    Definitions,
    Namespaces,
}

fn turn(target: &Target) -> Turn {
    match target.kind.as_str() {
        "PersistentVolumeClaim" => Turn::Claims,
        "CustomResourceDefinition" => Turn::Definitions,
        "Namespace" if target.api_version == "v1" => Turn::Namespaces,
        _ => Turn::Rest,
    }
}

impl Applier {
    /// Deletes all with this owner's labels and waits until it is gone; claims only with `volumes`. What was there
    /// before the stack stays, without the labels.
    ///
    /// # Errors
    /// What the API server says; an object that does not go away.
    pub async fn remove(
        &self,
        volumes: bool,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Removed> {
        let owned = self.all_owned().await?;
        let mut removed = Removed::default();
        let mut turns: BTreeMap<Turn, Vec<Owned>> = BTreeMap::new();
        for it in owned {
            if is_adopted(&it.metadata) {
                self.release(&it).await?;
                removed.notes.push(format!(
                    "{} stays: it was there before the stack",
                    it.target
                ));
                continue;
            }
            turns.entry(turn(&it.target)).or_default().push(it);
        }
        let claims = turns.get(&Turn::Claims).map_or(0, Vec::len);
        if !volumes && claims > 0 {
            turns.remove(&Turn::Claims);
            let word = if claims == 1 {
                "volume stays"
            } else {
                "volumes stay"
            };
            removed.notes.push(format!(
                "{claims} {word} (`llmdev down --volumes` deletes them)"
            ));
        }
        let left = AtomicUsize::new(turns.values().map(Vec::len).sum());
        let say = |gone: Option<&Target>| {
            progress(Progress {
                gone: gone.cloned(),
                left: left.load(Ordering::Relaxed),
            });
        };
        let stays = || {
            left.fetch_sub(1, Ordering::Relaxed);
        };
        let went = |target: &Target| {
            stays();
            say(Some(target));
        };
        say(None);
        for (turn, objects) in turns {
            let objects = match turn {
                Turn::Rest | Turn::Claims => objects,
                Turn::Definitions | Turn::Namespaces => {
                    self.unused(objects, &mut removed, &stays).await?
                }
            };
            self.delete_and_wait(&objects, &went).await?;
            removed
                .deleted
                .extend(objects.iter().map(|it| it.target.to_string()));
        }
        Ok(removed)
    }

    async fn all_owned(&self) -> Result<Vec<Owned>> {
        let mut kinds = self.kinds.used().await?;
        // What others make from the stack's objects with their labels.
        for (plural, kind, namespaced) in [
            ("persistentvolumeclaims", "PersistentVolumeClaim", true),
            ("namespaces", "Namespace", false),
        ] {
            if !kinds
                .iter()
                .any(|it| it.kind == kind && it.api_version == "v1")
            {
                kinds.push(Arc::new(KindInfo {
                    api_version: "v1".into(),
                    kind: kind.into(),
                    plural: plural.into(),
                    namespaced,
                }));
            }
        }
        let owned = self.owned(&kinds).await?;
        let found: BTreeSet<_> = owned.iter().map(|it| it.kind.as_ref().clone()).collect();
        self.kinds.looked_through(found.into_iter())?;
        Ok(owned)
    }

    /// Those of the namespaces or definitions that hold nobody else's objects.
    async fn unused(
        &self,
        objects: Vec<Owned>,
        removed: &mut Removed,
        stays: &(dyn Fn() + Send + Sync),
    ) -> Result<Vec<Owned>> {
        let mut unused = Vec::new();
        for it in objects {
            match self.others_in(&it).await? {
                None => unused.push(it),
                Some(other) => {
                    stays();
                    removed
                        .notes
                        .push(format!("{} stays, since {other}", it.target));
                }
            }
        }
        Ok(unused)
    }

    pub(super) async fn delete_and_wait(
        &self,
        objects: &[Owned],
        went: &(dyn Fn(&Target) + Send + Sync),
    ) -> Result<()> {
        let deletes = objects
            .iter()
            .map(|it| self.delete(it, DeleteParams::foreground()).boxed());
        let results: Vec<Result<()>> = super::at_once(deletes).await;
        results.into_iter().collect::<Result<()>>()?;
        // Apart by namespace: one's own may be all that one may watch.
        let mut places: BTreeMap<_, BTreeMap<String, Target>> = BTreeMap::new();
        for it in objects {
            let uid = it.metadata.uid.clone().unwrap_or_default();
            places
                .entry((it.kind.clone(), it.target.namespace.clone()))
                .or_default()
                .insert(uid, it.target.clone());
        }
        let selector = self.owner.selector();
        let waits = places.into_iter().map(async |((kind, namespace), left)| {
            let (client, resource) = (self.client.clone(), kind.resource());
            let api = match &namespace {
                Some(namespace) => Api::namespaced_with(client, namespace, &resource),
                None => Api::all_with(client, &resource),
            };
            gone::wait_all(api, &selector, left, PATIENCE, went).await
        });
        try_join_all(waits).await?;
        Ok(())
    }

    /// Takes the labels off an object that stays, so that it is nobody's again.
    pub(super) async fn release(&self, it: &Owned) -> Result<()> {
        let api = self.api(&it.kind, it.target.namespace.as_deref());
        let off = json!({"metadata": {
            "labels": {owner::STACK: null, owner::SERVICE: null, owner::ROOT: null},
            "annotations": {ADOPTED: null},
        }});
        let params = PatchParams {
            field_manager: Some(owner::MANAGER.into()),
            ..Default::default()
        };
        match api
            .patch_metadata(&it.target.name, &params, &Patch::Merge(&off))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(answer::unreachable(error)),
        }
    }

    /// What would be lost with a namespace or a definition, in words; none: nothing of anybody else's.
    pub(super) async fn others_in(&self, it: &Owned) -> Result<Option<String>> {
        let kinds: Vec<Arc<KindInfo>> = self.kinds.all().await?;
        let lists: Vec<_> = if it.target.kind == "Namespace" {
            let namespaced = kinds.iter().filter(|kind| kind.namespaced);
            namespaced
                .map(|kind| self.list(kind, Some(&it.target.name), None).boxed())
                .collect()
        } else {
            // Its name is `plural.group`.
            let named = |kind: &&Arc<KindInfo>| {
                it.target.name == format!("{}.{}", kind.plural, kind.group())
            };
            kinds
                .iter()
                .filter(named)
                .map(|kind| self.list(kind, None, None).boxed())
                .collect()
        };
        let lists: Vec<Result<Vec<Owned>>> = super::at_once(lists.into_iter()).await;
        for list in lists {
            let other = list?.into_iter().find(|other| !comes_by_itself(other));
            if let Some(other) = other {
                let verb = if it.target.kind == "Namespace" {
                    "is in it"
                } else {
                    "is of its kind"
                };
                return Ok(Some(format!("{} {verb}", other.target.id())));
            }
        }
        Ok(None)
    }
}

/// What every namespace has, and what goes away by itself.
fn comes_by_itself(it: &Owned) -> bool {
    let target = &it.target;
    let furniture = matches!(
        (target.kind.as_str(), target.name.as_str()),
        ("ServiceAccount", "default")
            | ("ConfigMap", "kube-root-ca.crt" | "openshift-service-ca.crt")
    );
    furniture
        || it.metadata.deletion_timestamp.is_some()
        || is_made_by_controller(&it.metadata)
        || matches!(it.kind.group(), "coordination.k8s.io")
}
