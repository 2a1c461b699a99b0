//! Where events come from: the kernel, and where it does not tell, looking every second.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{ErrorKind, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::folders::needs_polling;
use super::pending::Pending;

/// How often is looked where the kernel does not tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The watches that are there.
pub struct Source {
    kernel: Option<RecommendedWatcher>,
    poller: Option<PollWatcher>,
    watched: BTreeSet<PathBuf>,
    polled: BTreeSet<PathBuf>,
    pending: Arc<Pending>,
    /// Why there is no kernel watcher, to be said.
    broken: Option<String>,
    said: BTreeSet<String>,
}

impl Source {
    /// Watches nothing yet.
    pub fn new(pending: Arc<Pending>) -> Self {
        let heard = Arc::clone(&pending);
        let kernel = notify::recommended_watcher(move |event| heard.hear(event));
        let broken = kernel
            .as_ref()
            .err()
            .map(|error| exhausted(error).unwrap_or_else(|| error.to_string()));
        Source {
            kernel: kernel.ok(),
            poller: None,
            watched: BTreeSet::new(),
            polled: BTreeSet::new(),
            pending,
            broken,
            said: BTreeSet::new(),
        }
    }

    /// Watches these folders, without what is below them, and no others. Returns what people should know, once.
    pub fn set(&mut self, folders: BTreeSet<PathBuf>) -> Vec<String> {
        let before: BTreeSet<PathBuf> = self.watched.union(&self.polled).cloned().collect();
        for gone in before.difference(&folders) {
            self.unwatch(gone);
        }
        let mut lines = Vec::new();
        let new: Vec<&PathBuf> = folders.difference(&before).collect();
        for folder in &new {
            lines.extend(self.watch(folder));
        }
        // What was written into a new folder before it was watched would be missed.
        if !before.is_empty() {
            self.pending.look_at(new.into_iter().cloned());
        }
        lines.retain(|line| self.said.insert(line.clone()));
        lines
    }

    /// These folders went, and the kernel's watches with them. One of the same name is to be watched anew.
    pub fn forget(&mut self, gone: Vec<PathBuf>) {
        for path in gone {
            let below: Vec<_> = self
                .watched
                .iter()
                .filter(|one| one.starts_with(&path))
                .cloned()
                .collect();
            for one in below {
                self.unwatch(&one);
            }
        }
    }

    fn watch(&mut self, folder: &Path) -> Option<String> {
        if let Some(system) = needs_polling(folder) {
            self.poll(folder);
            return Some(format!(
                "files on {system} are looked at every second, since changes made elsewhere come unannounced"
            ));
        }
        let Some(kernel) = &mut self.kernel else {
            self.poll(folder);
            let why = self.broken.clone().unwrap_or_default();
            return Some(format!("files are looked at every second: {why}"));
        };
        match kernel.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(folder.to_owned());
                None
            }
            // It has gone again; whoever took it away has changed its parent.
            Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => None,
            Err(error) => {
                self.poll(folder);
                let why =
                    exhausted(&error).unwrap_or_else(|| format!("{}: {error}", folder.display()));
                Some(format!("some folders are looked at every second: {why}"))
            }
        }
    }

    fn poll(&mut self, folder: &Path) {
        if self.poller.is_none() {
            let heard = Arc::clone(&self.pending);
            let config = notify::Config::default().with_poll_interval(LOOK_EVERY);
            self.poller = PollWatcher::new(move |event| heard.hear(event), config).ok();
        }
        let Some(poller) = &mut self.poller else {
            return;
        };
        if poller.watch(folder, RecursiveMode::NonRecursive).is_ok() {
            self.polled.insert(folder.to_owned());
        }
    }

    fn unwatch(&mut self, folder: &Path) {
        // A folder that was deleted is no longer watched anyway.
        if self.watched.remove(folder) {
            let _ = self.kernel.as_mut().map(|kernel| kernel.unwatch(folder));
        }
        if self.polled.remove(folder) {
            let _ = self.poller.as_mut().map(|poller| poller.unwatch(folder));
        }
    }
}

/// What to do where the kernel has no more watches to give.
fn exhausted(error: &notify::Error) -> Option<String> {
    let (what, name, value) = match &error.kind {
        ErrorKind::MaxFilesWatch => ("watches", "max_user_watches", 524_288),
        ErrorKind::Io(io) if io.raw_os_error() == Some(EMFILE) => {
            ("watchers", "max_user_instances", 1024)
        }
        _ => return None,
    };
    Some(format!(
        "the kernel has no more {what} for you; more: sudo sysctl fs.inotify.{name}={value}"
    ))
}

/// Too many open files, or inotify instances.
const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();

#[cfg(test)]
mod tests {
    use super::super::pending::Due;
    use super::*;
    use std::time::Instant;

    fn wait_for(pending: &Pending, path: &Path) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if pending.due(Instant::now()) != Due::Never && pending.take().0.paths.contains(path) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{} was not heard of",
                path.display()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn limits_are_explained() {
        let watches = notify::Error::new(ErrorKind::MaxFilesWatch);
        insta::assert_snapshot!(exhausted(&watches).unwrap(), @"the kernel has no more watches for you; more: sudo sysctl fs.inotify.max_user_watches=524288");
        let instances = notify::Error::io(std::io::Error::from_raw_os_error(EMFILE));
        insta::assert_snapshot!(exhausted(&instances).unwrap(), @"the kernel has no more watchers for you; more: sudo sysctl fs.inotify.max_user_instances=1024");
        assert_eq!(exhausted(&notify::Error::generic("other")), None);
    }

    #[test]
    fn without_the_kernel_it_looks_itself() {
        let folder = tempfile::tempdir().unwrap();
        let pending = Arc::new(Pending::new(None));
        let mut source = Source::new(Arc::clone(&pending));
        source.kernel = None;
        source.broken = Some("no more".to_owned());
        let said = source.set(BTreeSet::from([folder.path().to_owned()]));
        assert_eq!(said, ["files are looked at every second: no more"]);
        let file = folder.path().join("file");
        std::fs::write(&file, "new").unwrap();
        wait_for(&pending, &file);
    }

    #[test]
    fn a_folder_that_is_replaced_is_watched_anew() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let both = BTreeSet::from([folder.path().to_owned(), inner.clone()]);
        let pending = Arc::new(Pending::new(None));
        let mut source = Source::new(Arc::clone(&pending));
        assert!(source.set(both.clone()).is_empty());
        std::fs::remove_dir(&inner).unwrap();
        std::fs::create_dir(&inner).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while source.watched.contains(&inner) {
            assert!(Instant::now() < deadline);
            source.forget(pending.take().1);
        }
        source.set(both);
        let file = inner.join("file");
        std::fs::write(&file, "new").unwrap();
        wait_for(&pending, &file);
    }
}
