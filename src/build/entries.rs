//! What a build context holds, in little memory: a stack that is up keeps a list of it for each context.

use std::cmp::Ordering;
use std::ops::Range;

use super::digests::Digest;

/// One file, link or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<T> {
    /// Relative to the context, with `/` between its parts.
    pub path: T,
    /// Permissions, setuid, setgid and sticky bits.
    pub mode: u16,
    /// Nanoseconds since 1970. Does not count for the image.
    pub mtime_ns: i64,
    /// What it is.
    pub what: What<T>,
}

/// What an [`Entry`] is. Sockets, pipes and devices are not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<T> {
    /// A folder.
    Folder,
    /// A symbolic link and where it leads.
    Link(T),
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Of the content.
        digest: Digest,
    },
}

impl What<Box<str>> {
    /// The same, with the texts left where they are.
    pub fn as_deref(&self) -> What<&str> {
        match self {
            What::Folder => What::Folder,
            What::Link(target) => What::Link(target),
            What::File { size, digest } => What::File {
                size: *size,
                digest: *digest,
            },
        }
    }
}

/// Entries, each folder before what is in it, names in the order of their bytes: [`in_walk`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// All paths, one after the other, each with the target of its link.
    texts: String,
    records: Vec<Record>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    mtime_ns: i64,
    /// Of a file; of a link, how long its target is.
    size: u64,
    digest: Digest,
    /// Where its texts end.
    end: u32,
    mode: u16,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    Link,
    File,
}

impl Entries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds one behind all others.
    pub fn push<T: AsRef<str>>(&mut self, entry: Entry<T>) {
        self.texts.push_str(entry.path.as_ref());
        let (kind, size, digest) = match &entry.what {
            What::Folder => (Kind::Folder, 0, Digest::default()),
            What::Link(target) => {
                let target = target.as_ref();
                self.texts.push_str(target);
                (Kind::Link, target.len() as u64, Digest::default())
            }
            What::File { size, digest } => (Kind::File, *size, *digest),
        };
        self.records.push(Record {
            mtime_ns: entry.mtime_ns,
            size,
            digest,
            end: u32::try_from(self.texts.len()).expect("less than 4 GiB of paths"),
            mode: entry.mode,
            kind,
        });
    }

    /// Adds some of others, which stand one after the other there, behind all.
    pub fn append(&mut self, others: &Entries, which: Range<usize>) {
        let from = others.start(which.start);
        let to = others.start(which.end);
        let base = self.texts.len();
        self.texts.push_str(&others.texts[from..to]);
        u32::try_from(self.texts.len()).expect("less than 4 GiB of paths");
        let moved = others.records[which].iter().map(|record| Record {
            end: (record.end as usize - from + base) as u32,
            ..*record
        });
        self.records.extend(moved);
    }

    /// Where the texts of the one at a place begin.
    fn start(&self, index: usize) -> usize {
        let before = index.checked_sub(1).and_then(|at| self.records.get(at));
        before.map_or(0, |before| before.end as usize)
    }

    /// Takes the last one away.
    pub fn pop(&mut self) {
        self.records.pop();
        let end = self.records.last().map_or(0, |last| last.end);
        self.texts.truncate(end as usize);
    }

    /// What a file's content turned out to be.
    pub fn set_file(&mut self, index: usize, mtime_ns: i64, size: u64, digest: Digest) {
        let record = &mut self.records[index];
        (record.mtime_ns, record.size, record.digest) = (mtime_ns, size, digest);
    }

    /// Gives back what is kept for more of them.
    pub fn shrink_to_fit(&mut self) {
        self.texts.shrink_to_fit();
        self.records.shrink_to_fit();
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<&str>> {
        (0..self.records.len()).filter_map(|index| self.get(index))
    }

    /// The one at a place.
    pub fn get(&self, index: usize) -> Option<Entry<&str>> {
        let record = self.records.get(index)?;
        let text = &self.texts[self.start(index)..record.end as usize];
        let (path, what) = match record.kind {
            Kind::Folder => (text, What::Folder),
            Kind::Link => {
                let (path, target) = text.split_at(text.len() - record.size as usize);
                (path, What::Link(target))
            }
            Kind::File => {
                let (size, digest) = (record.size, record.digest);
                (text, What::File { size, digest })
            }
        };
        Some(Entry {
            path,
            mode: record.mode,
            mtime_ns: record.mtime_ns,
            what,
        })
    }

    /// The one of a path.
    pub fn find(&self, path: &str) -> Option<Entry<&str>> {
        self.get(self.position(path)?)
    }

    /// Where the contents of a folder are, with all that is below it: behind it. The empty path is that of all.
    pub fn inside(&self, folder: &str) -> Option<Range<usize>> {
        if folder.is_empty() {
            return Some(0..self.len());
        }
        let at = self.position(folder)?;
        if self.get(at)?.what != What::Folder {
            return None;
        }
        let below = |entry: Entry<&str>| {
            let rest = entry.path.strip_prefix(folder);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let (mut low, mut high) = (at + 1, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle).is_some_and(below) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(at + 1..low)
    }

    fn position(&self, path: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.records.len());
        while low < high {
            let middle = low.midpoint(high);
            let entry = self.get(middle)?;
            match in_walk(entry.path, path) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(middle),
            }
        }
        None
    }
}

impl<T: AsRef<str>> FromIterator<Entry<T>> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry<T>>>(all: I) -> Self {
        let mut entries = Entries::default();
        all.into_iter().for_each(|entry| entries.push(entry));
        entries.shrink_to_fit();
        entries
    }
}

/// The order of a context's entries: a folder, what is in it, and then its next neighbour.
pub fn in_walk(a: &str, b: &str) -> Ordering {
    let key = |byte: u8| if byte == b'/' { 0 } else { byte };
    a.bytes().map(key).cmp(b.bytes().map(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(path: &'a str, what: What<&'a str>) -> Entry<&'a str> {
        Entry {
            path,
            mode: 0o644,
            mtime_ns: -1,
            what,
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let file = What::File {
            size: u64::MAX,
            digest: [7; 16],
        };
        let all = [
            entry("a", What::Folder),
            entry("a/l", What::Link("../ö")),
            entry("a/ä", file),
            entry("a-b", What::Link("")),
            entry("z", file),
        ];
        let entries: Entries = all.into_iter().collect();
        assert_eq!(entries.iter().collect::<Vec<_>>(), all);
        assert_eq!(entries.get(all.len()), None);
        let mut fewer = entries.clone();
        fewer.pop();
        assert_eq!(fewer, all[..all.len() - 1].iter().copied().collect());
        fewer.push(entry(
            "z",
            What::File {
                size: 0,
                digest: [0; 16],
            },
        ));
        fewer.set_file(all.len() - 1, -1, u64::MAX, [7; 16]);
        assert_eq!(fewer, entries);
        let mut parts = Entries::default();
        for part in [0..2, 2..2, 2..all.len()] {
            parts.append(&entries, part);
        }
        assert_eq!(parts, entries);
        let mut middle = Entries::default();
        middle.append(&entries, 1..3);
        assert_eq!(middle, all[1..3].iter().copied().collect());
        for one in all {
            assert_eq!(entries.find(one.path), Some(one));
        }
        for none in ["", "a/", "b", "zz"] {
            assert_eq!(entries.find(none), None, "{none}");
        }
        assert_eq!(entries.inside(""), Some(0..5));
        assert_eq!(entries.inside("a"), Some(1..3));
        assert_eq!((entries.inside("a-b"), entries.inside("b")), (None, None));
        assert_eq!(Entries::default().find("a"), None);
    }

    #[test]
    fn twenty_thousand_files_take_little() {
        let paths: Vec<_> = (0..20_000).map(|n| format!("{}/{n}", n / 100)).collect();
        let file = What::File {
            size: 1,
            digest: [1; 16],
        };
        let entries: Entries = paths.iter().map(|path| entry(path, file)).collect();
        let text: usize = paths.iter().map(String::len).sum();
        let taken = entries.texts.capacity() + entries.records.capacity() * size_of::<Record>();
        assert_eq!(taken, text + 20_000 * 40);
    }
}
