//! Digests of files' contents, remembered by what the file system says of a file, so that an unchanged file is not
//! read again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, Stat};

/// The first half of blake3 of a file's content: a name for it, that many files have to be kept by.
pub type Digest = [u8; 16];

/// A file that changed this short a time ago may change again without its times changing, since clocks of file
/// systems tick. Its digest is not remembered.
const RACY_NS: i64 = 50_000_000;
const MAGIC: &[u8; 8] = b"llmdevD2";
const RECORD: usize = 56;

/// A file on this machine, whatever its name is: inode, then device, whose number has 32 bits at most.
type Inode = (u64, u32);

/// What changes when the content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
}

/// Flat, since there is one for each file that is watched.
#[derive(Debug)]
struct Known {
    ino: u64,
    stamp: Stamp,
    digest: Digest,
    dev: u32,
    /// By the walk, which asks from several threads.
    seen: AtomicBool,
}

impl Known {
    fn inode(&self) -> Inode {
        (self.ino, self.dev)
    }
}

/// What is remembered.
#[derive(Debug, Default)]
pub struct Digests {
    /// By inode: a hash table would keep up to as many places free. The walk asks for neighbours one after the other.
    known: Vec<Known>,
    changed: bool,
}

/// A digest that was worked out just now.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// Of the whole content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    inode: Inode,
    stamp: Stamp,
    settled: bool,
}

impl Digests {
    /// What an earlier process wrote. A file that is missing, torn or of another version is an empty memory.
    pub fn load(path: &Path) -> Self {
        let known = std::fs::read(path)
            .ok()
            .and_then(|bytes| decode(&bytes))
            .unwrap_or_default();
        Digests {
            known,
            changed: false,
        }
    }

    /// Writes it down if there is anything new, atomically.
    pub fn save(&mut self, path: &Path) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let written =
            File::create(&partial).and_then(|mut file| file.write_all(&encode(&self.known)));
        match written.and_then(|()| std::fs::rename(&partial, path)) {
            Ok(()) => {
                self.changed = false;
                Ok(())
            }
            Err(error) => {
                let _ = std::fs::remove_file(&partial);
                Err(error)
            }
        }
    }

    /// The digest of a file whose status is this, if it is known.
    pub fn get(&self, stat: &Stat) -> Option<Digest> {
        let (inode, stamp) = identify(stat);
        let at = self.known.binary_search_by_key(&inode, Known::inode).ok()?;
        let known = &self.known[at];
        if known.stamp != stamp {
            return None;
        }
        known.seen.store(true, Ordering::Relaxed);
        Some(known.digest)
    }

    /// Remembers what [`digest`] found.
    pub fn learn<'a>(&mut self, fresh: impl Iterator<Item = &'a Fresh>) {
        let before = self.known.len();
        self.known
            .extend(fresh.filter(|one| one.settled).map(Known::from));
        if self.known.len() == before {
            return;
        }
        // Of two words on a file the newer one stands second, and is to stay.
        self.known.sort_by_key(Known::inode);
        self.known.dedup_by(|newer, older| {
            let same = newer.inode() == older.inode();
            if same {
                std::mem::swap(newer, older);
            }
            same
        });
        self.known.shrink_to_fit();
        self.changed = true;
    }

    /// Forgets what nobody asked for since the last time, so that it does not grow for ever.
    pub fn sweep(&mut self) {
        let before = self.known.len();
        self.known
            .retain_mut(|known| std::mem::take(known.seen.get_mut()));
        if self.known.len() != before {
            self.known.shrink_to_fit();
            self.changed = true;
        }
    }

    /// How many files are remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

impl From<&Fresh> for Known {
    fn from(fresh: &Fresh) -> Self {
        let (ino, dev) = fresh.inode;
        Known {
            ino,
            stamp: fresh.stamp,
            digest: fresh.digest,
            dev,
            seen: AtomicBool::new(true),
        }
    }
}

/// The digest of all that a hasher was given.
pub fn of(hasher: &blake3::Hasher) -> Digest {
    let mut digest = Digest::default();
    hasher.finalize_xof().fill(&mut digest);
    digest
}

/// The digest of a content.
pub fn of_bytes(content: &[u8]) -> Digest {
    of(blake3::Hasher::new().update(content))
}

/// Reads a file; again if it changes meanwhile, up to three times.
pub fn digest(path: &Path) -> io::Result<Fresh> {
    let mut buffer = vec![0; 128 * 1024];
    for _ in 0..3 {
        let mut file = open(path)?;
        let before = rustix::fs::fstat(&file)?;
        let mut hasher = blake3::Hasher::new();
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            };
        }
        let after = rustix::fs::fstat(&file)?;
        let (inode, stamp) = identify(&after);
        if identify(&before) == (inode, stamp) && hasher.count() == stamp.size {
            let settled = stamp.ctime_ns.max(stamp.mtime_ns) < now_ns() - RACY_NS;
            return Ok(Fresh {
                digest: of(&hasher),
                size: stamp.size,
                mtime_ns: stamp.mtime_ns,
                inode,
                stamp,
                settled,
            });
        }
    }
    Err(io::Error::other("it changes while it is read"))
}

/// Opens a regular file for reading; never follows a link, never waits for a pipe's other end.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Nanoseconds since 1970 of a file's last change of content.
#[expect(
    clippy::unnecessary_cast,
    reason = "the fields' types differ between platforms"
)]
pub fn mtime_ns(stat: &Stat) -> i64 {
    (stat.st_mtime as i64)
        .saturating_mul(1_000_000_000)
        .saturating_add(stat.st_mtime_nsec as i64)
}

#[expect(
    clippy::unnecessary_cast,
    reason = "the fields' types differ between platforms"
)]
fn identify(stat: &Stat) -> (Inode, Stamp) {
    let ctime_ns = (stat.st_ctime as i64).saturating_mul(1_000_000_000);
    let stamp = Stamp {
        size: stat.st_size as u64,
        mtime_ns: mtime_ns(stat),
        ctime_ns: ctime_ns.saturating_add(stat.st_ctime_nsec as i64),
    };
    ((stat.st_ino as u64, stat.st_dev as u32), stamp)
}

fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn encode(known: &[Known]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40 + known.len() * RECORD);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[0; 32]);
    for known in known {
        let stamp = known.stamp;
        let times = [stamp.mtime_ns as u64, stamp.ctime_ns as u64];
        let place = [u64::from(known.dev), known.ino, stamp.size];
        for number in place.into_iter().chain(times) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&known.digest);
    }
    let check = *blake3::hash(&bytes[40..]).as_bytes();
    bytes[8..40].copy_from_slice(&check);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<Known>> {
    let records = bytes.strip_prefix(MAGIC)?;
    let (check, records) = records.split_at_checked(32)?;
    if blake3::hash(records).as_bytes() != check || records.len() % RECORD != 0 {
        return None;
    }
    let record = |record: &[u8]| {
        let number = |at: usize| {
            u64::from_le_bytes(record[at * 8..at * 8 + 8].try_into().expect("eight bytes"))
        };
        Known {
            ino: number(1),
            stamp: Stamp {
                size: number(2),
                mtime_ns: number(3) as i64,
                ctime_ns: number(4) as i64,
            },
            digest: record[40..].try_into().expect("16 bytes"),
            dev: number(0) as u32,
            seen: AtomicBool::new(false),
        }
    };
    let mut known: Vec<Known> = records.chunks_exact(RECORD).map(record).collect();
    known.sort_unstable_by_key(Known::inode);
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(path: &Path, content: &str) -> Stat {
        std::fs::write(path, content).unwrap();
        let stat = rustix::fs::stat(path).unwrap();
        while identify(&stat).1.ctime_ns >= now_ns() - RACY_NS {
            std::thread::yield_now();
        }
        stat
    }

    #[test]
    fn a_file_is_known_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let stat = settled(&path, "one");
        let mut digests = Digests::default();
        assert_eq!(digests.get(&stat), None);
        let fresh = digest(&path).unwrap();
        digests.learn([&fresh].into_iter());
        assert_eq!(digests.get(&stat), Some(fresh.digest));
        let stat = settled(&path, "two");
        assert_eq!(digests.get(&stat), None);
    }

    #[test]
    fn a_file_just_written_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // In the future, as on a server whose clock is ahead.
        let file = File::create(&path).unwrap();
        file.set_modified(SystemTime::now() + std::time::Duration::from_secs(60))
            .unwrap();
        let mut digests = Digests::default();
        digests.learn([&digest(&path).unwrap()].into_iter());
        assert_eq!(digests.len(), 0);
    }

    #[test]
    fn it_survives_the_process_and_a_torn_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let cache = folder.path().join("digests");
        let stat = settled(&path, "one");
        let mut digests = Digests::default();
        digests.learn([&digest(&path).unwrap()].into_iter());
        digests.save(&cache).unwrap();
        assert_eq!(Digests::load(&cache).get(&stat), Some(of_bytes(b"one")));
        let mut bytes = std::fs::read(&cache).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&cache, bytes).unwrap();
        assert!(Digests::load(&cache).is_empty());
        assert!(Digests::load(&folder.path().join("none")).is_empty());
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        settled(&path, "one");
        let mut digests = Digests::default();
        digests.learn([&digest(&path).unwrap()].into_iter());
        digests.sweep();
        assert_eq!(digests.len(), 1);
        digests.sweep();
        assert_eq!(digests.len(), 0);
    }

    #[test]
    fn of_two_words_on_a_file_the_newer_counts_and_nothing_is_kept_free() {
        let folder = tempfile::tempdir().unwrap();
        let mut digests = Digests::default();
        let mut all = Vec::new();
        for round in ["one", "two"] {
            all.clear();
            for number in 0..100 {
                let path = folder.path().join(number.to_string());
                settled(&path, round);
                all.push((rustix::fs::stat(&path).unwrap(), digest(&path).unwrap()));
            }
            digests.learn(all.iter().map(|(_, fresh)| fresh));
            digests.learn(all[..1].iter().map(|(_, fresh)| fresh));
        }
        assert_eq!((digests.len(), digests.known.capacity()), (100, 100));
        assert_eq!(size_of::<Known>(), 56);
        for (stat, fresh) in &all {
            assert_eq!(digests.get(stat), Some(fresh.digest));
        }
    }
}
