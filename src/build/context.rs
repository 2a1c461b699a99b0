//! A build context: what Docker would be sent of a folder, with the digest of each file's content.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::digests::{self, Digest, Digests, Fresh};
use super::dockerignore::{Dockerignore, Matched};

/// What is sent of a folder: each folder before what is in it, names in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The folder.
    pub root: PathBuf,
    /// What is in it and not ignored.
    pub entries: Vec<Entry>,
}

/// One file, link or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the context, with `/` between its parts.
    pub path: Box<str>,
    /// Permissions, setuid, setgid and sticky bits.
    pub mode: u16,
    /// Nanoseconds since 1970. Does not count for the image.
    pub mtime_ns: i64,
    /// What it is.
    pub what: What,
}

/// What an [`Entry`] is. Sockets, pipes and devices are not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A folder.
    Folder,
    /// A symbolic link and where it leads.
    Link(Box<str>),
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Of the content.
        digest: Digest,
    },
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
        std::iter::once(self.root.clone()).chain(inner.map(|entry| self.root.join(&*entry.path)))
    }

    /// Reads a folder. Files that `digests` does not know are read, on all cores.
    pub fn read(
        root: &Path,
        ignore: &Dockerignore,
        digests: &mut Digests,
    ) -> Result<Self, Unreadable> {
        let mut walk = Walk {
            root,
            ignore,
            digests,
            entries: Vec::new(),
            unknown: Vec::new(),
        };
        let at = |error: rustix::io::Errno| Unreadable {
            path: root.to_owned(),
            error: error.into(),
        };
        let folder = rustix::fs::open(root, FOLDER, Mode::empty()).map_err(at)?;
        let folder = Dir::new(folder).map_err(at)?;
        walk.folder(folder, "", &Matched::default())?;
        let Walk {
            mut entries,
            unknown,
            ..
        } = walk;
        for (index, fresh) in digest_all(root, &entries, &unknown)? {
            digests.put(&fresh);
            entries[index].mtime_ns = fresh.mtime_ns;
            entries[index].what = What::File {
                size: fresh.size,
                digest: fresh.digest,
            };
        }
        Ok(Context {
            root: root.to_owned(),
            entries,
        })
    }

    /// Adds all that Docker makes an image of to a digest: paths, modes, links and contents, but no times.
    pub fn digest_into(&self, hasher: &mut blake3::Hasher) {
        let mut line = Vec::with_capacity(256);
        for entry in &self.entries {
            line.clear();
            line.extend_from_slice(&(entry.path.len() as u32).to_le_bytes());
            line.extend_from_slice(entry.path.as_bytes());
            line.extend_from_slice(&entry.mode.to_le_bytes());
            match &entry.what {
                What::Folder => line.push(b'd'),
                What::Link(target) => {
                    line.push(b'l');
                    line.extend_from_slice(&(target.len() as u32).to_le_bytes());
                    line.extend_from_slice(target.as_bytes());
                }
                What::File { digest, .. } => {
                    line.push(b'f');
                    line.extend_from_slice(digest);
                }
            }
            hasher.update(&line);
        }
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

struct Walk<'a> {
    root: &'a Path,
    ignore: &'a Dockerignore,
    digests: &'a mut Digests,
    entries: Vec<Entry>,
    /// Indices of the entries whose content must be read.
    unknown: Vec<usize>,
}

impl Walk<'_> {
    fn folder(
        &mut self,
        mut folder: Dir,
        prefix: &str,
        matched: &Matched,
    ) -> Result<(), Unreadable> {
        let mut names: Vec<(CString, FileType)> = Vec::new();
        while let Some(entry) = folder.read() {
            let entry = entry.map_err(|error| self.unreadable(prefix, error.into()))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push((entry.file_name().to_owned(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in names {
            self.entry(&folder, prefix, &name, kind, matched)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: &Dir,
        prefix: &str,
        name: &CString,
        kind: FileType,
        matched: &Matched,
    ) -> Result<(), Unreadable> {
        let path = join(prefix, &name.to_string_lossy());
        let unreadable =
            |walk: &Self, error: rustix::io::Errno| walk.unreadable(&path, error.into());
        let at = folder.fd().map_err(|error| unreadable(self, error))?;
        // Some file systems do not say in the listing what an entry is.
        let stat = |walk: &Self| {
            rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| unreadable(walk, error))
        };
        let (kind, early) = match kind {
            FileType::Unknown => {
                let stat = stat(self)?;
                (FileType::from_raw_mode(stat.st_mode), Some(stat))
            }
            kind => (kind, None),
        };
        match kind {
            FileType::Directory => {
                let (ignored, inside) = self.ignore.enter(&path, matched);
                if ignored && self.ignore.skips(&path) {
                    return Ok(());
                }
                let opened = rustix::fs::openat(at, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
                    .and_then(Dir::new);
                let opened = match opened {
                    Err(rustix::io::Errno::ACCESS) if ignored => return Ok(()),
                    opened => opened.map_err(|error| unreadable(self, error))?,
                };
                let stat = early.map_or_else(|| stat(self), Ok)?;
                // An ignored folder is sent only when something in it is.
                let index = self.push(&path, &stat, What::Folder)?;
                self.folder(opened, &path, &inside)?;
                if ignored && self.entries.len() == index + 1 {
                    self.entries.pop();
                }
            }
            FileType::Symlink if !self.ignore.ignores(&path, matched) => {
                let stat = early.map_or_else(|| stat(self), Ok)?;
                let target = rustix::fs::readlinkat(at, name, Vec::new())
                    .map_err(|error| unreadable(self, error))?;
                let target = target
                    .into_string()
                    .map_err(|_| self.unreadable(&path, not_utf8()))?;
                self.push(&path, &stat, What::Link(target.into()))?;
            }
            FileType::RegularFile if !self.ignore.ignores(&path, matched) => {
                let stat = early.map_or_else(|| stat(self), Ok)?;
                let known = self.digests.get(&stat);
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                let index = self.push(
                    &path,
                    &stat,
                    What::File {
                        size,
                        digest: known.unwrap_or_default(),
                    },
                )?;
                if known.is_none() {
                    self.unknown.push(index);
                }
            }
            _ => {}
        }
        Ok(())
    }

    #[expect(
        clippy::unnecessary_cast,
        reason = "the field's type differs between platforms"
    )]
    fn push(&mut self, path: &str, stat: &Stat, what: What) -> Result<usize, Unreadable> {
        // A lossy name means that Docker cannot be told of the file.
        if path.contains(char::REPLACEMENT_CHARACTER) && !self.root.join(path).exists() {
            return Err(self.unreadable(path, not_utf8()));
        }
        let mode = (stat.st_mode as u32 & 0o7777) as u16;
        self.entries.push(Entry {
            path: path.into(),
            mode,
            mtime_ns: digests::mtime_ns(stat),
            what,
        });
        Ok(self.entries.len() - 1)
    }

    fn unreadable(&self, path: &str, error: io::Error) -> Unreadable {
        Unreadable {
            path: self.root.join(path),
            error,
        }
    }
}

fn not_utf8() -> io::Error {
    io::Error::other("its name is not UTF-8, which Docker insists on")
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        return name.to_owned();
    }
    let mut path = String::with_capacity(prefix.len() + 1 + name.len());
    path.extend([prefix, "/", name]);
    path
}

/// Reads files on as many threads as there are cores.
fn digest_all(
    root: &Path,
    entries: &[Entry],
    unknown: &[usize],
) -> Result<Vec<(usize, Fresh)>, Unreadable> {
    let one = |index: usize| {
        let path = root.join(&*entries[index].path);
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
