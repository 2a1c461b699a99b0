//! Out of Docker by `docker save`: all of the image comes, and what the nodes lack is passed on.
//!
//! Docker writes three kinds of archive: its own (a folder a layer, named by an id of old), one with the uncompressed
//! layers under `blobs/` (since 25), and with containerd's image store one with compressed layers. In all of them
//! `manifest.json` says at the end which file is which.

use std::collections::{BTreeMap, HashMap};

use bollard::Docker;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use serde::Deserialize;

use super::image::{Image, normalized, sha256};
use super::import::{Import, Written};
use super::oci::{self, Descriptor};
use crate::error::{Failure, Result};

/// Which layers may be left out.
pub struct Skip<'a> {
    /// Whether the nodes have the layer with this diff ID, wherever the images have it.
    pub present: &'a (dyn Fn(&str) -> bool + Sync),
    /// The diff ID of a compressed blob, as learnt from pushes.
    pub diff_id: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

/// What was passed on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Layers sent.
    pub sent: usize,
    /// Layers left out.
    pub skipped: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// A file of the archive that could be a layer.
struct Blob {
    size: u64,
    media_type: &'static str,
}

/// Configs and manifests are far smaller.
const JSON_LIMIT: u64 = 4 << 20;

/// Streams `images` from Docker into an import.
pub async fn pass(
    docker: &Docker,
    images: &[Image],
    skip: &Skip<'_>,
    import: &mut Import,
) -> Result<Passed> {
    let names: Vec<&str> = images
        .iter()
        .map(|image| image.reference.as_str())
        .collect();
    let mut archive = Archive {
        stream: Box::pin(docker.export_images(&names)),
        rest: BytesMut::new(),
    };
    let old_ids = old_ids(images);
    let diff_id_of = |path: &str| match path.strip_prefix("blobs/sha256/") {
        Some(hex) => {
            let digest = format!("sha256:{hex}");
            // A compressed blob that nobody knows could be any layer.
            let is_layer = images.iter().any(|image| image.diff_ids.contains(&digest));
            if is_layer {
                Some(digest)
            } else {
                (skip.diff_id)(&digest)
            }
        }
        None => old_ids.get(path.strip_suffix("/layer.tar")?).cloned(),
    };

    let mut blobs: HashMap<String, Blob> = HashMap::new();
    let mut links: HashMap<String, String> = HashMap::new();
    let mut json: HashMap<String, Bytes> = HashMap::new();
    let mut passed = Passed::default();
    while let Some(entry) = archive.next().await? {
        if let Some(target) = entry.link {
            links.insert(entry.path, target);
            continue;
        }
        let may_be_layer = entry.path.ends_with("/layer.tar") || entry.path.starts_with("blobs/");
        let head = archive.peek(entry.size.min(4) as usize).await?;
        let is_json =
            head.first().is_some_and(|byte| b"{[".contains(byte)) && entry.size <= JSON_LIMIT;
        if is_json {
            json.insert(entry.path, archive.whole(entry.size).await?);
        } else if !may_be_layer {
            archive.discard(entry.size).await?;
        } else {
            let media_type = oci::layer_type(&head);
            if diff_id_of(&entry.path).is_some_and(|diff_id| (skip.present)(&diff_id)) {
                passed.skipped += 1;
                archive.discard(entry.size).await?;
            } else {
                passed.sent += 1;
                import.open(&shortened(&entry.path), entry.size).await?;
                archive.copy(entry.size, import).await?;
                import.close(entry.size).await?;
            }
            blobs.insert(
                entry.path,
                Blob {
                    size: entry.size,
                    media_type,
                },
            );
        }
    }

    let listed = json
        .get("manifest.json")
        .ok_or_else(|| unexpected("it has no manifest.json"))?;
    let saved: Vec<SavedImage> =
        serde_json::from_slice(listed).map_err(|error| unexpected(&error.to_string()))?;
    for image in images {
        let saved = find(&saved, image)
            .ok_or_else(|| unexpected(&format!("{} is not in it", image.reference)))?;
        let config = json
            .get(&saved.config)
            .ok_or_else(|| unexpected("a config is missing"))?;
        let manifest = manifest(image, saved, config, &blobs, &links)?;
        import
            .file(&oci::blob_path(&sha256(config)), config.clone())
            .await?;
        let digest = sha256(&manifest);
        let layers = saved.layers.iter();
        let written = Written {
            manifest: Descriptor::new(oci::MANIFEST, &digest, manifest.len() as u64),
            bytes: manifest.into(),
            config: sha256(config),
            layers: layers
                .map(|path| shortened(links.get(path).unwrap_or(path)))
                .collect(),
        };
        import.place(image, written).await?;
    }
    Ok(passed)
}

fn find<'a>(saved: &'a [SavedImage], image: &Image) -> Option<&'a SavedImage> {
    let tagged = |saved: &&SavedImage| {
        saved
            .repo_tags
            .iter()
            .flatten()
            .any(|tag| normalized(tag) == image.name)
    };
    let hex = image.id.trim_start_matches("sha256:");
    saved
        .iter()
        .find(tagged)
        .or_else(|| saved.iter().find(|saved| saved.config.contains(hex)))
}

fn manifest(
    image: &Image,
    saved: &SavedImage,
    config: &Bytes,
    blobs: &HashMap<String, Blob>,
    links: &HashMap<String, String>,
) -> Result<Vec<u8>> {
    if saved.layers.len() != image.diff_ids.len() {
        return Err(unexpected(&format!(
            "{} has another number of layers in it",
            image.reference
        )));
    }
    let mut layers = Vec::with_capacity(saved.layers.len());
    for (path, diff_id) in saved.layers.iter().zip(&image.diff_ids) {
        let target = links.get(path).unwrap_or(path);
        let blob = blobs
            .get(target)
            .ok_or_else(|| unexpected("a layer is missing"))?;
        let digest = match path.strip_prefix("blobs/sha256/") {
            Some(hex) => format!("sha256:{hex}"),
            None => diff_id.clone(),
        };
        layers.push(Descriptor::new(blob.media_type, &digest, blob.size));
    }
    Ok(oci::manifest(&sha256(config), config.len() as u64, layers))
}

fn unexpected(why: &str) -> Failure {
    Failure::failed("cannot read the archive that `docker save` makes").cause(why)
}

/// The path within 100 bytes; containerd does not look at it.
fn shortened(path: &str) -> String {
    match path.strip_suffix("/layer.tar") {
        Some(id) => format!("blobs/old/{id}"),
        None => path.to_owned(),
    }
}

/// Docker's ids of old for all layers but an image's last, by which its archives are named up to version 24.
///
/// They are the digest of a description that knows nothing but the chain ID and the id below. A layer whose id is not
/// found, such as the last one's (its description has the config in it), is just passed on.
fn old_ids(images: &[Image]) -> HashMap<String, String> {
    let mut ids = HashMap::new();
    for image in images {
        let mut below: Option<String> = None;
        let lower = image.diff_ids.len().saturating_sub(1);
        for (diff_id, chain) in image.diff_ids.iter().zip(&image.chains).take(lower) {
            let id = old_id(chain, below.as_deref());
            ids.insert(id.clone(), diff_id.clone());
            below = Some(id);
        }
    }
    ids
}

fn old_id(chain: &str, parent: Option<&str>) -> String {
    const EMPTY: &str = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#;
    let mut fields = BTreeMap::from([
        ("container_config", EMPTY.to_owned()),
        ("created", "\"1970-01-01T00:00:00Z\"".to_owned()),
        ("layer_id", format!("\"{chain}\"")),
    ]);
    if let Some(parent) = parent {
        fields.insert("parent", format!("\"sha256:{parent}\""));
    }
    let fields: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("\"{key}\":{value}"))
        .collect();
    sha256(format!("{{{}}}", fields.join(",")).as_bytes())
        .trim_start_matches("sha256:")
        .to_owned()
}

/// A tar that is read as it comes.
struct Archive<S> {
    stream: S,
    rest: BytesMut,
}

struct Entry {
    path: String,
    size: u64,
    link: Option<String>,
}

impl<S: Stream<Item = Result<Bytes, bollard::errors::Error>> + Unpin> Archive<S> {
    /// The next file or link; its content must be read before the one after it.
    async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            let block = self.peek(512).await?;
            if block.len() < 512 || block.iter().all(|byte| *byte == 0) {
                // What follows the end is read too, so that Docker's request ends well.
                while self.fill().await? {
                    self.rest.clear();
                }
                return Ok(None);
            }
            let block = self.rest.split_to(512);
            let header = tar::Header::from_byte_slice(&block);
            let bad = |error: std::io::Error| unexpected(&error.to_string());
            let size = header.entry_size().map_err(bad)?;
            let path = header.path().map_err(bad)?.to_string_lossy().into_owned();
            let kind = header.entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let to = header.link_name().map_err(bad)?.unwrap_or_default();
                let link = Some(joined(&path, &to.to_string_lossy()));
                return Ok(Some(Entry {
                    path,
                    size: 0,
                    link,
                }));
            }
            if kind.is_file() {
                return Ok(Some(Entry {
                    path,
                    size,
                    link: None,
                }));
            }
            // Folders, and extended headers, which say nothing about these files that is needed.
            self.discard(size).await?;
        }
    }

    /// Up to `length` bytes without taking them; fewer only at the end of the stream.
    async fn peek(&mut self, length: usize) -> Result<Bytes> {
        while self.rest.len() < length && self.fill().await? {}
        Ok(Bytes::copy_from_slice(
            &self.rest[..length.min(self.rest.len())],
        ))
    }

    async fn fill(&mut self) -> Result<bool> {
        match self.stream.next().await {
            None => Ok(false),
            Some(Ok(piece)) => {
                if self.rest.is_empty() {
                    self.rest = BytesMut::from(piece);
                } else {
                    self.rest.extend_from_slice(&piece);
                }
                Ok(true)
            }
            Some(Err(error)) => {
                Err(Failure::failed("cannot get the images out of Docker").because(error))
            }
        }
    }

    async fn piece(&mut self, left: u64) -> Result<Bytes> {
        if self.rest.is_empty() && !self.fill().await? {
            return Err(unexpected("it ends in the middle of a file"));
        }
        let length = left.min(self.rest.len() as u64) as usize;
        Ok(self.rest.split_to(length).freeze())
    }

    async fn whole(&mut self, size: u64) -> Result<Bytes> {
        let mut content = BytesMut::with_capacity(size as usize);
        while (content.len() as u64) < size {
            content.extend_from_slice(&self.piece(size - content.len() as u64).await?);
        }
        self.skip_padding(size).await?;
        Ok(content.freeze())
    }

    async fn discard(&mut self, size: u64) -> Result<()> {
        let mut left = size;
        while left > 0 {
            left -= self.piece(left).await?.len() as u64;
        }
        self.skip_padding(size).await
    }

    async fn copy(&mut self, size: u64, import: &mut Import) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let piece = self.piece(left).await?;
            left -= piece.len() as u64;
            import.write(piece).await?;
        }
        self.skip_padding(size).await
    }

    async fn skip_padding(&mut self, size: u64) -> Result<()> {
        let mut left = size.next_multiple_of(512) - size;
        while left > 0 {
            left -= self.piece(left).await?.len() as u64;
        }
        Ok(())
    }
}

/// Where a link that is at `path` leads to.
fn joined(path: &str, to: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_old_are_those_that_docker_20_10_writes() {
        let lowest = "sha256:2f56086a545905b2b70f8ce4506209a9da8db868e27766de4c61c4c1bfd77ece";
        let second = "sha256:5abac8e0a5c934cda5a8d4f99ee1b0bbe36bcd3180527f6570f3bd4679d18711";
        let chains = super::super::image::chain_ids(&[lowest.to_owned(), second.to_owned()]);
        let id = old_id(&chains[0], None);
        assert_eq!(
            id,
            "65294654604ae4cb8261d9570d792f880f78df1275dfacc20d5a229ec5d9fc2e"
        );
        let above = old_id(&chains[1], Some(&id));
        assert_eq!(
            above,
            "051064b831617e3d9a94310194241f2872b40f85f0e8283015224ccf970b0a89"
        );
    }

    #[test]
    fn links_lead_to_other_layers() {
        assert_eq!(joined("a/layer.tar", "../b/layer.tar"), "b/layer.tar");
        assert_eq!(joined("a/layer.tar", "x"), "a/x");
    }
}
