//! How many folders the kernel lets a user watch, against how many the stack has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Check;
use crate::stack::Stack;

/// Counting ends then; what was counted is said.
const COUNTING: Duration = Duration::from_millis(800);

/// Other programs watch as well, editors above all.
const OTHERS: u64 = 2;

/// Fewer inotify instances than this are used up by an editor and a desktop.
const INSTANCES: u64 = 128;

pub(super) async fn check(stack: Option<&Stack>) -> Vec<Check> {
    let contexts: BTreeSet<PathBuf> = stack
        .iter()
        .flat_map(|stack| &stack.services)
        .filter_map(|service| Some(service.build.as_ref()?.context.clone()))
        .collect();
    let counted = tokio::task::spawn_blocking(move || folders(contexts, Instant::now() + COUNTING));
    let folders = counted.await.unwrap_or(0);
    let limit = |name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(Path::new("/proc/sys/fs/inotify").join(name)).ok()?;
        text.trim().parse().ok()
    };
    // Elsewhere than on Linux there is no such limit.
    match (limit("max_user_watches"), limit("max_user_instances")) {
        (Some(watches), Some(instances)) => vec![verdict(folders, watches, instances)],
        _ => Vec::new(),
    }
}

fn verdict(folders: u64, watches: u64, instances: u64) -> Check {
    let found = format!("{watches} folders may be watched, the stack has {folders}");
    let raise = |name: &str, to: u64| {
        format!(
            "echo fs.inotify.{name}={to} | sudo tee /etc/sysctl.d/60-llmdev.conf && sudo sysctl --system"
        )
    };
    if folders > watches {
        return Check::bad("inotify", found)
            .remedy(raise("max_user_watches", 524_288.max(folders * 2)));
    }
    if folders * OTHERS > watches {
        return Check::warning("inotify", found)
            .remedy(raise("max_user_watches", 524_288.max(folders * 2)));
    }
    if instances < INSTANCES {
        let found = format!("{found}; only {instances} watchers a user");
        return Check::warning("inotify", found).remedy(raise("max_user_instances", 512));
    }
    Check::good("inotify", found)
}

fn folders(roots: BTreeSet<PathBuf>, deadline: Instant) -> u64 {
    let mut left: Vec<PathBuf> = roots.into_iter().collect();
    let mut count = 0;
    while let Some(folder) = left.pop() {
        count += 1;
        if Instant::now() > deadline {
            break;
        }
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        let inside = entries.flatten().filter(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() != ".git"
        });
        left.extend(inside.map(|entry| entry.path()));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict::{Bad, Good, Warning};

    #[test]
    fn the_limit_has_to_do_for_others_as_well() {
        let of = |folders, watches, instances| verdict(folders, watches, instances).verdict;
        assert_eq!(of(100, 8192, 128), Good);
        assert_eq!(of(5000, 8192, 128), Warning);
        assert_eq!(of(9000, 8192, 128), Bad);
        assert_eq!(of(100, 8192, 8), Warning);
    }

    #[test]
    fn folders_are_counted_without_gits_own() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["a/b", "c", ".git/objects"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(folders([root.path().to_owned()].into(), later), 4);
    }
}
