//! What has changed and was not reported yet, and when it is to be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, Flag, ModifyKind, RenameMode};
use tokio::sync::Notify;

/// After files that were all written to their end, when they are few. Whoever writes one more file later has it
/// synced a second time, which costs little.
const FINISHED: Duration = Duration::from_millis(4);
const FEW: usize = 4;
/// After writes that may go on, and before anything dear.
const QUIET: Duration = Duration::from_millis(20);
/// After many: who writes many files writes more.
const QUIET_MANY: Duration = Duration::from_millis(50);
const MANY: usize = 16;
/// A file that is written to without end holds nothing up for longer.
const LONGEST: Duration = Duration::from_secs(2);
/// More paths than these are "everything".
const MOST: usize = 2048;

/// What is to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Files and folders, absolute. Empty: anything may have changed.
    pub paths: BTreeSet<PathBuf>,
    /// When the first of them changed.
    pub since: Instant,
    /// Nothing has happened for the whole quiet period. Before that only what costs little is worth doing.
    pub settled: bool,
}

/// When to look again.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// When woken.
    Never,
    /// Then, or when woken.
    At(Instant),
    /// Now; the change began then.
    Now(Instant),
}

/// What was heard of and not reported.
pub struct Pending {
    heard: Mutex<Heard>,
    wake: Notify,
    /// What happens in it is no change, but may end one.
    git: Option<PathBuf>,
}

#[derive(Default)]
struct Heard {
    /// Whether the file was written to its end.
    paths: BTreeMap<PathBuf, bool>,
    everything: bool,
    /// Folders whose watch ended with them.
    gone: Vec<PathBuf>,
    /// First and last.
    times: Option<(Instant, Instant)>,
    /// A part of it was reported before: it waits for the whole quiet period.
    patient: bool,
}

impl Pending {
    /// Nothing yet.
    pub fn new(git: Option<PathBuf>) -> Self {
        Pending {
            heard: Mutex::default(),
            wake: Notify::new(),
            git,
        }
    }

    /// Hears of an event. Called on the watcher's own thread.
    pub fn hear(&self, event: notify::Result<notify::Event>) {
        let Ok(event) = event else {
            return self.everything();
        };
        if event.flag() == Some(Flag::Rescan) {
            return self.everything();
        }
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        if event.kind.is_access() && event.kind != closed {
            return;
        }
        let finished = event.kind == closed || is_arrival(event.kind) || event.kind.is_remove();
        let leaves = event.kind.is_remove() || is_departure(event.kind);
        let mut heard = self.lock();
        for path in event.paths {
            if self.git.as_ref().is_some_and(|git| path.starts_with(git)) {
                continue;
            }
            heard.stamp(Instant::now());
            if leaves {
                heard.gone.push(path.clone());
            }
            heard.paths.insert(path, finished);
        }
        if heard.paths.len() > MOST || heard.gone.len() > MOST {
            heard.overflow();
        }
        drop(heard);
        self.wake.notify_one();
    }

    /// Anything may have changed.
    pub fn everything(&self) {
        let mut heard = self.lock();
        heard.stamp(Instant::now());
        heard.overflow();
        drop(heard);
        self.wake.notify_one();
    }

    /// What is in these folders may have changed before they were watched.
    pub fn look_at(&self, folders: impl Iterator<Item = PathBuf>) {
        let mut heard = self.lock();
        for folder in folders {
            heard.stamp(Instant::now());
            heard.paths.insert(folder, true);
        }
        if heard.paths.len() > MOST {
            heard.overflow();
        }
        drop(heard);
        self.wake.notify_one();
    }

    /// Puts a change back, for when all is quiet.
    pub fn give_back(&self, change: Change) {
        let mut heard = self.lock();
        let last = heard
            .times
            .map_or(change.since, |(_, last)| last.max(change.since));
        heard.times = Some((change.since, last));
        heard.patient = true;
        if change.paths.is_empty() {
            heard.overflow();
        }
        for path in change.paths {
            heard.paths.entry(path).or_insert(true);
        }
        drop(heard);
        self.wake.notify_one();
    }

    /// Waits for something to be heard since this was last asked.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether it is time to [`Pending::take`].
    pub fn due(&self, now: Instant) -> Due {
        let heard = self.lock();
        let Some((first, last)) = heard.times else {
            return Due::Never;
        };
        let quiet = if heard.is_finished() && !heard.patient {
            FINISHED
        } else {
            heard.quiet()
        };
        let when = (last + quiet).min(first + LONGEST);
        if when <= now {
            Due::Now(first)
        } else {
            Due::At(when)
        }
    }

    /// What has changed; and the folders that are watched no more.
    pub fn take(&self) -> (Change, Vec<PathBuf>) {
        let mut heard = std::mem::take(&mut *self.lock());
        let now = Instant::now();
        let (first, last) = heard.times.unwrap_or((now, now));
        let quiet = heard.quiet();
        let paths = if heard.everything {
            BTreeMap::new()
        } else {
            std::mem::take(&mut heard.paths)
        };
        let settled = now >= (last + quiet).min(first + LONGEST);
        (
            Change {
                paths: paths.into_keys().collect(),
                since: first,
                settled,
            },
            heard.gone,
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn stamp(&mut self, now: Instant) {
        let first = self.times.map_or(now, |(first, _)| first);
        self.times = Some((first, now));
    }

    fn overflow(&mut self) {
        self.everything = true;
        self.paths.clear();
        self.gone.clear();
    }

    fn is_finished(&self) -> bool {
        !self.everything && self.paths.len() <= FEW && self.paths.values().all(|finished| *finished)
    }

    fn quiet(&self) -> Duration {
        if self.everything || self.paths.len() >= MANY {
            QUIET_MANY
        } else {
            QUIET
        }
    }
}

fn is_arrival(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both))
    )
}

fn is_departure(kind: EventKind) -> bool {
    matches!(kind, EventKind::Modify(ModifyKind::Name(_))) && !is_arrival(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, RemoveKind};

    fn event(kind: EventKind, path: &str) -> notify::Result<notify::Event> {
        Ok(notify::Event::new(kind).add_path(path.into()))
    }

    const CREATED: EventKind = EventKind::Create(CreateKind::File);
    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const OPENED: EventKind = EventKind::Access(AccessKind::Open(AccessMode::Any));

    /// Milliseconds from the last event until it is due.
    fn quiet_after(events: &[(EventKind, &str)]) -> Option<u64> {
        let pending = Pending::new(Some("/git".into()));
        events
            .iter()
            .for_each(|(kind, path)| pending.hear(event(*kind, path)));
        let now = Instant::now();
        match pending.due(now) {
            Due::Never => None,
            Due::At(when) => Some((when - now).as_millis() as u64 + 1),
            Due::Now(_) => Some(0),
        }
    }

    #[test]
    fn a_finished_write_waits_less() {
        type Heard<'a> = &'a [(EventKind, &'a str)];
        let table: &[(Heard, Option<u64>)] = &[
            (&[], None),
            (&[(OPENED, "/a")], None),
            (&[(CREATED, "/git/index.lock")], None),
            (&[(CREATED, "/a"), (WRITTEN, "/a")], Some(20)),
            (&[(CREATED, "/a"), (WRITTEN, "/a"), (CLOSED, "/a")], Some(4)),
            (&[(CLOSED, "/a"), (WRITTEN, "/b")], Some(20)),
            (&[(CLOSED, "/a"), (OPENED, "/b")], Some(4)),
            (&[(EventKind::Remove(RemoveKind::File), "/a")], Some(4)),
        ];
        for (events, expected) in table {
            let found = quiet_after(events);
            let near = match (found, expected) {
                (Some(found), Some(expected)) => found <= *expected && found + 3 >= *expected,
                (found, expected) => found == *expected,
            };
            assert!(near, "{events:?}: {found:?}");
        }
    }

    #[test]
    fn many_paths_are_bounded() {
        let pending = Pending::new(None);
        for number in 0..MANY {
            pending.hear(event(CLOSED, &format!("/{number}")));
        }
        assert!(matches!(pending.due(Instant::now() + QUIET), Due::At(_)));
        assert_eq!(pending.lock().paths.len(), MANY);
        for number in 0..3 * MOST {
            pending.hear(event(CLOSED, &format!("/{number}")));
            assert!(pending.lock().paths.len() <= MOST);
        }
        let (change, _) = pending.take();
        assert!(change.paths.is_empty(), "everything");
        assert_eq!(pending.due(Instant::now()), Due::Never);
    }

    #[test]
    fn what_never_stops_is_reported_at_last() {
        let pending = Pending::new(None);
        pending.hear(event(WRITTEN, "/log"));
        let first = pending.lock().times.unwrap().0;
        pending.lock().times = Some((first, first + LONGEST));
        assert_eq!(pending.due(first + LONGEST), Due::Now(first));
    }

    #[test]
    fn what_is_given_back_waits_for_quiet() {
        let pending = Pending::new(None);
        pending.hear(event(CLOSED, "/a"));
        let (early, _) = pending.take();
        assert!(!early.settled);
        pending.give_back(early.clone());
        assert!(matches!(pending.due(early.since + FINISHED), Due::At(_)));
        assert_eq!(pending.due(early.since + QUIET), Due::Now(early.since));
        pending.hear(event(CLOSED, "/b"));
        std::thread::sleep(QUIET);
        let (all, _) = pending.take();
        assert!(all.settled);
        assert_eq!(all.paths, BTreeSet::from(["/a".into(), "/b".into()]));
        assert_eq!(all.since, early.since);
    }

    #[test]
    fn a_folder_that_goes_is_noted() {
        let pending = Pending::new(None);
        pending.hear(event(EventKind::Remove(RemoveKind::Folder), "/a"));
        pending.hear(event(
            EventKind::Modify(ModifyKind::Name(RenameMode::From)),
            "/b",
        ));
        pending.hear(event(
            EventKind::Modify(ModifyKind::Name(RenameMode::To)),
            "/c",
        ));
        assert_eq!(pending.take().1, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }
}
