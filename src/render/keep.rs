//! Keeps what a tool rendered by the digest of all that it read.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a tool said.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Output {
    /// The objects.
    pub documents: Vec<Value>,
    /// The file that the tool said each is from; empty where it said none.
    pub sources: Vec<String>,
    /// Lines of its stderr, although it did not fail.
    pub warnings: Vec<String>,
}

/// A place for one step's output. The last one only is kept, so the folder does not grow.
pub struct Keep {
    file: PathBuf,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    digest: String,
    output: Output,
}

impl Keep {
    /// The place for `step` (what is run, on what) in the state folder. None: an input cannot be read.
    pub fn new(cache: &Path, step: &str, files: &BTreeSet<PathBuf>) -> Option<Self> {
        let mut digest = blake3::Hasher::new();
        digest.update(env!("CARGO_PKG_VERSION").as_bytes());
        digest.update(step.as_bytes());
        for file in files {
            let bytes = fs::read(file).ok()?;
            digest.update(file.as_os_str().as_encoded_bytes());
            digest.update(&(bytes.len() as u64).to_le_bytes());
            digest.update(&bytes);
        }
        let name = blake3::hash(step.as_bytes()).to_hex();
        let file = cache.join("render").join(format!("{}.json", &name[..16]));
        Some(Keep {
            file,
            digest: digest.finalize().to_hex().to_string(),
        })
    }

    /// What is kept, if it was made from the same inputs.
    pub fn get(&self) -> Option<Output> {
        let kept: Kept = serde_json::from_slice(&fs::read(&self.file).ok()?).ok()?;
        (kept.digest == self.digest).then_some(kept.output)
    }

    /// Keeps it. That it cannot be kept costs time only, so it is no failure.
    pub fn put(self, output: Output) -> Output {
        let kept = Kept {
            digest: self.digest,
            output,
        };
        if let Err(error) = write(&self.file, &kept) {
            tracing::debug!(file = %self.file.display(), %error, "rendered output is not kept");
        }
        kept.output
    }
}

/// For its owner's eyes only: Secrets are in it.
fn write(file: &Path, kept: &Kept) -> std::io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let fresh = file.with_extension(format!("{}.new", std::process::id()));
    let mut out = fs::OpenOptions::new();
    out.write(true).create(true).truncate(true).mode(0o600);
    out.open(&fresh)?.write_all(&serde_json::to_vec(kept)?)?;
    fs::rename(fresh, file)
}
