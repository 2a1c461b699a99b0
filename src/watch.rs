//! File changes: the folders that matter, and a quiet period that makes many writes one change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::engine::bus::Bus;
use crate::engine::prepare::Prepared;
use crate::event::Level;

/// How long nothing more may happen before a change is a change: an editor writes and renames, git writes many files.
const QUIET: Duration = Duration::from_millis(30);

/// While git works, its index is locked; a change is not taken up in the middle of a checkout.
const GIT_LOCK: &str = ".git/index.lock";

/// How often git's lock is looked for while it is there.
const LOCKED: Duration = Duration::from_millis(50);

/// Watches the files of a stack.
pub struct Watcher {
    watcher: Option<notify::RecommendedWatcher>,
    changes: mpsc::UnboundedReceiver<()>,
    again: mpsc::UnboundedSender<()>,
    watched: BTreeSet<PathBuf>,
    file: PathBuf,
    bus: Bus,
}

impl Watcher {
    /// Watches `stack.yaml`; [`Watcher::follow`] adds what it names.
    pub fn new(file: PathBuf, bus: Bus) -> Self {
        let (again, changes) = mpsc::unbounded_channel();
        let sender = again.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is no change; an error (a queue that overflowed) may hide one.
            if event.map_or(true, |event| {
                !event.kind.is_access() || is_written(&event.kind)
            }) {
                let _ = sender.send(());
            }
        });
        let watcher = watcher.map_err(|error| cannot(&bus, &file, &error)).ok();
        let mut watcher = Watcher {
            watcher,
            changes,
            again,
            watched: BTreeSet::new(),
            file,
            bus,
        };
        let folder = watcher.file.parent().map(Path::to_owned);
        watcher.set(folder.into_iter().collect());
        watcher
    }

    /// Watches what a reading of the stack was made from, and no longer what only an older one was.
    pub fn follow(&mut self, prepared: &Prepared) {
        let mut folders: BTreeSet<PathBuf> =
            self.file.parent().map(Path::to_owned).into_iter().collect();
        for plan in prepared.plans.values() {
            folders.extend(plan.context.folders());
            folders.extend(plan.spec.dockerfile.parent().map(Path::to_owned));
        }
        for input in &prepared.rendered.inputs {
            folders.extend(if input.is_dir() {
                Some(input.clone())
            } else {
                input.parent().map(Path::to_owned)
            });
        }
        self.set(folders);
    }

    /// Waits for the next change; for ever when nothing is watched.
    pub async fn changed(watcher: &mut Option<Watcher>) {
        match watcher {
            Some(watcher) => watcher.next().await,
            None => std::future::pending().await,
        }
    }

    async fn next(&mut self) {
        if self.changes.recv().await.is_none() {
            return std::future::pending().await;
        }
        let lock = self
            .file
            .parent()
            .map(|root| root.join(GIT_LOCK))
            .unwrap_or_default();
        loop {
            match tokio::time::timeout(QUIET, self.changes.recv()).await {
                Ok(Some(())) => {}
                Ok(None) => return,
                Err(_) if lock.exists() => tokio::time::sleep(LOCKED).await,
                Err(_) => return,
            }
        }
    }

    fn set(&mut self, folders: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for gone in self.watched.difference(&folders) {
            // A folder that was deleted is no longer watched anyway.
            let _ = watcher.unwatch(gone);
        }
        let mut new = false;
        for folder in folders.difference(&self.watched) {
            new = true;
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                cannot(&self.bus, folder, &error);
            }
        }
        // What was written into a new folder before it was watched would be missed.
        if new && !self.watched.is_empty() {
            let _ = self.again.send(());
        }
        self.watched = folders;
    }
}

fn is_written(kind: &notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    matches!(
        kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
    )
}

fn cannot(bus: &Bus, path: &Path, error: &notify::Error) {
    let line = format!(
        "changes in {} go unnoticed: {error}; `llmdev up` takes them up",
        path.display()
    );
    bus.note(Level::Warning, None, line);
}
