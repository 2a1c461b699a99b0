//! A build context: what Docker would be sent of a folder, with the digest of each file's content.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::digests::{self, Digests, Fresh};
use super::dockerignore::Dockerignore;
use super::entries::{Entries, What};
use super::walk::{Walk, Walked};

/// What is sent of a folder: each folder before what is in it, names in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The folder.
    pub root: PathBuf,
    /// What is in it and not ignored.
    pub entries: Entries,
}

/// Why a context could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct Unreadable {
    /// Which file or folder.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub error: io::Error,
}

impl Context {
    /// All folders of it, absolute: what has to be watched.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let inner = self
            .entries
            .iter()
            .filter(|entry| entry.what == What::Folder);
        std::iter::once(self.root.clone()).chain(inner.map(|entry| self.root.join(entry.path)))
    }

    /// Reads a folder. Files that `digests` does not know are read, on all cores.
    pub fn read(
        root: &Path,
        ignore: &Dockerignore,
        digests: &mut Digests,
    ) -> Result<Self, Unreadable> {
        let walked = Walk::new(root, ignore, digests).run()?;
        Context::of(root, walked, digests)
    }

    /// Reads it again, by the same `ignore`. Only what something was heard of is asked about: absolute paths of files
    /// that may have changed since, and of folders in which anything may have.
    pub fn read_again(
        &self,
        heard: &BTreeSet<PathBuf>,
        ignore: &Dockerignore,
        digests: &mut Digests,
    ) -> Result<Self, Unreadable> {
        let walk = Walk::new(&self.root, ignore, digests).only(heard, &self.entries);
        let walked = walk.run()?;
        Context::of(&self.root, walked, digests)
    }

    fn of(
        root: &Path,
        (mut entries, unknown): Walked,
        digests: &mut Digests,
    ) -> Result<Self, Unreadable> {
        let fresh = digest_all(root, &entries, &unknown)?;
        digests.learn(fresh.iter().map(|(_, fresh)| fresh));
        for (index, fresh) in fresh {
            entries.set_file(index, fresh.mtime_ns, fresh.size, fresh.digest);
        }
        entries.shrink_to_fit();
        Ok(Context {
            root: root.to_owned(),
            entries,
        })
    }

    /// Adds all that Docker makes an image of to a digest: paths, modes, links and contents, but no times.
    pub fn digest_into(&self, hasher: &mut blake3::Hasher) {
        // blake3 is fast on long inputs only.
        const LONG: usize = 64 * 1024;
        let mut bytes = Vec::with_capacity(LONG + 4096);
        for entry in self.entries.iter() {
            bytes.extend_from_slice(&(entry.path.len() as u32).to_le_bytes());
            bytes.extend_from_slice(entry.path.as_bytes());
            bytes.extend_from_slice(&entry.mode.to_le_bytes());
            match &entry.what {
                What::Folder => bytes.push(b'd'),
                What::Link(target) => {
                    bytes.push(b'l');
                    bytes.extend_from_slice(&(target.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(target.as_bytes());
                }
                What::File { digest, .. } => {
                    bytes.push(b'f');
                    bytes.extend_from_slice(digest);
                }
            }
            if bytes.len() >= LONG {
                hasher.update(&bytes);
                bytes.clear();
            }
        }
        hasher.update(&bytes);
    }
}

/// Reads files on as many threads as there are cores.
fn digest_all(
    root: &Path,
    entries: &Entries,
    unknown: &[usize],
) -> Result<Vec<(usize, Fresh)>, Unreadable> {
    let one = |index: usize| {
        let path = entries.get(index).map_or("", |entry| entry.path);
        let path = root.join(path);
        digests::digest(&path)
            .map(|fresh| (index, fresh))
            .map_err(|error| Unreadable { path, error })
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(unknown.len() / 16);
    if threads < 2 {
        return unknown.iter().map(|&index| one(index)).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Ok(Vec::with_capacity(unknown.len())));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&index) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = one(index);
                    let mut done = done.lock().expect("no thread panics with it");
                    match (&mut *done, found) {
                        (Ok(all), Ok(found)) => all.push(found),
                        (Ok(_), Err(error)) => *done = Err(error),
                        (Err(_), _) => return,
                    }
                }
            });
        }
    });
    done.into_inner().expect("no thread panicked")
}
