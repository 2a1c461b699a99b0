//! Into a node by containerd's own API: blobs into its store, layers unpacked, and the reference set.

use std::collections::HashMap;

use bytes::Bytes;

use super::holds::Holds;
use super::image::Image;
use super::import::refused;
use super::memory;
use super::oci::{Descriptor, Manifest};
use crate::cluster::containerd::{Containerd, Refused, Upload};
use crate::cluster::node::Node;
use crate::error::Result;

/// An import that is under way. Dropped, it leaves nothing behind.
pub struct Store {
    node: Node,
    containerd: Containerd,
    /// Begins the names of all that this import makes for a while.
    name: String,
    made: usize,
    upload: Option<Upload>,
    placed: Vec<Placed>,
    released: bool,
}

struct Placed {
    name: String,
    chains: Vec<String>,
    descriptor: Descriptor,
    manifest: Bytes,
}

impl Store {
    /// Begins.
    pub async fn start(node: &Node, containerd: &Containerd) -> Result<Store> {
        let mut unique = [0; 8];
        memory::random(&mut unique)?;
        let name = format!("llmdev-{:x}", u64::from_ne_bytes(unique));
        let containerd = containerd
            .leased(&name)
            .await
            .map_err(|status| why(node, &status))?;
        Ok(Store {
            node: node.clone(),
            containerd,
            name,
            made: 0,
            upload: None,
            placed: Vec::new(),
            released: false,
        })
    }

    fn unique(&mut self) -> String {
        self.made += 1;
        format!("{}-{}", self.name, self.made)
    }

    pub fn open(&mut self, path: &str, size: u64) {
        let digest = path
            .strip_prefix("blobs/sha256/")
            .map(|hex| format!("sha256:{hex}"));
        let name = self.unique();
        self.upload = Some(self.containerd.upload(name, size, digest.as_deref()));
    }

    pub async fn write(&mut self, bytes: Bytes) {
        if let Some(upload) = &mut self.upload {
            upload.write(bytes).await;
        }
    }

    pub async fn close(&mut self) -> Result<()> {
        match self.upload.take() {
            Some(upload) => upload
                .close(HashMap::new())
                .await
                .map_err(|status| why(&self.node, &status)),
            None => Ok(()),
        }
    }

    pub fn place(&mut self, image: &Image, descriptor: Descriptor, manifest: Bytes) {
        self.placed.push(Placed {
            name: image.name.clone(),
            chains: image.chains.clone(),
            descriptor,
            manifest,
        });
    }

    pub async fn finish(mut self) -> Result<Holds> {
        let done = self.all_placed().await;
        self.released = true;
        release(self.containerd.clone()).await;
        done.map_err(|status| why(&self.node, &status))
    }

    async fn all_placed(&mut self) -> Result<Holds, Refused> {
        let mut holds = Holds {
            chains: self.containerd.chains().await?,
            ..Holds::default()
        };
        for placed in std::mem::take(&mut self.placed) {
            self.put(&placed, &mut holds).await?;
        }
        Holds::of(&self.containerd).await
    }

    async fn put(&mut self, image: &Placed, holds: &mut Holds) -> Result<(), Refused> {
        let manifest: Manifest = serde_json::from_slice(&image.manifest)
            .map_err(|error| Refused::invalid_argument(error.to_string()))?;
        let mut below = None;
        for (layer, chain) in manifest.layers.iter().zip(&image.chains) {
            if holds.chains.insert(chain.clone()) {
                let key = self.unique();
                self.containerd.unpack(layer, below, chain, &key).await?;
            }
            below = Some(chain.as_str());
        }
        let config = manifest.config.map(|config| config.digest);
        if let Some((config, top)) = config.as_ref().zip(below) {
            self.containerd.keep_unpacked(config, top).await?;
        }
        // As kind has it: of the layers only what is unpacked is kept.
        let kept = config.map(|config| ("containerd.io/gc.ref.content.config".to_owned(), config));
        let name = self.unique();
        let size = image.manifest.len() as u64;
        let mut upload = self
            .containerd
            .upload(name, size, Some(&image.descriptor.digest));
        upload.write(image.manifest.clone()).await;
        upload.close(kept.into_iter().collect()).await?;
        self.containerd.tag(&image.name, &image.descriptor).await
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.released {
            tokio::spawn(release(self.containerd.clone()));
        }
    }
}

async fn release(containerd: Containerd) {
    if let Err(error) = containerd.release().await {
        tracing::debug!(%error, "a lease ends by itself");
    }
}

fn why(node: &Node, status: &Refused) -> crate::error::Failure {
    refused(node, [status.message()].into_iter())
}
