//! While git works, its index is locked; a change is not taken up in the middle of a checkout.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A lock that is older was left behind by a git that was killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The repository that a stack is in.
pub struct Git {
    /// Where its index is.
    pub folder: PathBuf,
}

impl Git {
    /// The repository of a folder, if it is in one.
    pub fn above(folder: &Path) -> Option<Git> {
        let found = folder
            .ancestors()
            .map(|one| one.join(".git"))
            .find(|git| git.exists())?;
        if found.is_dir() {
            return Some(Git { folder: found });
        }
        // A worktree's or submodule's: a file that names the folder.
        let text = std::fs::read_to_string(&found).ok()?;
        let named = found.parent()?.join(text.strip_prefix("gitdir:")?.trim());
        let folder = named.canonicalize().ok()?;
        Some(Git { folder })
    }

    /// Whether a change that began at `since` is to wait.
    pub fn is_at_work(&self, since: Instant) -> bool {
        Instant::now() < self.patience(since) && self.folder.join("index.lock").exists()
    }

    /// When waiting has lasted too long.
    pub fn patience(&self, since: Instant) -> Instant {
        since + PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_and_worktrees_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("main/.git/worktrees/other")).unwrap();
        std::fs::create_dir_all(root.join("main/deep")).unwrap();
        std::fs::create_dir_all(root.join("other")).unwrap();
        std::fs::write(
            root.join("other/.git"),
            "gitdir: ../main/.git/worktrees/other\n",
        )
        .unwrap();
        let main = Git::above(&root.join("main/deep")).unwrap();
        assert_eq!(main.folder, root.join("main/.git"));
        let other = Git::above(&root.join("other")).unwrap();
        assert_eq!(other.folder, root.join("main/.git/worktrees/other"));
        assert!(!other.is_at_work(Instant::now()));
        std::fs::write(other.folder.join("index.lock"), "").unwrap();
        assert!(other.is_at_work(Instant::now()));
        assert!(!main.is_at_work(Instant::now()));
        let long_ago = Instant::now().checked_sub(PATIENCE).unwrap();
        assert!(!other.is_at_work(long_ago));
    }
}
