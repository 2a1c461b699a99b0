//! An image as Docker has it: its layers, and the chain IDs by which containerd keeps them unpacked.

use bollard::Docker;
use bollard::errors::Error;
use sha2::{Digest, Sha256};

use crate::error::{Failure, Result};

/// An image in Docker that is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The reference as it was asked for.
    pub reference: String,
    /// The reference as containerd and the kubelet spell it, such as `docker.io/library/app:1`.
    pub name: String,
    /// Docker's id: the config's digest, or the manifest's where containerd's image store is used.
    pub id: String,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<String>,
    /// For each layer, the chain ID of it and all below.
    pub chains: Vec<String>,
    /// Bytes, all layers, as Docker says.
    pub size: u64,
}

impl Image {
    /// Asks Docker for an image.
    pub async fn inspect(docker: &Docker, reference: &str) -> Result<Image> {
        let found = docker
            .inspect_image(reference)
            .await
            .map_err(|error| unanswered(reference, error))?;
        let diff_ids = found
            .root_fs
            .and_then(|root| root.layers)
            .unwrap_or_default();
        Ok(Image {
            reference: reference.to_owned(),
            name: normalized(reference),
            id: found.id.unwrap_or_default(),
            chains: chain_ids(&diff_ids),
            diff_ids,
            size: found
                .size
                .and_then(|size| u64::try_from(size).ok())
                .unwrap_or_default(),
        })
    }

    /// Asks Docker how many bytes each step of the build added, highest first; nothing for steps that made no layer.
    pub async fn steps(&self, docker: &Docker) -> Result<Vec<u64>> {
        let history = docker
            .image_history(&self.reference)
            .await
            .map_err(|error| unanswered(&self.reference, error))?;
        let sizes = history.iter().map(|step| u64::try_from(step.size));
        Ok(sizes.filter_map(|size| size.ok()).collect())
    }

    /// How many bytes the layers have that are not `known`, by the image's [`steps`](Image::steps); rather too many than
    /// too few.
    pub fn size_without(&self, steps: &[u64], known: impl Fn(&String) -> bool) -> u64 {
        let unknown = self
            .diff_ids
            .iter()
            .rev()
            .take_while(|diff_id| !known(diff_id))
            .count();
        if self.diff_ids[..self.diff_ids.len() - unknown]
            .iter()
            .any(|diff_id| !known(diff_id))
        {
            return self.size;
        }
        // Layers that hold but a folder have no size either, so this may count a layer more.
        steps.iter().filter(|size| **size > 0).take(unknown).sum()
    }

    /// The chain ID of the whole image; none for an image without layers.
    pub fn top(&self) -> Option<&String> {
        self.chains.last()
    }
}

fn unanswered(reference: &str, error: Error) -> Failure {
    match error {
        Error::DockerResponseServerError {
            status_code: 404, ..
        } => Failure::failed(format!("Docker has no image {reference}"))
            .remedy(format!("`docker pull {reference}`, or build it")),
        error => {
            Failure::environment(format!("cannot ask Docker for image {reference}")).because(error)
        }
    }
}

/// The chain ID of each layer: its own digest for the lowest, else the digest of the one below's and its own.
pub fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chains: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let chain = match chains.last() {
            None => diff_id.clone(),
            Some(below) => sha256(format!("{below} {diff_id}").as_bytes()),
        };
        chains.push(chain);
    }
    chains
}

/// `sha256:` and the digest in hex.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A reference with registry and tag, as containerd spells it.
pub fn normalized(reference: &str) -> String {
    let (domain, rest) = match reference.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", reference),
    };
    let domain = if domain == "index.docker.io" {
        "docker.io"
    } else {
        domain
    };
    let library = if domain == "docker.io" && !rest.contains('/') {
        "library/"
    } else {
        ""
    };
    let tagged = rest.contains('@')
        || rest
            .rsplit('/')
            .next()
            .is_some_and(|name| name.contains(':'));
    let tag = if tagged { "" } else { ":latest" };
    format!("{domain}/{library}{rest}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_counted_from_the_top() {
        let image = Image {
            reference: String::new(),
            name: String::new(),
            id: String::new(),
            diff_ids: ["a", "b", "c"].map(str::to_owned).to_vec(),
            chains: vec![],
            size: 111,
        };
        let steps = [0, 1, 0, 10, 100];
        for (known, expected) in [
            ("abc", 0),
            ("ab", 1),
            ("a", 11),
            ("", 111),
            ("bc", 111),
            ("ac", 111),
        ] {
            assert_eq!(
                image.size_without(&steps, |id| known.contains(id.as_str())),
                expected,
                "{known}"
            );
        }
    }

    #[test]
    fn references_are_spelt_in_full() {
        for (short, full) in [
            ("app", "docker.io/library/app:latest"),
            ("app:1", "docker.io/library/app:1"),
            ("me/app", "docker.io/me/app:latest"),
            ("localhost/app:1", "localhost/app:1"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("ghcr.io/a/b/c:2", "ghcr.io/a/b/c:2"),
            ("app@sha256:00", "docker.io/library/app@sha256:00"),
            ("index.docker.io/library/app:1", "docker.io/library/app:1"),
        ] {
            assert_eq!(normalized(short), full);
        }
    }

    #[test]
    fn a_chain_is_made_of_the_chain_below_and_the_layer() {
        let diff_ids = ["sha256:aa".to_owned(), "sha256:bb".to_owned()];
        let chains = chain_ids(&diff_ids);
        assert_eq!(chains[0], "sha256:aa");
        assert_eq!(chains[1], sha256(b"sha256:aa sha256:bb"));
        assert!(chain_ids(&[]).is_empty());
    }
}
