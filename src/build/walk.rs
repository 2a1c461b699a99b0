//! Lists the folders of a build context, on all cores: what costs is asking the kernel about each file. A folder that a
//! reading before has, and of which nothing was heard since, is not asked again.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::context::Unreadable;
use super::digests::{self, Digests};
use super::dockerignore::{Dockerignore, Matched};
use super::entries::{Entries, Entry, What};

/// All entries of a context in order, and the places of those whose content must be read.
pub type Walked = (Entries, Vec<usize>);

/// Walks a context.
pub struct Walk<'a> {
    root: &'a Path,
    ignore: &'a Dockerignore,
    digests: &'a Digests,
    before: Option<Before<'a>>,
    queue: Mutex<Queue>,
    more: Condvar,
}

/// A reading before, by the same `.dockerignore`.
struct Before<'a> {
    entries: &'a Entries,
    /// The folders of it to be asked, by where their contents begin.
    heard_of: BTreeMap<usize, Concerned>,
}

/// A folder that is to be asked.
struct Concerned {
    path: String,
    matched: Matched,
    /// With all that is below it: another folder may stand in its place.
    whole: bool,
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
    /// Where its contents are in the reading before, which answers for them unless it was heard of.
    before: Option<Range<usize>>,
}

/// What a task came to. Places and numbers count from 0.
#[derive(Default)]
struct Listed {
    /// What is in the folder, and in folders below it that are not to be asked.
    entries: Entries,
    /// Places of files whose content must be read.
    unknown: Vec<usize>,
    folders: Vec<Folder>,
    /// One for each of the folders.
    tasks: Vec<Task>,
}

/// A folder whose contents are listed by a task of their own.
struct Folder {
    /// Its place.
    at: usize,
    ignored: bool,
    number: usize,
}

/// What was [`Listed`], as a part of all that was found.
#[derive(Default)]
struct Listing {
    places: Range<usize>,
    unknown: Vec<usize>,
    folders: Vec<Folder>,
}

/// One thing that a folder holds.
struct Item {
    name: DirEntry,
    mode: u16,
    mtime_ns: i64,
    what: What<Box<str>>,
    then: Then,
}

enum Then {
    Nothing,
    /// Its content must be read.
    Read,
    /// What is in it must be listed.
    List(Task),
}

impl<'a> Walk<'a> {
    /// Asks about everything.
    pub fn new(root: &'a Path, ignore: &'a Dockerignore, digests: &'a Digests) -> Self {
        Walk {
            root,
            ignore,
            digests,
            before: None,
            queue: Mutex::default(),
            more: Condvar::new(),
        }
    }

    /// Asks about the folders of absolute paths that something was heard of, and takes all else from a reading before.
    pub fn only(mut self, paths: &BTreeSet<PathBuf>, entries: &'a Entries) -> Self {
        let mut heard_of: BTreeMap<usize, Concerned> = BTreeMap::new();
        for path in paths {
            for one in concerned(self.root, self.ignore, entries, path) {
                let Some(inside) = entries.inside(&one.path) else {
                    continue;
                };
                let whole = one.whole;
                heard_of.entry(inside.start).or_insert(one).whole |= whole;
            }
        }
        self.before = Some(Before { entries, heard_of });
        self
    }

    /// Lists all folders.
    pub fn run(self) -> Result<Walked, Unreadable> {
        let top = Task {
            number: 0,
            path: String::new(),
            matched: Matched::default(),
            ignored: false,
            before: self.before.as_ref().and_then(|it| it.trusted("")),
        };
        self.lock().listings.push(None);
        self.done(&top, self.list(&top));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let helpers = self.lock().tasks.len().min(cores).saturating_sub(1);
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|| self.work());
            }
            self.work();
        });
        let mut queue = self.queue.into_inner().expect("no thread panicked with it");
        if let Some(unreadable) = queue.failed.take() {
            return Err(unreadable);
        }
        let (mut entries, mut unknown) = (Entries::default(), Vec::new());
        let listings = &mut queue.listings;
        assemble(listings, &queue.found, 0, &mut entries, &mut unknown);
        Ok((entries, unknown))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no thread panics with it")
    }

    /// Lists folders until there are none and none can come.
    fn work(&self) {
        while let Some(task) = self.next() {
            self.done(&task, self.list(&task));
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

    fn done(&self, task: &Task, listed: Result<Listed, Unreadable>) {
        let mut queue = self.lock();
        queue.running = queue.running.saturating_sub(1);
        match listed {
            Ok(mut listed) => {
                let (start, first) = (queue.found.len(), queue.listings.len());
                let all = 0..listed.entries.len();
                queue.found.append(&listed.entries, all);
                listed.unknown.iter_mut().for_each(|at| *at += start);
                for folder in &mut listed.folders {
                    folder.at += start;
                    folder.number += first;
                }
                let tasks = listed.tasks.iter_mut();
                tasks.for_each(|task| task.number += first);
                queue
                    .listings
                    .resize_with(first + listed.tasks.len(), || None);
                queue.listings[task.number] = Some(Listing {
                    places: start..queue.found.len(),
                    unknown: listed.unknown,
                    folders: listed.folders,
                });
                queue.tasks.append(&mut listed.tasks);
            }
            Err(unreadable) => queue.failed = Some(unreadable),
        }
        self.more.notify_all();
    }

    fn list(&self, task: &Task) -> Result<Listed, Unreadable> {
        match (&self.before, &task.before) {
            (Some(before), Some(inside)) if !before.heard_of.contains_key(&inside.start) => {
                Ok(before.keep(inside.clone()))
            }
            _ => self.ask(task),
        }
    }

    fn ask(&self, task: &Task) -> Result<Listed, Unreadable> {
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
            Err(Errno::ACCESS) if task.ignored => return Ok(Listed::default()),
            opened => opened.map_err(failed)?,
        };
        let mut names: Vec<DirEntry> = Vec::with_capacity(64);
        while let Some(entry) = folder.read() {
            let entry = entry.map_err(failed)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry);
            }
        }
        // In the order in which they lie in the kernel's memory, mostly, asking takes less time.
        names.sort_unstable_by_key(DirEntry::ino);
        let mut items = Vec::with_capacity(names.len());
        let fd = folder.fd().map_err(failed)?;
        let mut joined = Joined::new(&task.path);
        for name in names {
            items.extend(self.item(fd, task, &mut joined, name)?);
        }
        items.sort_unstable_by(|a, b| a.name.file_name().cmp(b.name.file_name()));
        let mut listed = Listed::default();
        for item in items {
            listed.push(&mut joined, item);
        }
        Ok(listed)
    }

    fn item(
        &self,
        folder: BorrowedFd<'_>,
        task: &Task,
        joined: &mut Joined,
        name: DirEntry,
    ) -> Result<Option<Item>, Unreadable> {
        let text = name.file_name().to_string_lossy();
        let path = joined.with(&text);
        let failed = |error: Errno| self.unreadable(path, error.into());
        let stat = || {
            rustix::fs::statat(folder, name.file_name(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
        };
        // Some file systems do not say in the listing what an entry is.
        let kind = match name.file_type() {
            FileType::Unknown => FileType::from_raw_mode(stat()?.st_mode),
            kind => kind,
        };
        let (stat, what, then) = match kind {
            FileType::Directory => {
                let (ignored, matched) = self.ignore.enter(path, &task.matched);
                if ignored && self.ignore.skips(path) {
                    return Ok(None);
                }
                let before = self.before.as_ref();
                let known = before.filter(|_| task.before.is_some() && !ignored);
                let inner = Task {
                    number: 0,
                    path: path.to_owned(),
                    matched,
                    ignored,
                    before: known.and_then(|before| before.trusted(path)),
                };
                (stat()?, What::Folder, Then::List(inner))
            }
            FileType::Symlink if !self.ignore.ignores(path, &task.matched) => {
                let target = rustix::fs::readlinkat(folder, name.file_name(), Vec::new());
                let target = target.map_err(failed)?.into_string();
                let target = target.map_err(|_| self.unreadable(path, not_utf8()))?;
                (stat()?, What::Link(target.into()), Then::Nothing)
            }
            FileType::RegularFile if !self.ignore.ignores(path, &task.matched) => {
                let stat = stat()?;
                let known = self.digests.get(&stat);
                let what = What::File {
                    size: u64::try_from(stat.st_size).unwrap_or(0),
                    digest: known.unwrap_or_default(),
                };
                (stat, what, known.map_or(Then::Read, |_| Then::Nothing))
            }
            _ => return Ok(None),
        };
        if matches!(text, Cow::Owned(_)) {
            return Err(self.unreadable(path, not_utf8()));
        }
        Ok(Some(Item {
            mode: mode(&stat),
            mtime_ns: digests::mtime_ns(&stat),
            what,
            then,
            name,
        }))
    }

    fn unreadable(&self, path: &str, error: io::Error) -> Unreadable {
        Unreadable {
            path: self.root.join(path),
            error,
        }
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Listed {
    fn push(&mut self, folder: &mut Joined, item: Item) {
        let at = self.entries.len();
        match item.then {
            Then::Nothing => {}
            Then::Read => self.unknown.push(at),
            Then::List(task) => self.then(at, task),
        }
        self.entries.push(Entry {
            path: folder.with(&item.name.file_name().to_string_lossy()),
            mode: item.mode,
            mtime_ns: item.mtime_ns,
            what: item.what.as_deref(),
        });
    }

    /// What is in the folder of this place is still to be listed.
    fn then(&mut self, at: usize, task: Task) {
        let number = self.tasks.len();
        self.folders.push(Folder {
            at,
            ignored: task.ignored,
            number,
        });
        self.tasks.push(Task { number, ..task });
    }
}

impl Before<'_> {
    /// Where a folder's contents are that may be taken as they were, or parts of them.
    fn trusted(&self, path: &str) -> Option<Range<usize>> {
        let inside = self.entries.inside(path)?;
        let concerned = self.heard_of.get(&inside.start);
        (!concerned.is_some_and(|it| it.whole)).then_some(inside)
    }

    /// A folder's contents as they were, with tasks for the folders in it that are to be asked.
    fn keep(&self, inside: Range<usize>) -> Listed {
        let (mut listed, mut next) = (Listed::default(), inside.start);
        for (start, one) in self.heard_of.range(inside.start..=inside.end) {
            if *start <= next {
                continue; // in a folder that is asked itself
            }
            listed.entries.append(self.entries, next..*start);
            next = self.entries.inside(&one.path).map_or(*start, |it| it.end);
            let task = Task {
                number: 0,
                path: one.path.clone(),
                matched: one.matched.clone(),
                ignored: false,
                before: self.trusted(&one.path),
            };
            listed.then(listed.entries.len() - 1, task);
        }
        listed.entries.append(self.entries, next..inside.end);
        listed
    }
}

/// The folders to be asked when something was heard of a path: its own, and itself if it is one. A folder that the
/// reading before has not, or that is ignored but for something in it, is asked with the one that it is in.
fn concerned(root: &Path, ignore: &Dockerignore, entries: &Entries, path: &Path) -> Vec<Concerned> {
    let Ok(relative) = path.strip_prefix(root) else {
        return Vec::new();
    };
    let of = |path, matched| Concerned {
        path,
        matched,
        whole: false,
    };
    let mut folders = vec![of(String::new(), Matched::default())];
    for name in relative {
        let folder = folders.last().expect("the context itself");
        let path = Joined::new(&folder.path)
            .with(&name.to_string_lossy())
            .to_owned();
        let (ignored, matched) = ignore.enter(&path, &folder.matched);
        if ignored || entries.inside(&path).is_none() {
            return folders.split_off(folders.len() - 1);
        }
        folders.push(of(path, matched));
    }
    folders.last_mut().expect("the context itself").whole = true;
    folders.split_off(folders.len().saturating_sub(2))
}

/// A folder's path, with one name of it at a time behind it: no text of its own for each of many files.
struct Joined {
    text: String,
    folder: usize,
}

impl Joined {
    fn new(folder: &str) -> Self {
        let mut text = folder.to_owned();
        if !text.is_empty() {
            text.push('/');
        }
        Joined {
            folder: text.len(),
            text,
        }
    }

    fn with(&mut self, name: &str) -> &str {
        self.text.truncate(self.folder);
        self.text.push_str(name);
        &self.text
    }
}

#[expect(
    clippy::unnecessary_cast,
    reason = "the field's type differs between platforms"
)]
fn mode(stat: &Stat) -> u16 {
    (stat.st_mode as u32 & 0o7777) as u16
}

fn not_utf8() -> io::Error {
    io::Error::other("its name is not UTF-8, which Docker insists on")
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
    let mut next = listing.places.start;
    let folders = listing.folders.iter().map(|it| (it.at + 1, Some(it)));
    for (end, folder) in folders.chain([(listing.places.end, None)]) {
        while let Some(at) = unread.next_if(|at| *at < end) {
            unknown.push(entries.len() + at - next);
        }
        entries.append(found, next..end);
        next = end;
        let Some(folder) = folder else { break };
        let before = entries.len();
        assemble(listings, found, folder.number, entries, unknown);
        // An ignored folder is sent only when something in it is.
        if folder.ignored && entries.len() == before {
            entries.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use proptest::prelude::*;

    use super::*;
    use crate::build::context::Context;

    #[derive(Debug, Clone)]
    enum Edit {
        Write(String, u8),
        Folder(String),
        Link(String, String),
        Mode(String, u32),
        Remove(String),
        Move(String, String),
    }

    fn path() -> impl Strategy<Value = String> {
        proptest::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"))
    }

    fn edit() -> impl Strategy<Value = Edit> {
        prop_oneof![
            4 => (path(), any::<u8>()).prop_map(|(path, content)| Edit::Write(path, content)),
            4 => path().prop_map(Edit::Folder),
            1 => (path(), path()).prop_map(|(path, target)| Edit::Link(path, target)),
            1 => (path(), prop_oneof![Just(0o700), Just(0o755)]).prop_map(|(path, mode)| Edit::Mode(path, mode)),
            2 => path().prop_map(Edit::Remove),
            2 => (path(), path()).prop_map(|(from, to)| Edit::Move(from, to)),
        ]
    }

    /// Makes an edit, if it can be made, and tells of it as a watcher of all folders does.
    fn make(root: &Path, edit: &Edit, heard: &mut BTreeSet<PathBuf>) {
        let mut tell = |path: &str| heard.insert(root.join(path));
        // What is done through a link is told of where it leads.
        let links = |path: &str| root.join(path).ancestors().any(Path::is_symlink);
        match edit {
            Edit::Link(path, _) | Edit::Folder(path) | Edit::Write(path, _) if links(path) => {}
            Edit::Mode(path, _) | Edit::Remove(path) if links(path) => {}
            Edit::Move(from, to) if links(from) || links(to) => {}
            Edit::Write(path, content) => {
                // Of another length each time, for clocks of file systems tick.
                if fs::write(root.join(path), vec![b'x'; usize::from(*content)]).is_ok() {
                    tell(path);
                }
            }
            Edit::Folder(path) => {
                if fs::create_dir(root.join(path)).is_ok() {
                    tell(path);
                }
            }
            Edit::Link(path, target) => {
                if symlink(target, root.join(path)).is_ok() {
                    tell(path);
                }
            }
            Edit::Mode(path, mode) => {
                let mode = fs::Permissions::from_mode(*mode);
                if fs::set_permissions(root.join(path), mode).is_ok() {
                    tell(path);
                }
            }
            Edit::Remove(path) => {
                let gone = root.join(path);
                if fs::remove_file(&gone).is_ok() || fs::remove_dir_all(&gone).is_ok() {
                    tell(path);
                }
            }
            Edit::Move(from, to) => {
                if fs::rename(root.join(from), root.join(to)).is_ok() {
                    tell(from);
                    tell(to);
                }
            }
        }
    }

    /// All that is in it, but for the times of folders, which nobody asks for.
    fn said(context: &Context) -> Vec<Entry<&str>> {
        let mut entries: Vec<_> = context.entries.iter().collect();
        for entry in &mut entries {
            entry.mtime_ns *= i64::from(entry.what != What::Folder);
        }
        entries
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_was_heard_of_is_enough(
            ignore in prop_oneof![Just(""), Just("b\n!b/a"), Just("*\n!a"), Just("**/c\n!a/c/b"), Just("a/b\n**/a/c")],
            rounds in proptest::collection::vec(proptest::collection::vec(edit(), 1..12), 1..5),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path();
            let ignore = Dockerignore::parse(ignore).unwrap();
            let mut digests = Digests::default();
            let mut context = Context::read(root, &ignore, &mut digests).unwrap();
            for edits in rounds {
                let mut heard = BTreeSet::new();
                edits.iter().for_each(|edit| make(root, edit, &mut heard));
                context = context.read_again(&heard, &ignore, &mut digests).unwrap();
                let anew = Context::read(root, &ignore, &mut digests).unwrap();
                prop_assert_eq!(said(&context), said(&anew));
            }
        }
    }

    #[test]
    fn only_what_was_heard_of_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        for path in ["top", "a/one", "a/b/two"] {
            write(path, "old");
        }
        let (ignore, mut digests) = (Dockerignore::default(), Digests::default());
        let before = Context::read(root, &ignore, &mut digests).unwrap();
        for path in ["top", "a/one", "a/b/two"] {
            write(path, "newer");
        }
        let newer = |heard: &[&str], digests: &mut Digests| {
            let heard = heard.iter().map(|path| root.join(path)).collect();
            let again = before.read_again(&heard, &ignore, digests).unwrap();
            let changed = again
                .entries
                .iter()
                .filter(|it| before.entries.find(it.path) != Some(*it));
            changed
                .map(|entry| entry.path.to_owned())
                .collect::<Vec<_>>()
        };
        for (heard, changed) in [
            (&[][..], &[][..]),
            (&["a/one"], &["a/one"]),
            (&["a/one", "a/b/two"], &["a/b/two", "a/one"]),
            (&["a/b/new"], &["a/b/two"]),
            (&["top"], &["top"]),
            (&["a/b"], &["a/b/two", "a/one"]),
            (&[""], &["a/b/two", "a/one", "top"]),
            (&["/elsewhere"], &[]),
        ] {
            assert_eq!(newer(heard, &mut digests), changed, "{heard:?}");
        }
    }
}
