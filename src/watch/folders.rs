//! Which folders are watched, and whether the kernel tells of all changes in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folders in which `stack.yaml` and render inputs are. A link's own folder and its target's both count.
pub fn of_inputs(file: &Path, inputs: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for input in inputs.iter().map(PathBuf::as_path).chain([file]) {
        let real = input.canonicalize().ok();
        for path in [Some(input.to_owned()), real].into_iter().flatten() {
            folders.extend(if path.is_dir() {
                Some(path)
            } else {
                path.parent().map(Path::to_owned)
            });
        }
    }
    folders
}

/// Why changes in a folder must be looked for, where they are: the file system's name.
///
/// Changes that are made on another machine, or outside of the virtual machine that this is, come unannounced.
#[cfg(target_os = "linux")]
pub fn needs_polling(folder: &Path) -> Option<&'static str> {
    let kind = rustix::fs::statfs(folder).ok()?.f_type;
    name_of(u32::try_from(kind).unwrap_or(kind as u32))
}

/// Other systems tell of all changes.
#[cfg(not(target_os = "linux"))]
pub fn needs_polling(_: &Path) -> Option<&'static str> {
    None
}

#[cfg(target_os = "linux")]
fn name_of(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0x6969 => "NFS",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "SMB",
        0x0102_1997 => "9p",
        0x6573_5546 => "FUSE",
        0x786f_4256 => "vboxsf",
        0xbacb_acbc => "vmhgfs",
        0x7c7c_6673 => "prl_fs",
        0x00c3_6400 => "Ceph",
        0x5346_414f => "AFS",
        _ => return None,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_and_vm_shares_are_polled() {
        assert_eq!(name_of(0x0102_1997), Some("9p"));
        // ext4, overlayfs, tmpfs, btrfs
        for local in [0xef53, 0x794c_7630, 0x0102_1994, 0x9123_683e] {
            assert_eq!(name_of(local), None);
        }
        assert_eq!(needs_polling(&std::env::temp_dir()), None);
    }

    #[test]
    fn a_link_counts_where_it_is_and_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("b/real"), "").unwrap();
        std::os::unix::fs::symlink("../b/real", root.join("a/link")).unwrap();
        let found = of_inputs(&root.join("stack.yaml"), &[root.join("a/link")]);
        assert_eq!(
            found,
            BTreeSet::from([root.clone(), root.join("a"), root.join("b")])
        );
    }
}
