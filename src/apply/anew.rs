//! Makes an object anew whose fields may not change, where that loses nothing that the manifests cannot bring back.

use kube::api::{DeleteParams, Preconditions};
use kube::core::Status;
use serde_json::Value;

use super::send::Parcel;
use super::{answer, gone};
use crate::error::{Failure, Result};

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
        let live = self
            .api
            .get_opt(&self.target.name)
            .await
            .map_err(answer::unreachable)?;
        let live = |path: &str| live.as_ref().and_then(|live| live.data.pointer(path));
        let selector = "/spec/selector/matchLabels";
        if live(selector) == self.body.pointer(selector) {
            return Ok(Some((DeleteParams::orphan(), "its pods and volumes stay")));
        }
        let volumes = live("/spec/persistentVolumeClaimRetentionPolicy/whenDeleted");
        let volumes_go = volumes.and_then(Value::as_str) == Some("Delete");
        Ok((!volumes_go).then(|| (DeleteParams::foreground(), "its volumes stay")))
    }

    fn left_to_the_user(&self, status: &Status) -> Failure {
        answer::failure(&self.target, self.object, status).remedy(format!(
            "undo the change, or delete it yourself, with what is in it: kubectl delete {}",
            self.target.words()
        ))
    }
}
