//! What was heard of changed files, so that folders of which nothing was heard need not be asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// More paths than these are "everything".
const MOST: usize = 4096;

/// What a watcher tells of. It is silent at first, and then nothing can be known by it.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Log>);

/// A moment of [`Heard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(u64);

#[derive(Debug, Default)]
struct Log {
    now: Moment,
    /// Whether every change is told of.
    listens: bool,
    /// What happened before this may not have been told of.
    since: Moment,
    /// When each path was last heard of.
    paths: BTreeMap<PathBuf, Moment>,
}

impl Heard {
    /// From now on every change is told of, or not.
    pub fn listen(&self, listens: bool) {
        let mut log = self.lock();
        log.listens = listens;
        log.everything();
    }

    /// These may have changed; anything, if there are none.
    pub fn hear<'a>(&self, paths: impl IntoIterator<Item = &'a PathBuf>) {
        let mut log = self.lock();
        let now = log.tick();
        let mut paths = paths.into_iter().peekable();
        let anything = paths.peek().is_none();
        log.paths.extend(paths.map(|path| (path.clone(), now)));
        if anything || log.paths.len() > MOST {
            log.everything();
        }
    }

    /// Now: before what is heard next.
    pub fn now(&self) -> Moment {
        self.lock().now
    }

    /// What was heard of since a moment. None: anything may have changed.
    pub fn after(&self, moment: Moment) -> Option<BTreeSet<PathBuf>> {
        let log = self.lock();
        let after = |(_, heard): &(&PathBuf, &Moment)| **heard > moment;
        (log.listens && moment >= log.since).then(|| {
            let paths = log.paths.iter().filter(after);
            paths.map(|(path, _)| path.clone()).collect()
        })
    }

    /// Nobody asks any more for what was heard of up to this moment.
    pub fn forget(&self, until: Moment) {
        self.lock().paths.retain(|_, heard| *heard > until);
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn tick(&mut self) -> Moment {
        self.now.0 += 1;
        self.now
    }

    fn everything(&mut self) {
        self.since = self.tick();
        self.paths.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths<const N: usize>(names: [&str; N]) -> BTreeSet<PathBuf> {
        names.into_iter().map(PathBuf::from).collect()
    }

    #[test]
    fn what_was_heard_of_after_a_moment_is_known_while_somebody_listens() {
        let heard = Heard::default();
        let deaf = heard.now();
        assert_eq!(heard.after(deaf), None);
        heard.listen(true);
        assert_eq!(heard.after(deaf), None, "that was before");
        let first = heard.now();
        assert_eq!(heard.after(first), Some(paths([])));
        heard.hear(&paths(["a", "b"]));
        let second = heard.now();
        heard.hear(&paths(["b", "c"]));
        assert_eq!(heard.after(first), Some(paths(["a", "b", "c"])));
        assert_eq!(heard.after(second), Some(paths(["b", "c"])));
        heard.forget(second);
        assert_eq!(heard.after(second), Some(paths(["b", "c"])));
        heard.hear([]);
        assert_eq!(heard.after(second), None, "anything");
        let third = heard.now();
        assert_eq!(heard.after(third), Some(paths([])));
        heard.listen(false);
        assert_eq!(heard.after(third), None);
        assert_eq!(heard.after(heard.now()), None);
    }

    #[test]
    fn too_many_paths_are_anything() {
        let heard = Heard::default();
        heard.listen(true);
        let before = heard.now();
        for number in 0..=MOST {
            heard.hear([&PathBuf::from(number.to_string())]);
        }
        assert_eq!(heard.after(before), None);
        heard.hear([&PathBuf::from("a")]);
        assert_eq!(heard.after(before), None);
        assert!(heard.lock().paths.len() < 2);
    }
}
