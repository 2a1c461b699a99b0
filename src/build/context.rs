//! A build context: what Docker would be sent of a folder, with the digest of each file's content.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::digests::{self, Digests, Fresh};
use super::dockerignore::{Dockerignore, Matched};
use super::entries::{Entries, Entry, What};

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
        let walk = Walk {
            root,
            ignore,
            digests,
            queue: Mutex::default(),
            more: Condvar::new(),
        };
        let (mut entries, unknown) = walk.run()?;
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

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Lists folders on all cores: what costs is asking the kernel about each file.
struct Walk<'a> {
    root: &'a Path,
    ignore: &'a Dockerignore,
    digests: &'a Digests,
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    /// By a folder's number; none until it is listed.
    listings: Vec<Option<Listing>>,
    /// What all listings hold, in one piece: of many small ones the allocator would keep what they leave behind.
    found: Entries,
    running: usize,
    failed: Option<Unreadable>,
}

/// A folder that is to be listed.
struct Task {
    number: usize,
    /// Relative to the context; empty for the context itself.
    path: String,
    matched: Matched,
    ignored: bool,
}

/// What a folder holds, in order.
#[derive(Default)]
struct Listing {
    /// Where it begins in what was found.
    start: usize,
    items: usize,
    /// Places of files whose content must be read.
    unknown: Vec<usize>,
    folders: Vec<Folder>,
}

/// A folder in a [`Listing`].
struct Folder {
    /// Its place.
    at: usize,
    ignored: bool,
    number: usize,
}

/// One thing that a folder holds.
struct Item {
    entry: Entry<Box<str>>,
    kind: Kind,
}

enum Kind {
    Plain,
    /// A file whose content must be read.
    Unknown,
    /// A folder, whether it is ignored, and its number.
    Folder(bool, usize),
}

impl Listing {
    fn of(items: Vec<Item>, found: &mut Entries) -> Self {
        let mut listing = Listing {
            start: found.len(),
            items: items.len(),
            ..Listing::default()
        };
        for item in items {
            let at = found.len();
            match item.kind {
                Kind::Plain => {}
                Kind::Unknown => listing.unknown.push(at),
                Kind::Folder(ignored, number) => listing.folders.push(Folder {
                    at,
                    ignored,
                    number,
                }),
            }
            found.push(item.entry);
        }
        listing
    }
}

impl Walk<'_> {
    /// All entries in order, and the places of those whose content must be read.
    fn run(&self) -> Result<(Entries, Vec<usize>), Unreadable> {
        let top = Task {
            number: 0,
            path: String::new(),
            matched: Matched::default(),
            ignored: false,
        };
        self.lock().listings.push(None);
        self.done(0, self.list(top));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let helpers = self.lock().tasks.len().min(cores).saturating_sub(1);
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|| self.work());
            }
            self.work();
        });
        let mut queue = self.lock();
        if let Some(unreadable) = queue.failed.take() {
            return Err(unreadable);
        }
        let (mut entries, mut unknown) = (Entries::default(), Vec::new());
        let found = std::mem::take(&mut queue.found);
        assemble(&mut queue.listings, &found, 0, &mut entries, &mut unknown);
        Ok((entries, unknown))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no thread panics with it")
    }

    /// Lists folders until there are none and none can come.
    fn work(&self) {
        while let Some(task) = self.next() {
            let number = task.number;
            self.done(number, self.list(task));
        }
    }

    fn next(&self) -> Option<Task> {
        let mut queue = self.lock();
        loop {
            if queue.failed.is_some() {
                return None;
            }
            if let Some(task) = queue.tasks.pop() {
                queue.running += 1;
                return Some(task);
            }
            if queue.running == 0 {
                return None;
            }
            queue = self.more.wait(queue).expect("no thread panics with it");
        }
    }

    fn done(&self, number: usize, listed: Result<(Vec<Item>, Vec<Task>), Unreadable>) {
        let mut queue = self.lock();
        queue.running = queue.running.saturating_sub(1);
        match listed {
            Ok((items, mut tasks)) => {
                let mut listing = Listing::of(items, &mut queue.found);
                let first = queue.listings.len();
                let folders = listing.folders.iter_mut();
                folders.for_each(|folder| folder.number += first);
                tasks.iter_mut().for_each(|task| task.number += first);
                queue.listings.resize_with(first + tasks.len(), || None);
                queue.listings[number] = Some(listing);
                queue.tasks.append(&mut tasks);
            }
            Err(unreadable) => queue.failed = Some(unreadable),
        }
        self.more.notify_all();
    }

    /// What is in a folder, and the folders in it, numbered from 0.
    fn list(&self, task: Task) -> Result<(Vec<Item>, Vec<Task>), Unreadable> {
        let failed = |error: Errno| self.unreadable(&task.path, error.into());
        let nofollow = if task.path.is_empty() {
            OFlags::empty()
        } else {
            OFlags::NOFOLLOW
        };
        let path = self.root.join(&task.path);
        let opened = rustix::fs::open(path, FOLDER | nofollow, Mode::empty()).and_then(Dir::new);
        let mut folder = match opened {
            // Docker passes over it, too.
            Err(Errno::ACCESS) if task.ignored => return Ok((Vec::new(), Vec::new())),
            opened => opened.map_err(failed)?,
        };
        let mut names: Vec<(u64, CString, FileType)> = Vec::with_capacity(64);
        while let Some(entry) = folder.read() {
            let entry = entry.map_err(failed)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push((entry.ino(), entry.file_name().to_owned(), entry.file_type()));
            }
        }
        // In the order in which they lie in the kernel's memory, mostly, asking takes less time.
        names.sort_unstable_by_key(|(ino, ..)| *ino);
        let (mut items, mut tasks) = (Vec::with_capacity(names.len()), Vec::new());
        let fd = folder.fd().map_err(failed)?;
        for (_, name, kind) in names {
            items.extend(self.item(fd, &task, &name, kind, &mut tasks)?);
        }
        items.sort_unstable_by(|a, b| a.entry.path.cmp(&b.entry.path));
        Ok((items, tasks))
    }

    fn item(
        &self,
        folder: BorrowedFd<'_>,
        task: &Task,
        name: &CStr,
        kind: FileType,
        tasks: &mut Vec<Task>,
    ) -> Result<Option<Item>, Unreadable> {
        let path = join(&task.path, &name.to_string_lossy());
        let failed = |error: Errno| self.unreadable(&path, error.into());
        let stat = || rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed);
        // Some file systems do not say in the listing what an entry is.
        let kind = match kind {
            FileType::Unknown => FileType::from_raw_mode(stat()?.st_mode),
            kind => kind,
        };
        Ok(match kind {
            FileType::Directory => {
                let (ignored, matched) = self.ignore.enter(&path, &task.matched);
                if ignored && self.ignore.skips(&path) {
                    return Ok(None);
                }
                let entry = self.entry(&path, &stat()?, What::Folder)?;
                tasks.push(Task {
                    number: tasks.len(),
                    path,
                    matched,
                    ignored,
                });
                let kind = Kind::Folder(ignored, tasks.len() - 1);
                Some(Item { entry, kind })
            }
            FileType::Symlink if !self.ignore.ignores(&path, &task.matched) => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new()).map_err(failed)?;
                let target = target
                    .into_string()
                    .map_err(|_| self.unreadable(&path, not_utf8()))?;
                let entry = self.entry(&path, &stat()?, What::Link(target.into()))?;
                let kind = Kind::Plain;
                Some(Item { entry, kind })
            }
            FileType::RegularFile if !self.ignore.ignores(&path, &task.matched) => {
                let stat = stat()?;
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                let known = self.digests.get(&stat);
                let what = What::File {
                    size,
                    digest: known.unwrap_or_default(),
                };
                let entry = self.entry(&path, &stat, what)?;
                let kind = match known {
                    Some(_) => Kind::Plain,
                    None => Kind::Unknown,
                };
                Some(Item { entry, kind })
            }
            _ => None,
        })
    }

    #[expect(
        clippy::unnecessary_cast,
        reason = "the field's type differs between platforms"
    )]
    fn entry(
        &self,
        path: &str,
        stat: &Stat,
        what: What<Box<str>>,
    ) -> Result<Entry<Box<str>>, Unreadable> {
        // A lossy name means that Docker cannot be told of the file.
        if path.contains(char::REPLACEMENT_CHARACTER)
            && self.root.join(path).symlink_metadata().is_err()
        {
            return Err(self.unreadable(path, not_utf8()));
        }
        let mode = (stat.st_mode as u32 & 0o7777) as u16;
        Ok(Entry {
            path: path.into(),
            mode,
            mtime_ns: digests::mtime_ns(stat),
            what,
        })
    }

    fn unreadable(&self, path: &str, error: io::Error) -> Unreadable {
        Unreadable {
            path: self.root.join(path),
            error,
        }
    }
}

/// Puts listings one after the other, each folder before what is in it.
fn assemble(
    listings: &mut [Option<Listing>],
    found: &Entries,
    number: usize,
    entries: &mut Entries,
    unknown: &mut Vec<usize>,
) {
    let listing = listings[number].take().unwrap_or_default();
    let mut unread = listing.unknown.into_iter().peekable();
    let mut folders = listing.folders.into_iter().peekable();
    for at in listing.start..listing.start + listing.items {
        let Some(entry) = found.get(at) else { break };
        if unread.next_if_eq(&at).is_some() {
            unknown.push(entries.len());
        }
        entries.push(entry);
        if let Some(folder) = folders.next_if(|folder| folder.at == at) {
            let before = entries.len();
            assemble(listings, found, folder.number, entries, unknown);
            // An ignored folder is sent only when something in it is.
            if folder.ignored && entries.len() == before {
                entries.pop();
            }
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
