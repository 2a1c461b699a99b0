//! A broken pod of an older version in a StatefulSet: Kubernetes waits for it to get ready before it starts the newer
//! version, however broken it is (kubernetes/kubernetes#67250). So llmdev takes it away.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};

use crate::ready::{self, Target, Trouble};
use crate::view::{Key, View};

/// A pod that never gets ready and keeps its successor from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldPod {
    key: Key,
    /// Tells it from its successor, which has its name.
    pub uid: String,
    why: String,
}

impl OldPod {
    /// The one that a service waits for in vain.
    pub fn of(view: &View, target: &Target, now: Timestamp) -> Option<OldPod> {
        let problem = ready::problem(view, target, now)?;
        let Trouble::StuckBehindOldPod { old } = &problem.trouble else {
            return None;
        };
        let key = problem.pod.clone()?;
        let uid = view.pods.get(&key)?.metadata.uid.clone()?;
        let why = old.failure().line();
        Some(OldPod { key, uid, why })
    }

    /// What is waited for, in a few words.
    pub fn reason(&self) -> String {
        format!("waiting for pod {} of the older version to go", self.key.1)
    }

    /// What is done about it, for people.
    pub fn note(&self) -> String {
        let (name, why) = (&self.key.1, &self.why);
        format!(
            "pod {name} of the older version never gets ready ({why}), and Kubernetes would wait for it; deleted"
        )
    }

    /// Deletes it, if it is still the same pod.
    pub async fn delete(&self, client: Client) -> Result<(), kube::Error> {
        let only = Preconditions {
            uid: Some(self.uid.clone()),
            ..Preconditions::default()
        };
        let params = DeleteParams {
            preconditions: Some(only),
            ..DeleteParams::default()
        };
        let pods: Api<Pod> = Api::namespaced(client, &self.key.0);
        match pods.delete(&self.key.1, &params).await {
            // Gone, or its successor is there.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => other.map(drop),
        }
    }
}
