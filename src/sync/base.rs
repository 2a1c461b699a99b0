//! What an image was made from, and what has become of that since.

use std::cmp::Ordering;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::build::ImagePlan;
use crate::build::context::Context;
use crate::build::digests::{self, Digest};
use crate::build::entries::{Entries, Entry, What, in_walk};

const MAGIC: &[u8; 8] = b"llmdevB2";

/// The image that a service runs, and the files that went into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The image.
    pub reference: String,
    /// Digest of all that went into it but the files.
    recipe: Digest,
    /// The files.
    pub context: Arc<Context>,
}

/// A file that is not as in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Relative to the build context.
    pub path: Box<str>,
    /// What it is now; none: it is gone.
    pub now: Option<Now>,
}

/// A file as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Of its content.
    pub digest: Digest,
    /// Permission bits.
    pub mode: u16,
}

impl Base {
    /// What an image that is built by this plan is made from.
    pub fn of(plan: &ImagePlan) -> Self {
        Base {
            reference: plan.reference.clone(),
            recipe: recipe(plan),
            context: Arc::clone(&plan.context),
        }
    }

    /// The files that differ; or what differs that cannot be put right by files.
    pub fn difference(&self, plan: &ImagePlan) -> Result<Vec<Changed>, String> {
        if self.recipe != recipe(plan) {
            return Err(plan.dockerfile_name.clone());
        }
        difference(&self.context.entries, &plan.context.entries)
    }

    /// Writes it down, atomically, for the next process.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        std::fs::write(&partial, self.encode()).and_then(|()| std::fs::rename(&partial, path))
    }

    /// What an earlier process wrote; none when it is missing, torn or of another version.
    pub fn load(path: &Path) -> Option<Self> {
        decode(&std::fs::read(path).ok()?)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[..8].copy_from_slice(MAGIC);
        put(&mut bytes, self.reference.as_bytes());
        put(&mut bytes, &self.recipe);
        put(&mut bytes, self.context.root.as_os_str().as_encoded_bytes());
        for entry in self.context.entries.iter() {
            put(&mut bytes, entry.path.as_bytes());
            bytes.extend_from_slice(&entry.mode.to_le_bytes());
            match &entry.what {
                What::Folder => bytes.push(b'd'),
                What::Link(target) => {
                    bytes.push(b'l');
                    put(&mut bytes, target.as_bytes());
                }
                What::File { size, digest } => {
                    bytes.push(b'f');
                    bytes.extend_from_slice(&size.to_le_bytes());
                    bytes.extend_from_slice(digest);
                }
            }
        }
        let check = *blake3::hash(&bytes[40..]).as_bytes();
        bytes[8..40].copy_from_slice(&check);
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text);
}

fn decode(bytes: &[u8]) -> Option<Base> {
    let (check, rest) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    if blake3::hash(rest).as_bytes() != check {
        return None;
    }
    let mut rest = Rest(rest);
    let reference = rest.text()?.to_owned();
    let recipe = rest.sized()?.try_into().ok()?;
    let root = PathBuf::from(rest.text()?);
    let mut entries: Vec<Entry<&str>> = Vec::new();
    while !rest.0.is_empty() {
        let path = rest.text()?;
        let mode = u16::from_le_bytes(rest.take()?);
        let what = match rest.take::<1>()? {
            [b'd'] => What::Folder,
            [b'l'] => What::Link(rest.text()?),
            [b'f'] => What::File {
                size: u64::from_le_bytes(rest.take()?),
                digest: rest.take()?,
            },
            _ => return None,
        };
        entries.push(Entry {
            path,
            mode,
            mtime_ns: 0,
            what,
        });
    }
    Some(Base {
        reference,
        recipe,
        context: Arc::new(Context {
            root,
            entries: entries.into_iter().collect(),
        }),
    })
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let size = u32::from_le_bytes(self.take()?);
        let (taken, rest) = self.0.split_at_checked(size as usize)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.sized()?).ok()
    }
}

/// Digest of the Dockerfile and of what `stack.yaml` says of the build.
fn recipe(plan: &ImagePlan) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let mut field = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    field(&plan.spec.image);
    field(&plan.dockerfile);
    field(plan.spec.target.as_deref().unwrap_or_default());
    plan.args
        .iter()
        .for_each(|(name, value)| [name, value].into_iter().for_each(|text| field(text)));
    field("secrets");
    plan.spec.secrets.keys().for_each(|id| field(id));
    digests::of(&hasher)
}

/// Walks both at once. A folder that comes or goes is no difference of its own: its files tell.
fn difference(base: &Entries, now: &Entries) -> Result<Vec<Changed>, String> {
    let (mut base, mut now) = (base.iter().peekable(), now.iter().peekable());
    let mut changed = Vec::new();
    loop {
        let order = match (base.peek(), now.peek()) {
            (None, None) => return Ok(changed),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => in_walk(old.path, new.path),
        };
        let old = if order.is_le() { base.next() } else { None };
        let new = if order.is_ge() { now.next() } else { None };
        changed.extend(one(old, new)?);
    }
}

fn one(old: Option<Entry<&str>>, new: Option<Entry<&str>>) -> Result<Option<Changed>, String> {
    let Some(path) = new.or(old).map(|entry| Box::from(entry.path)) else {
        return Ok(None);
    };
    let file = |entry: Entry<&str>| match entry.what {
        What::File { digest, .. } => Some(Now {
            digest,
            mode: entry.mode,
        }),
        _ => None,
    };
    match (old, new) {
        (Some(old), Some(new)) if old.mode == new.mode && old.what == new.what => Ok(None),
        (Some(old), Some(new)) => match (file(old), file(new)) {
            // A container's file keeps its mode.
            (Some(before), Some(now)) if before.mode == now.mode => Ok(Some(Changed {
                path,
                now: Some(now),
            })),
            _ => Err(path.into()),
        },
        (None, Some(entry)) | (Some(entry), None) => match (&entry.what, file(entry)) {
            (What::Folder, _) => Ok(None),
            (_, Some(now)) => Ok(Some(Changed {
                path,
                now: new.map(|_| now),
            })),
            _ => Err(path.into()),
        },
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn file(path: &str, content: u8) -> Entry<&str> {
        Entry {
            path,
            mode: 0o644,
            mtime_ns: 0,
            what: What::File {
                size: 1,
                digest: [content; 16],
            },
        }
    }

    fn folder(path: &str) -> Entry<&str> {
        Entry {
            path,
            mode: 0o755,
            mtime_ns: 0,
            what: What::Folder,
        }
    }

    fn said(
        base: &[Entry<&str>],
        now: &[Entry<&str>],
    ) -> Result<Vec<(String, Option<u8>)>, String> {
        let plain = |one: Changed| (one.path.to_string(), one.now.map(|now| now.digest[0]));
        let list = |all: &[Entry<&str>]| all.iter().copied().collect();
        difference(&list(base), &list(now)).map(|all| all.into_iter().map(plain).collect())
    }

    #[test]
    fn changes_are_found() {
        let base = [folder("a"), file("a/x", 1), file("a-b", 1), file("z", 1)];
        let now = [folder("a"), file("a/w", 2), file("a/x", 2), file("a-b", 1)];
        let expected = vec![
            ("a/w".into(), Some(2)),
            ("a/x".into(), Some(2)),
            ("z".into(), None),
        ];
        assert_eq!(said(&base, &now), Ok(expected));
        assert_eq!(said(&base, &base), Ok(vec![]));
        assert_eq!(said(&[], &[folder("new")]), Ok(vec![]));
    }

    #[test]
    fn what_files_cannot_put_right_is_named() {
        let link = Entry {
            what: What::Link("y"),
            ..file("x", 1)
        };
        let executable = Entry {
            mode: 0o755,
            ..file("x", 1)
        };
        for (base, now) in [
            (file("x", 1), executable),
            (file("x", 1), link),
            (folder("x"), file("x", 1)),
        ] {
            assert_eq!(said(&[base], &[now]), Err("x".to_owned()));
        }
        assert_eq!(said(&[], &[link]), Err("x".to_owned()));
    }

    #[test]
    fn it_survives_the_process_and_a_torn_file() {
        let link = Entry {
            what: What::Link("a/x"),
            ..file("l", 1)
        };
        let base = Base {
            reference: "llmdev.local/a/b:c".into(),
            recipe: [7; 16],
            context: Arc::new(Context {
                root: "/r".into(),
                entries: [folder("a"), file("a/x", 1), link].into_iter().collect(),
            }),
        };
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("bases/api");
        base.save(&path).unwrap();
        assert_eq!(Base::load(&path).as_ref(), Some(&base));
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Base::load(&path), None);
    }

    fn tree() -> impl Strategy<Value = BTreeMap<String, u8>> {
        let name = prop::sample::select(vec![
            "a", "a-b", "a/b", "a/b/c", "a.b", "b/a", "b/b-", "b/b/d", "ab",
        ]);
        prop::collection::btree_map(name.prop_map(|name| format!("{name}.f")), 0..3_u8, 0..9)
    }

    fn entries(tree: &BTreeMap<String, u8>) -> Vec<Entry<&str>> {
        let mut all: Vec<Entry<&str>> = tree
            .iter()
            .map(|(path, content)| file(path, *content))
            .collect();
        let folders: std::collections::BTreeSet<&str> = tree
            .keys()
            .flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at]))
            .collect();
        all.extend(folders.into_iter().map(folder));
        all.sort_by(|a, b| in_walk(a.path, b.path));
        all
    }

    proptest! {
        #[test]
        fn the_difference_makes_one_the_other(base in tree(), now in tree()) {
            let mut made = base.clone();
            for (path, content) in said(&entries(&base), &entries(&now)).unwrap() {
                match content {
                    Some(content) => made.insert(path, content),
                    None => made.remove(&path),
                };
            }
            prop_assert_eq!(made, now);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut whole = MAGIC.to_vec();
            whole.extend_from_slice(blake3::hash(&bytes).as_bytes());
            whole.extend(bytes);
            decode(&whole);
        }
    }
}
