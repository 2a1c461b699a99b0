//! Restarts a service's pods without a change of its manifests.

use chrono::{SecondsFormat, Utc};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::owned::Owned;
use super::{Applier, answer};
use crate::error::{Failure, Result};
use crate::owner;

/// Another manager than that of applying, so that the next `up` leaves the annotation alone.
const MANAGER: &str = "llmdev-restart";

/// What [`Applier::restart`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restarted {
    /// Workloads that replace their pods now.
    pub rolling: Vec<String>,
    /// Jobs and bare pods, deleted: they have to be applied again.
    pub deleted: Vec<String>,
}

impl Applier {
    /// Has the workload of a service replace its pods, as `kubectl rollout restart` does.
    ///
    /// # Errors
    /// [`crate::error::Kind::Failed`] when the cluster has no workload of that service.
    pub async fn restart(&self, service: &str) -> Result<Restarted> {
        let kinds = self.kinds.used().await?;
        let of_service = |it: &Owned| {
            let labels = it.metadata.labels.as_ref();
            labels
                .and_then(|labels| labels.get(owner::SERVICE))
                .is_some_and(|it| it == service)
        };
        let mut restarted = Restarted::default();
        for it in self.owned(&kinds).await?.into_iter().filter(of_service) {
            match (it.kind.group(), it.kind.kind.as_str()) {
                ("apps", "Deployment" | "StatefulSet" | "DaemonSet") => {
                    self.roll(&it).await?;
                    restarted.rolling.push(it.target.to_string());
                }
                ("batch", "Job") | ("", "Pod") => {
                    self.delete_and_wait(std::slice::from_ref(&it), &|_| {})
                        .await?;
                    restarted.deleted.push(it.target.to_string());
                }
                _ => {}
            }
        }
        if restarted == Restarted::default() {
            let what = format!("nothing of the service {service} runs in the cluster");
            return Err(Failure::failed(what).remedy(format!("start it: llmdev up {service}")));
        }
        Ok(restarted)
    }

    async fn roll(&self, it: &Owned) -> Result<()> {
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let body = json!({
            "apiVersion": it.target.api_version,
            "kind": it.target.kind,
            "metadata": {"name": it.target.name},
            "spec": {"template": {"metadata": {
                "annotations": {"kubectl.kubernetes.io/restartedAt": now},
            }}},
        });
        let api = self.api(&it.kind, it.target.namespace.as_deref());
        let params = PatchParams::apply(MANAGER).force();
        api.patch_metadata(&it.target.name, &params, &Patch::Apply(&body))
            .await
            .map_err(answer::unreachable)?;
        Ok(())
    }
}
