//! File changes: the folders that matter, and a quiet period that makes many writes one change.
//!
//! A change is a set of paths to look at again, nothing more: what is in the files decides whether anything changed.

mod folders;
mod git;
mod pending;
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::build::context::Context;
use crate::engine::bus::Bus;
use crate::engine::prepare::Prepared;
use crate::event::Level;

use git::Git;
pub use pending::Change;
use pending::{Due, Pending};
use source::Source;

/// Watches the files of a stack.
pub struct Watcher {
    source: Source,
    pending: Arc<Pending>,
    git: Option<Git>,
    /// Of `stack.yaml` and the render inputs.
    fixed: BTreeSet<PathBuf>,
    /// Of the build contexts, by their roots.
    contexts: Vec<(PathBuf, BTreeSet<PathBuf>)>,
    bus: Bus,
}

impl Watcher {
    /// Watches the folder of `stack.yaml`; [`Watcher::follow`] adds what it names.
    pub fn new(file: &Path, bus: Bus) -> Self {
        let root = file.parent().unwrap_or(Path::new("/"));
        let git = Git::above(root);
        let pending = Arc::new(Pending::new(git.as_ref().map(|git| git.folder.clone())));
        let mut watcher = Watcher {
            source: Source::new(Arc::clone(&pending)),
            pending,
            fixed: BTreeSet::from([root.to_owned()]),
            contexts: Vec::new(),
            git,
            bus,
        };
        watcher.set();
        watcher
    }

    /// Watches what a reading of the stack was made from, and no longer what only an older one was.
    pub fn follow(&mut self, prepared: &Prepared) {
        self.fixed = folders::of_inputs(&prepared.stack.file, &prepared.rendered.inputs);
        let mut contexts = Vec::new();
        for plan in prepared.plans.values() {
            self.fixed
                .extend(plan.spec.dockerfile.parent().map(Path::to_owned));
            contexts.push((plan.context.root.clone(), plan.context.folders().collect()));
        }
        self.contexts = contexts;
        self.set();
    }

    /// Watches what a newer reading of one build context has.
    pub fn follow_context(&mut self, context: &Context) {
        for (root, folders) in &mut self.contexts {
            if *root == context.root {
                *folders = context.folders().collect();
            }
        }
        self.set();
    }

    /// Waits for the next change; for ever when nothing is watched. Dropping the future loses nothing.
    pub async fn changed(watcher: &mut Option<Watcher>) -> Change {
        match watcher {
            Some(watcher) => watcher.next().await,
            None => std::future::pending().await,
        }
    }

    /// Gives back a change that is to be reported again once all is quiet, with what comes until then.
    pub fn later(&self, change: Change) {
        self.pending.give_back(change);
    }

    async fn next(&mut self) -> Change {
        loop {
            match self.pending.due(Instant::now()) {
                Due::Never => self.pending.woken().await,
                Due::At(when) => {
                    let wake = tokio::time::sleep_until(when.into());
                    tokio::select! { () = wake => {}, () = self.pending.woken() => {} }
                }
                Due::Now(since) => match self.git.as_ref().filter(|git| git.is_at_work(since)) {
                    None => return self.take(),
                    // Its folder is watched, so that the lock's end is noticed; a lock that nobody holds is not waited
                    // for without end.
                    Some(git) => {
                        let patience = tokio::time::sleep_until(git.patience(since).into());
                        tokio::select! { () = patience => {}, () = self.pending.woken() => {} }
                    }
                },
            }
        }
    }

    fn take(&mut self) -> Change {
        let (change, gone) = self.pending.take();
        self.source.forget(gone);
        change
    }

    fn set(&mut self) {
        let mut wanted = self.fixed.clone();
        wanted.extend(
            self.contexts
                .iter()
                .flat_map(|(_, folders)| folders.iter().cloned()),
        );
        wanted.extend(self.git.as_ref().map(|git| git.folder.clone()));
        for line in self.source.set(wanted) {
            self.bus.note(Level::Warning, None, line);
        }
    }
}
