//! What every container of a service is to hold, and what one lacks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::base::{Changed, Now};
use super::rules::Rules;
use crate::build::context::Context;
use crate::build::digests::Digest;
use crate::build::entries::What;
use crate::stack::SyncAfter;

/// One file that is not as in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Relative to the build context.
    pub source: Box<str>,
    /// Absolute, in the container.
    pub dest: String,
    /// None: the container that has the service's image.
    pub container: Option<String>,
    /// None: it is to be deleted.
    pub now: Option<Now>,
    /// What happens after it is there.
    pub after: SyncAfter,
}

/// What every container of a service that runs an image is to hold beyond the image.
#[derive(Debug)]
pub struct Wanted {
    /// The service.
    pub service: String,
    /// The image.
    pub reference: String,
    /// The files that are not as in the image.
    pub items: Vec<Item>,
    /// All files as they are.
    pub context: Arc<Context>,
    /// Where the files go.
    pub rules: Rules,
    /// The container's ports that are forwarded: they tell when a restarted program listens again.
    pub ports: Vec<u16>,
    /// When the change began that this came of.
    pub since: Instant,
    /// Grows with every one.
    pub number: u64,
}

/// A file that a container was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Had {
    /// Relative to the build context.
    pub source: Box<str>,
    /// Of its content; none: it was deleted.
    pub digest: Option<Digest>,
}

/// The digest of a file that was sent, or not: no content has it.
pub const UNKNOWN: Option<Digest> = Some([0; 16]);

/// What a container was sent, by where it is in the container.
pub type Record = BTreeMap<String, Had>;

impl Wanted {
    /// A number that is greater than all before.
    pub fn next_number() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// What is to be sent to a container. `own`: whether it has the service's image.
    ///
    /// What the container was sent earlier and is in the build context now as it is in the image goes back to that.
    pub fn lacks(&self, container: &str, own: bool, record: &Record) -> Vec<Item> {
        let concerns = |item: &&Item| {
            item.container
                .as_deref()
                .map_or(own, |name| name == container)
        };
        let items: Vec<&Item> = self.items.iter().filter(concerns).collect();
        let held = |item: &Item| {
            record
                .get(&item.dest)
                .is_some_and(|had| had.digest == item.now.map(|now| now.digest))
        };
        let mut lacks: Vec<Item> = items
            .iter()
            .filter(|item| !held(item))
            .map(|&item| item.clone())
            .collect();
        for (dest, had) in record {
            if !items.iter().any(|item| item.dest == *dest) {
                lacks.extend(self.back(dest, had).filter(|item| !held(item)));
            }
        }
        lacks
    }

    fn back(&self, dest: &str, had: &Had) -> Option<Item> {
        let change = Changed {
            path: had.source.clone(),
            now: self.now(&had.source),
        };
        let mut items = self.rules.items_of(&change);
        let at = items.iter().position(|item| item.dest == dest);
        // The rule may have gone; what it did is undone all the same.
        at.map(|at| items.swap_remove(at)).or(Some(Item {
            source: change.path,
            dest: dest.to_owned(),
            container: None,
            now: change.now,
            after: SyncAfter::Nothing,
        }))
    }

    fn now(&self, path: &str) -> Option<Now> {
        let entry = self.context.entries.find(path)?;
        match entry.what {
            What::File { digest, .. } => Some(Now {
                digest,
                mode: entry.mode,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::entries::Entry;

    fn wanted(files: &[(&str, u8)], items: &[(&str, Option<u8>)]) -> Wanted {
        let entries = files.iter().map(|(path, content)| Entry {
            path,
            mode: 0o644,
            mtime_ns: 0,
            what: What::File {
                size: 1,
                digest: [*content; 16],
            },
        });
        let item = |(path, content): &(&str, Option<u8>)| Item {
            source: (*path).into(),
            dest: format!("/{path}"),
            container: None,
            now: content.map(|content| Now {
                digest: [content; 16],
                mode: 0o644,
            }),
            after: SyncAfter::Nothing,
        };
        Wanted {
            service: "api".into(),
            reference: "image:1".into(),
            items: items.iter().map(item).collect(),
            context: Arc::new(Context {
                root: "/".into(),
                entries: entries.collect(),
            }),
            rules: Rules::none(),
            ports: Vec::new(),
            since: Instant::now(),
            number: 1,
        }
    }

    fn sent(record: &mut Record, lacks: &[Item]) -> Vec<(String, Option<u8>)> {
        for item in lacks {
            let digest = item.now.map(|now| now.digest);
            record.insert(
                item.dest.clone(),
                Had {
                    source: item.source.clone(),
                    digest,
                },
            );
        }
        lacks
            .iter()
            .map(|item| (item.dest.clone(), item.now.map(|now| now.digest[0])))
            .collect()
    }

    #[test]
    fn a_container_gets_what_it_lacks_and_back() {
        let mut record = Record::new();
        let step = |record: &mut Record, wanted: Wanted| {
            let lacks = wanted.lacks("main", true, record);
            sent(record, &lacks)
        };
        // The image has a=1 and b=1.
        let edited = || wanted(&[("a", 2), ("b", 1)], &[("a", Some(2))]);
        assert_eq!(step(&mut record, edited()), [("/a".into(), Some(2))]);
        assert_eq!(step(&mut record, edited()), []);
        let more = || {
            wanted(
                &[("a", 2), ("c", 3)],
                &[("a", Some(2)), ("b", None), ("c", Some(3))],
            )
        };
        assert_eq!(
            step(&mut record, more()),
            [("/b".into(), None), ("/c".into(), Some(3))]
        );
        let back = || wanted(&[("a", 1), ("b", 1)], &[]);
        assert_eq!(
            step(&mut record, back()),
            [
                ("/a".into(), Some(1)),
                ("/b".into(), Some(1)),
                ("/c".into(), None)
            ]
        );
        assert_eq!(step(&mut record, back()), []);
        // What may have been sent, or not, is sent.
        let had = Had {
            source: "a".into(),
            digest: UNKNOWN,
        };
        record.insert("/a".into(), had);
        assert_eq!(step(&mut record, back()), [("/a".into(), Some(1))]);
        // A new container has the image's files.
        assert_eq!(step(&mut Record::new(), back()), []);
    }

    #[test]
    fn only_the_container_that_is_meant() {
        let mut wanted = wanted(&[("a", 2)], &[("a", Some(2))]);
        assert_eq!(wanted.lacks("other", false, &Record::new()), []);
        wanted.items[0].container = Some("other".into());
        assert_eq!(wanted.lacks("main", true, &Record::new()), []);
        assert_eq!(wanted.lacks("other", false, &Record::new()).len(), 1);
    }
}
