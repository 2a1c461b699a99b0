//! What the loader remembers between runs. It can be lost without harm: the next load is slower.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};

/// A layer's blob as Docker pushed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Learnt {
    /// The digest of its uncompressed form.
    pub diff_id: String,
    /// Bytes of the blob. Docker writes into the manifest what it is told, so this must be true.
    pub size: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Content {
    /// In the path of the intake's repository, so that no stranger finds it.
    secret: String,
    /// Docker remembers what it pushed by address, so the port stays the same.
    port: u16,
    /// By digest of the blob.
    blobs: BTreeMap<String, Learnt>,
    /// Sizes of blobs whose push was ended before its manifest came, which tells what layer each of them is.
    came: BTreeMap<String, u64>,
    /// Docker's image id to the digest by which nodes name what they got for it: its manifest's, or its config's.
    manifests: BTreeMap<String, String>,
}

/// The memory, and the file that it is in.
#[derive(Debug)]
pub struct Memory {
    file: PathBuf,
    content: Content,
}

/// More than a stack has; the rest is forgotten in no particular order.
const MOST: usize = 4096;

impl Memory {
    /// Reads the memory in a folder, or begins a new one.
    pub fn open(folder: &Path) -> Memory {
        let file = folder.join("loader.json");
        let content = std::fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        Memory {
            file,
            content: content.unwrap_or_default(),
        }
    }

    /// The secret of the intake's path, made at the first call.
    pub fn secret(&mut self) -> Result<String> {
        if self.content.secret.len() != 32 {
            let mut bytes = [0; 16];
            random(&mut bytes)?;
            self.content.secret = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        }
        Ok(self.content.secret.clone())
    }

    /// The intake's port of the last time; 0 at first.
    pub fn port(&self) -> u16 {
        self.content.port
    }

    /// Remembers the intake's port. Docker's memory of blobs goes by address, so another port begins anew.
    pub fn set_port(&mut self, port: u16) {
        if self.content.port != port {
            self.content.port = port;
            self.content.blobs.clear();
            self.content.came.clear();
        }
    }

    /// What is known of a blob.
    pub fn blob(&self, digest: &str) -> Option<&Learnt> {
        self.content.blobs.get(digest)
    }

    /// All blobs that are known.
    pub fn blobs(&self) -> impl Iterator<Item = (&String, &Learnt)> {
        self.content.blobs.iter()
    }

    /// Whether Docker is known to know the compressed form of a layer.
    pub fn has_pushed(&self, diff_id: &str) -> bool {
        self.content
            .blobs
            .values()
            .any(|learnt| learnt.diff_id == diff_id)
    }

    /// Blobs that came in a push that was ended, with their sizes.
    pub fn came(&self) -> impl Iterator<Item = (&String, &u64)> {
        self.content.came.iter()
    }

    /// Remembers that a blob came, of which it is not known yet what layer it is.
    pub fn has_come(&mut self, digest: String, size: u64) {
        if !self.content.blobs.contains_key(&digest) {
            self.content.came.insert(digest, size);
        }
        while self.content.came.len() > MOST {
            self.content.came.pop_first();
        }
    }

    /// Remembers a blob.
    pub fn learn(&mut self, digest: &str, learnt: Learnt) {
        self.content.came.remove(digest);
        self.content.blobs.insert(digest.to_owned(), learnt);
        while self.content.blobs.len() > MOST {
            self.content.blobs.pop_first();
        }
    }

    /// The digest by which the nodes name what they got for an image.
    pub fn manifest(&self, image_id: &str) -> Option<&str> {
        self.content.manifests.get(image_id).map(String::as_str)
    }

    /// Remembers the digest by which the nodes name what they got for an image.
    pub fn arrived(&mut self, image_id: &str, manifest: &str) {
        self.content
            .manifests
            .insert(image_id.to_owned(), manifest.to_owned());
        while self.content.manifests.len() > MOST {
            self.content.manifests.pop_first();
        }
    }

    /// Writes it down, readable by the user only.
    pub fn save(&self) -> Result<()> {
        let write = || -> std::io::Result<()> {
            if let Some(folder) = self.file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let new = self.file.with_extension("json.new");
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&serde_json::to_vec(&self.content)?)?;
            std::fs::rename(&new, &self.file)
        };
        write().map_err(|error| {
            Failure::environment(format!("cannot write {}", self.file.display())).because(error)
        })
    }
}

/// Fills `bytes` from the kernel's random numbers.
pub fn random(bytes: &mut [u8]) -> Result<()> {
    use std::io::Read;
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes));
    read.map_err(|error| Failure::environment("this machine has no random numbers").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_survives_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(folder.path());
        let secret = memory.secret().unwrap();
        memory.set_port(4321);
        memory.learn(
            "sha256:b",
            Learnt {
                diff_id: "sha256:d".into(),
                size: 7,
            },
        );
        memory.arrived("sha256:i", "sha256:m");
        memory.has_come("sha256:b".to_owned(), 7);
        memory.has_come("sha256:c".to_owned(), 9);
        memory.save().unwrap();
        let mode = std::fs::metadata(folder.path().join("loader.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);

        let mut again = Memory::open(folder.path());
        assert_eq!(again.secret().unwrap(), secret);
        assert_eq!(
            (again.port(), again.manifest("sha256:i")),
            (4321, Some("sha256:m"))
        );
        assert!(again.has_pushed("sha256:d") && !again.has_pushed("sha256:e"));
        let came = |memory: &Memory| memory.came().map(|(_, size)| *size).collect::<Vec<_>>();
        assert_eq!(came(&again), [9], "what is learnt has come no more");
        again.set_port(4322);
        assert!(
            !again.has_pushed("sha256:d") && came(&again).is_empty(),
            "Docker's memory goes by address"
        );
    }

    #[test]
    fn a_broken_file_is_as_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("loader.json"), "{").unwrap();
        assert_eq!(Memory::open(folder.path()).port(), 0);
    }
}
