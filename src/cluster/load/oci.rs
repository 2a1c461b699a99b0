//! The OCI image layout, as containerd's import reads it from a tar stream.
//!
//! containerd takes the files in any order, names blobs by their content and not by their path, and does not miss
//! layers whose unpacked form it has. A tar in Docker's own format may not leave layers out.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `oci-layout`, which tells containerd which of its formats this is.
pub const LAYOUT: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of Docker's manifest.
pub const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The media type of Docker's list of manifests.
pub const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What names a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// `sha256:…`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Names and remarks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `amd64`; `unknown` for attestations.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
}

impl Descriptor {
    /// A descriptor without remarks.
    pub fn new(media_type: &str, digest: &str, size: u64) -> Self {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_owned(),
            size,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }
}

/// A manifest, or an index: the one has `config` and `layers`, the other `manifests`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image's config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Descriptor>,
    /// Lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Descriptor>,
    /// Of an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Descriptor>,
}

/// A manifest in Docker's words.
pub fn manifest(config: &str, config_size: u64, layers: Vec<Descriptor>) -> Vec<u8> {
    to_json(&Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        config: Some(Descriptor::new(CONFIG, config, config_size)),
        layers,
        manifests: Vec::new(),
    })
}

/// `index.json`: which manifest each reference points to.
pub fn index(images: impl IntoIterator<Item = (String, Descriptor)>) -> Vec<u8> {
    let named = |(name, mut descriptor): (String, Descriptor)| {
        descriptor
            .annotations
            .insert("io.containerd.image.name".to_owned(), name);
        descriptor
    };
    to_json(&Manifest {
        schema_version: 2,
        media_type: Some(INDEX.to_owned()),
        config: None,
        layers: Vec::new(),
        manifests: images.into_iter().map(named).collect(),
    })
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// The media type of a layer, by its first bytes.
pub fn layer_type(head: &[u8]) -> &'static str {
    match head {
        [0x1f, 0x8b, ..] => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => "application/vnd.docker.image.rootfs.diff.tar",
    }
}

/// Where a blob is in the layout.
pub fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// The tar header of a file. Paths here are shorter than the 100 bytes that it has room for.
pub fn tar_header(path: &str, size: u64) -> Bytes {
    let mut header = tar::Header::new_ustar();
    let fits = header.set_path(path);
    debug_assert!(fits.is_ok(), "{path}");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    Bytes::copy_from_slice(header.as_bytes())
}

/// What fills a file of that many bytes up to a whole block.
pub fn tar_padding(size: u64) -> Bytes {
    Bytes::from_static(&[0; 512]).slice(..(size.next_multiple_of(512) - size) as usize)
}

/// The end of a tar stream.
pub fn tar_end() -> Bytes {
    Bytes::from_static(&[0; 1024])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_of_ours_reads_back() {
        let digest = super::super::image::sha256(b"abc");
        let mut stream = Vec::new();
        for (path, content) in [
            (blob_path(&digest), &b"abc"[..]),
            (LAYOUT.0.to_owned(), LAYOUT.1),
        ] {
            stream.extend_from_slice(&tar_header(&path, content.len() as u64));
            stream.extend_from_slice(content);
            stream.extend_from_slice(&tar_padding(content.len() as u64));
        }
        stream.extend_from_slice(&tar_end());
        let mut archive = tar::Archive::new(stream.as_slice());
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, [blob_path(&digest), "oci-layout".to_owned()]);
        assert_eq!(tar_padding(512).len(), 0);
    }

    #[test]
    fn layers_are_known_by_their_first_bytes() {
        assert!(layer_type(&[0x1f, 0x8b, 8]).ends_with("gzip"));
        assert!(layer_type(&[0x28, 0xb5, 0x2f, 0xfd]).ends_with("zstd"));
        assert!(layer_type(b"etc/passwd").ends_with(".tar"));
        assert!(layer_type(b"").ends_with(".tar"));
    }
}
