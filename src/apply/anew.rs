//! Makes an object anew whose fields may not change, where that loses nothing that the manifests cannot bring back.

use kube::api::{DeleteParams, Preconditions};
use kube::core::Status;
use serde_json::Value;

use super::send::Parcel;
use super::{answer, gone};
use crate::error::{Failure, Result};
use crate::render::quantity;

/// How it is deleted, and what becomes of what hangs on it, in words.
type Way = (DeleteParams, &'static str);

impl Parcel<'_> {
    /// Deletes the object and waits until it is gone.
    ///
    /// # Errors
    /// The refusal itself, for what holds data.
    pub(super) async fn make_anew(&mut self, fields: &[String], status: &Status) -> Result<()> {
        let way = self.way().await?;
        let (Some((delete, how)), Some(before)) = (way, self.before.take()) else {
            return Err(self.left_to_the_user(status));
        };
        let preconditions = Some(Preconditions {
            uid: before.uid.clone(),
            resource_version: None,
        });
        let delete = DeleteParams {
            preconditions,
            ..delete
        };
        match self.api.delete(&self.target.name, &delete).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => return Err(answer::unreachable(error)),
        }
        gone::wait(&self.api, &self.target, &before).await?;
        let fields = if fields.is_empty() {
            "a part of it".to_owned()
        } else {
            fields.join(", ")
        };
        let note = format!(
            "{} is made anew, since {fields} may not change; {how}",
            self.target
        );
        self.notes.push(note);
        Ok(())
    }

    async fn way(&self) -> Result<Option<Way>> {
        Ok(match self.target.kind.as_str() {
            "StatefulSet" => self.way_of_stateful_set().await?,
            "PersistentVolumeClaim" => self.way_of_claim().await?,
            "Deployment" | "DaemonSet" | "ReplicaSet" => {
                Some((DeleteParams::foreground(), "its pods with it"))
            }
            "Job" | "Pod" | "Service" | "ConfigMap" | "Secret" | "RoleBinding"
            | "ClusterRoleBinding" => Some((DeleteParams::background(), "nothing else is lost")),
            _ => None,
        })
    }

    /// Its pods go on running, unless the new one would not find them again.
    async fn way_of_stateful_set(&self) -> Result<Option<Way>> {
        let live = self.live().await?;
        let live = |path: &str| live.pointer(path);
        let selector = "/spec/selector/matchLabels";
        if live(selector) == self.body.pointer(selector) {
            return Ok(Some((DeleteParams::orphan(), "its pods and volumes stay")));
        }
        let volumes = live("/spec/persistentVolumeClaimRetentionPolicy/whenDeleted");
        let volumes_go = volumes.and_then(Value::as_str) == Some("Delete");
        Ok((!volumes_go).then(|| (DeleteParams::foreground(), "its volumes stay")))
    }

    /// A claim that no volume was ever found for holds nothing.
    async fn way_of_claim(&self) -> Result<Option<Way>> {
        let live = self.live().await?;
        let pending = live["status"]["phase"] == "Pending" && live["spec"]["volumeName"].is_null();
        Ok(pending.then(|| (DeleteParams::background(), "it held nothing yet")))
    }

    /// Leaves a claim that would become smaller the storage that it has; whether it was such a claim.
    pub(super) async fn keep_storage(&mut self) -> Result<bool> {
        let path = "/spec/resources/requests/storage";
        if self.target.kind != "PersistentVolumeClaim" {
            return Ok(false);
        }
        let live = self.live().await?;
        let size = |claim: &Value| claim.pointer(path).and_then(quantity::of);
        if live["spec"]["volumeName"].is_null() || size(&live) <= size(&self.body) {
            return Ok(false);
        }
        let (Some(has), Some(wanted)) = (live.pointer(path), self.body.pointer_mut(path)) else {
            return Ok(false);
        };
        wanted.clone_from(has);
        let has = has.as_str().unwrap_or_default();
        self.notes.push(format!(
            "{} keeps its {has}, since a claim cannot become smaller",
            self.target
        ));
        Ok(true)
    }

    /// The object as it is in the cluster; null: it is not there.
    async fn live(&self) -> Result<Value> {
        let live = self.api.get_opt(&self.target.name).await;
        let live = live.map_err(answer::unreachable)?;
        Ok(live.map_or(Value::Null, |live| live.data))
    }

    fn left_to_the_user(&self, status: &Status) -> Failure {
        answer::failure(&self.target, self.object, status).remedy(format!(
            "undo the change, or delete it yourself, with what is in it: kubectl delete {}",
            self.target.words()
        ))
    }
}
