//! Files below a container's root, written from outside of it.
//!
//! The root is `/proc/<pid>/root`, seen with the container's own mounts. Every path is resolved by the kernel with
//! `openat2` and `RESOLVE_IN_ROOT`: `..` and absolute symlinks end at the container's root, as for a process in it, so
//! nothing outside of it is ever touched, even if the container changes its links meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, StatxFlags, Uid, fchmod, fchown,
    fstat, mkdirat, openat, openat2, readlinkat, renameat, statat, statx, unlinkat,
};
use rustix::io::Errno;

use super::wire::{Change, Done};

/// A container's root.
pub struct Root(OwnedFd);

/// As many links as the kernel follows.
const LINKS: usize = 40;

/// How often a path with `..` in it is resolved, as long as things are renamed meanwhile.
const TRIES: usize = 1000;

impl Root {
    /// The root that a process has.
    pub fn of(pid: u32) -> io::Result<Root> {
        Root::at(Path::new(&format!("/proc/{pid}/root")))
    }

    /// Any folder.
    pub fn at(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Does one change; `content` is what the file shall have.
    pub fn apply(&self, change: &Change, content: &[u8]) -> Done {
        let done = match &change.put {
            Some(put) => self.put(&change.path, content, put.mode),
            None => self.delete(&change.path),
        };
        done.unwrap_or_else(|error| Done::Failed {
            read_only: error == Errno::ROFS,
            why: explained(error, &change.path),
        })
    }

    fn open_folder(&self, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.is_empty() { "." } else { path };
        let open = || openat2(&self.0, path, flags, Mode::empty(), inside);
        // While anything is renamed anywhere, the kernel cannot tell that `..` stays below the root.
        let mut tries = std::iter::repeat_with(open).take(TRIES);
        tries
            .find(|folder| !matches!(folder, Err(Errno::AGAIN)))
            .unwrap_or(Err(Errno::AGAIN))
    }

    /// The folder, made with those above it where they are missing.
    fn make_folder(&self, path: &str) -> Result<OwnedFd, Errno> {
        match self.open_folder(path) {
            Err(Errno::NOENT) => {}
            done => return done,
        }
        let (above, name) = split(path).ok_or(Errno::NOENT)?;
        let parent = self.make_folder(above)?;
        match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let owner = fstat(&parent)?;
                let made = self.open_folder(path)?;
                give(&made, &owner)?;
                Ok(made)
            }
            Err(Errno::EXIST) => self.open_folder(path),
            Err(error) => Err(error),
        }
    }

    /// Where a path leads once the links at its end are followed. The kernel resolves what is put together here.
    fn followed(&self, path: &str) -> Result<String, Errno> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let (above, name) = split(&path).ok_or(Errno::ISDIR)?;
            let parent = match self.open_folder(above) {
                Err(Errno::NOENT) => return Ok(path),
                parent => parent?,
            };
            match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if file_type(&stat) == FileType::Symlink => {
                    let target = readlinkat(&parent, name, Vec::new())?;
                    let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
                    path = match target.starts_with('/') {
                        true => target.to_owned(),
                        false => format!("{above}/{target}"),
                    };
                }
                _ => return Ok(path),
            }
        }
        Err(Errno::LOOP)
    }

    fn put(&self, path: &str, content: &[u8], mode: u32) -> Result<Done, Errno> {
        let path = self.followed(path)?;
        let (above, name) = split(&path).ok_or(Errno::ISDIR)?;
        let parent = self.make_folder(above)?;
        let old = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if file_type(&stat) == FileType::RegularFile => Some(stat),
            Ok(stat) if file_type(&stat) == FileType::Directory => return Err(Errno::ISDIR),
            // Sockets, devices and links that came just now are not written through.
            Ok(_) => return Err(Errno::EXIST),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        if old.is_some() && is_mount(&parent, name)? {
            return in_place(&parent, name, content);
        }
        replace(&parent, name, content, old.as_ref(), mode)
    }

    fn delete(&self, path: &str) -> Result<Done, Errno> {
        let (above, name) = split(path).ok_or(Errno::ISDIR)?;
        let parent = match self.open_folder(above) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Done::Absent),
            parent => parent?,
        };
        match is_mount(&parent, name) {
            Ok(true) => return Err(Errno::BUSY),
            Err(Errno::NOENT) => return Ok(Done::Absent),
            mount => mount?,
        };
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) => Ok(Done::Deleted),
            Err(Errno::NOENT) => Ok(Done::Absent),
            Err(error) => Err(error),
        }
    }
}

/// The folder and the last name of a path; none for the root, and for what ends in a dot.
fn split(path: &str) -> Option<(&str, &OsStr)> {
    let path = path.trim_end_matches('/');
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    (!matches!(name, "" | "." | "..")).then(|| (above, OsStr::from_bytes(name.as_bytes())))
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A new file beside the one to be replaced, readable by nobody else yet.
fn new_file(parent: &OwnedFd) -> Result<(String, OwnedFd), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for attempt in 0..16_u32 {
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |time| time.as_nanos());
        let name = format!(".llmdev-{now:x}-{attempt}");
        match openat(parent, name.as_str(), flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => {}
            made => return Ok((name, made?)),
        }
    }
    Err(Errno::EXIST)
}

/// Whether something is mounted right there. The kernel lets go of another namespace's mount when the name below it is
/// replaced or deleted, so it has to be asked first.
fn is_mount(parent: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
    let here = statx(parent, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    let there = statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID)?;
    Ok(here.stx_mnt_id != there.stx_mnt_id)
}

fn replace(
    parent: &OwnedFd,
    name: &OsStr,
    content: &[u8],
    old: Option<&Stat>,
    mode: u32,
) -> Result<Done, Errno> {
    let (owner, mode) = match old {
        Some(old) => (*old, old.st_mode & 0o7777),
        None => (fstat(parent)?, mode & 0o777),
    };
    let (temporary, file) = new_file(parent)?;
    let renamed = write(&file, content)
        .and_then(|()| give(&file, &owner))
        .and_then(|()| fchmod(&file, Mode::from_raw_mode(mode)))
        .and_then(|()| renameat(parent, temporary.as_str(), parent, name));
    if renamed.is_err() {
        let _ = unlinkat(parent, temporary.as_str(), AtFlags::empty());
    }
    renamed.map(|()| Done::Replaced)
}

fn in_place(parent: &OwnedFd, name: &OsStr, content: &[u8]) -> Result<Done, Errno> {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::empty())?;
    write(&file, content)?;
    Ok(Done::InPlace)
}

fn write(file: &OwnedFd, content: &[u8]) -> Result<(), Errno> {
    let copy = file.try_clone().map(File::from);
    copy.and_then(|mut file| file.write_all(content))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn give(to: &impl AsFd, owner: &Stat) -> Result<(), Errno> {
    fchown(
        to,
        Some(Uid::from_raw(owner.st_uid)),
        Some(Gid::from_raw(owner.st_gid)),
    )
}

fn explained(error: Errno, path: &str) -> String {
    match error {
        Errno::ROFS => format!("{path} is on a file system that is read-only in the container"),
        Errno::ISDIR => format!("{path} is a folder in the container"),
        Errno::NOTDIR => format!("a folder of {path} is a file in the container"),
        Errno::LOOP => format!("{path} is a symlink that leads in a circle in the container"),
        Errno::BUSY => format!("{path} is a mount of its own in the container"),
        Errno::NOSPC | Errno::DQUOT => "the node's disk is full".to_owned(),
        Errno::NOSYS => "the node's kernel is older than 5.6".to_owned(),
        error => format!("{path}: {}", io::Error::from(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::wire::Put;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn put(root: &Root, path: &str, content: &str) -> Done {
        let put = Put {
            size: content.len() as u64,
            mode: 0o644,
        };
        root.apply(
            &Change {
                path: path.into(),
                put: Some(put),
            },
            content.as_bytes(),
        )
    }

    fn delete(root: &Root, path: &str) -> Done {
        root.apply(
            &Change {
                path: path.into(),
                put: None,
            },
            &[],
        )
    }

    #[test]
    fn nothing_leaves_the_root() {
        let outer = tempfile::tempdir().unwrap();
        let inside = outer.path().join("root");
        fs::create_dir(&inside).unwrap();
        let secret = outer.path().join("secret");
        fs::write(&secret, "untouched").unwrap();
        symlink(&secret, inside.join("absolute")).unwrap();
        symlink("../secret", inside.join("relative")).unwrap();
        symlink(outer.path(), inside.join("folder")).unwrap();
        symlink("..", inside.join("up")).unwrap();
        symlink("circle", inside.join("circle")).unwrap();
        let root = Root::at(&inside).unwrap();
        for path in [
            "absolute",
            "relative",
            "folder/secret",
            "up/secret",
            "../secret",
            "/../../secret",
        ] {
            let done = put(&root, path, "changed");
            assert!(!matches!(done, Done::InPlace), "{path}: {done:?}");
            assert_eq!(fs::read_to_string(&secret).unwrap(), "untouched", "{path}");
            delete(&root, path);
            assert!(secret.exists(), "{path}");
        }
        assert!(
            matches!(put(&root, "circle", "x"), Done::Failed { why, .. } if why.contains("circle"))
        );
        assert_eq!(
            fs::read_dir(outer.path()).unwrap().count(),
            2,
            "nothing new outside"
        );
    }

    #[test]
    fn links_inside_lead_to_their_target() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("data")).unwrap();
        fs::create_dir_all(folder.path().join("app")).unwrap();
        fs::write(folder.path().join("data/real"), "old").unwrap();
        symlink("/data/real", folder.path().join("app/config")).unwrap();
        symlink("../data", folder.path().join("app/data")).unwrap();
        let root = Root::at(folder.path()).unwrap();
        assert_eq!(put(&root, "/app/config", "new"), Done::Replaced);
        assert_eq!(
            fs::read_to_string(folder.path().join("data/real")).unwrap(),
            "new"
        );
        assert!(folder.path().join("app/config").is_symlink());
        assert_eq!(put(&root, "/app/data/more/x", "y"), Done::Replaced);
        assert_eq!(
            fs::read_to_string(folder.path().join("data/more/x")).unwrap(),
            "y"
        );
    }

    #[test]
    fn links_are_followed_while_others_rename() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("app")).unwrap();
        fs::create_dir_all(folder.path().join("data")).unwrap();
        symlink("../data", folder.path().join("app/data")).unwrap();
        let root = Root::at(folder.path()).unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "").unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::rename(&one, &other).unwrap();
                    fs::rename(&other, &one).unwrap();
                }
            });
            let failed = (0..2000)
                .map(|_| put(&root, "/app/data/x", "y"))
                .find(|done| *done != Done::Replaced);
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(failed, None);
        });
    }

    #[test]
    fn modes_stay_and_no_trace_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("run.sh");
        fs::write(&old, "old").unwrap();
        fs::set_permissions(&old, fs::Permissions::from_mode(0o4751)).unwrap();
        let root = Root::at(folder.path()).unwrap();
        assert_eq!(put(&root, "/run.sh", "new"), Done::Replaced);
        assert_eq!(
            fs::metadata(&old).unwrap().permissions().mode() & 0o7777,
            0o4751
        );
        assert_eq!(put(&root, "/new", "new"), Done::Replaced);
        let new = fs::metadata(folder.path().join("new")).unwrap();
        assert_eq!(new.permissions().mode() & 0o7777, 0o644);
        assert!(matches!(put(&root, "/", "x"), Done::Failed { .. }));
        assert!(
            matches!(put(&root, "/new/below", "x"), Done::Failed { why, .. } if why.contains("a file"))
        );
        assert_eq!(delete(&root, "/new"), Done::Deleted);
        assert_eq!(delete(&root, "/new"), Done::Absent);
        assert_eq!(delete(&root, "/no/such/folder"), Done::Absent);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "only run.sh"
        );
    }
}
