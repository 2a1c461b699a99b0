//! Digests of files' contents, remembered by what the file system says of a file, so that an unchanged file is not
//! read again.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, Stat};

/// blake3 of a file's content.
pub type Digest = [u8; 32];

/// A file that changed this short a time ago may change again without its times changing, since clocks of file
/// systems tick. Its digest is not remembered.
const RACY_NS: i64 = 50_000_000;
const MAGIC: &[u8; 8] = b"llmdevD1";
const RECORD: usize = 72;

/// A file on this machine, whatever its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inode {
    dev: u64,
    ino: u64,
}

/// Keeps inodes of neighbouring numbers, which are mostly asked for one after the other, close to each other in memory.
#[derive(Debug, Default)]
struct Near(u64);

impl Hasher for Near {
    fn finish(&self) -> u64 {
        // The table takes the place from the low bits, and tells entries apart by the high ones.
        self.0 ^ (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xff << 56)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = self.0.rotate_left(32).wrapping_add(number);
    }
}

type Table = HashMap<Inode, Known, BuildHasherDefault<Near>>;

/// What changes when the content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    digest: Digest,
    /// By the walk, which asks from several threads.
    seen: AtomicBool,
}

/// What is remembered.
#[derive(Debug, Default)]
pub struct Digests {
    known: Table,
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
        let known = self
            .known
            .get(&inode)
            .filter(|known| known.stamp == stamp)?;
        known.seen.store(true, Ordering::Relaxed);
        Some(known.digest)
    }

    /// Remembers what [`digest`] found.
    pub fn put(&mut self, fresh: &Fresh) {
        if fresh.settled {
            let known = Known {
                stamp: fresh.stamp,
                digest: fresh.digest,
                seen: AtomicBool::new(true),
            };
            self.known.insert(fresh.inode, known);
            self.changed = true;
        }
    }

    /// Forgets what nobody asked for since the last time, so that it does not grow for ever.
    pub fn sweep(&mut self) {
        let before = self.known.len();
        self.known
            .retain(|_, known| std::mem::take(known.seen.get_mut()));
        self.changed |= self.known.len() != before;
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
            let digest = *hasher.finalize().as_bytes();
            return Ok(Fresh {
                digest,
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
    (
        Inode {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
        },
        stamp,
    )
}

fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn encode(known: &Table) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40 + known.len() * RECORD);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[0; 32]);
    for (inode, Known { stamp, digest, .. }) in known {
        let times = [stamp.mtime_ns as u64, stamp.ctime_ns as u64];
        for number in [inode.dev, inode.ino, stamp.size].into_iter().chain(times) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(digest);
    }
    let check = *blake3::hash(&bytes[40..]).as_bytes();
    bytes[8..40].copy_from_slice(&check);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Table> {
    let records = bytes.strip_prefix(MAGIC)?;
    let (check, records) = records.split_at_checked(32)?;
    if blake3::hash(records).as_bytes() != check || records.len() % RECORD != 0 {
        return None;
    }
    let record = |record: &[u8]| {
        let number = |at: usize| {
            u64::from_le_bytes(record[at * 8..at * 8 + 8].try_into().expect("eight bytes"))
        };
        let stamp = Stamp {
            size: number(2),
            mtime_ns: number(3) as i64,
            ctime_ns: number(4) as i64,
        };
        let digest = record[40..].try_into().expect("32 bytes");
        (
            Inode {
                dev: number(0),
                ino: number(1),
            },
            Known {
                stamp,
                digest,
                seen: AtomicBool::new(false),
            },
        )
    };
    Some(records.chunks_exact(RECORD).map(record).collect())
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
        digests.put(&fresh);
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
        digests.put(&digest(&path).unwrap());
        assert_eq!(digests.len(), 0);
    }

    #[test]
    fn it_survives_the_process_and_a_torn_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let cache = folder.path().join("digests");
        let stat = settled(&path, "one");
        let mut digests = Digests::default();
        digests.put(&digest(&path).unwrap());
        digests.save(&cache).unwrap();
        assert_eq!(
            Digests::load(&cache).get(&stat),
            Some(*blake3::hash(b"one").as_bytes())
        );
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
        digests.put(&digest(&path).unwrap());
        digests.sweep();
        assert_eq!(digests.len(), 1);
        digests.sweep();
        assert_eq!(digests.len(), 0);
    }
}
