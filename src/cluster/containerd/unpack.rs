//! Layers of an image unpacked one on the other, as containerd's own clients do it.

use std::collections::HashMap;

use tonic::Code;

use super::messages::{
    Anything, ApplyDiff, CommitSnapshot, Content, FieldMask, Mounts, PrepareSnapshot,
    RemoveSnapshot, UpdateContent,
};
use super::{Containerd, Refused, descriptor};
use crate::cluster::load::oci;

impl Containerd {
    /// Unpacks a layer on top of another one (none: it is the lowest) under the name of its chain ID. `key` is a name
    /// that nobody else uses.
    pub async fn unpack(
        &self,
        layer: &oci::Descriptor,
        below: Option<&str>,
        chain: &str,
        key: &str,
    ) -> Result<(), Refused> {
        let (snapshotter, key) = (self.snapshotter.to_string(), key.to_owned());
        let prepare = PrepareSnapshot {
            snapshotter: snapshotter.clone(),
            key: key.clone(),
            parent: below.unwrap_or_default().to_owned(),
        };
        let prepared: Mounts = self.ask("snapshots.v1.Snapshots/Prepare", prepare).await?;
        let diff = ApplyDiff {
            diff: Some(descriptor(layer)),
            mounts: prepared.mounts,
        };
        let Anything {} = self.ask("diff.v1.Diff/Apply", diff).await?;
        let commit = CommitSnapshot {
            snapshotter: snapshotter.clone(),
            name: chain.to_owned(),
            key: key.clone(),
        };
        match self.ask("snapshots.v1.Snapshots/Commit", commit).await {
            Ok(Anything {}) => Ok(()),
            // Another image with the same layer was faster.
            Err(refused) if refused.code() == Code::AlreadyExists => {
                let remove = RemoveSnapshot { snapshotter, key };
                self.ask("snapshots.v1.Snapshots/Remove", remove)
                    .await
                    .map(|Anything {}| ())
            }
            Err(refused) => Err(refused),
        }
    }

    /// Keeps an image's unpacked layers as long as its config is kept.
    pub async fn keep_unpacked(&self, config: &str, top: &str) -> Result<(), Refused> {
        let label = format!("containerd.io/gc.ref.snapshot.{}", self.snapshotter);
        let update = UpdateContent {
            update_mask: Some(FieldMask {
                paths: vec![format!("labels.{label}")],
            }),
            info: Some(Content {
                digest: config.to_owned(),
                labels: HashMap::from([(label, top.to_owned())]),
            }),
        };
        self.ask("content.v1.Content/Update", update)
            .await
            .map(|Anything {}| ())
    }
}
