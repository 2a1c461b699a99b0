//! Where a stack's state is kept on this machine. All of it can be lost without harm.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::error::{Failure, Result};
use crate::owner;

/// A Unix socket's path has to fit into `sockaddr_un`, 108 bytes on Linux and 104 on macOS, with its final zero.
const LONGEST_SOCKET_PATH: usize = 103;

/// The files of one stack directory.
#[derive(Debug, Clone)]
pub struct State {
    /// `$XDG_STATE_HOME/llmdev/<digest of the stack's folder>`, mode 0700.
    pub dir: PathBuf,
    digest: String,
}

impl State {
    /// The state of the stack whose canonical folder is `root`; made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn of(root: &Path) -> Result<Self> {
        let digest = owner::root_digest(root);
        let dir = home()?.join(&digest);
        private_dir(&dir).map_err(|error| {
            Failure::environment(format!("cannot make the state folder {}", dir.display()))
                .because(error)
                .remedy("make it writable, or name another place in XDG_STATE_HOME")
        })?;
        let state = State { dir, digest };
        state.remember_root(root);
        Ok(state)
    }

    /// The daemon's socket, in a folder of mode 0700, short enough for the limit.
    ///
    /// # Errors
    /// When no folder for it can be made.
    pub fn socket(&self) -> Result<PathBuf> {
        let short = PathBuf::from(format!(
            "/tmp/llmdev-{}",
            rustix::process::getuid().as_raw()
        ));
        let runtime =
            std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("llmdev"));
        for dir in [Some(self.dir.clone()), runtime, Some(short)]
            .into_iter()
            .flatten()
        {
            let path = dir.join(format!("{}.sock", self.digest));
            if path.as_os_str().len() <= LONGEST_SOCKET_PATH
                && private_dir(&dir).is_ok()
                && is_ours(&dir)
            {
                return Ok(path);
            }
        }
        Err(
            Failure::environment("there is no folder for the daemon's socket")
                .remedy("name a short one in XDG_RUNTIME_DIR"),
        )
    }

    /// Held by the daemon as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The daemon's own log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    /// The output of a service's last build.
    pub fn build_log(&self, service: &str) -> PathBuf {
        self.dir.join("builds").join(format!("{service}.log"))
    }

    /// What is remembered of files' digests.
    pub fn digests(&self) -> PathBuf {
        self.dir.join("digests")
    }

    /// What the image of a service was made from.
    pub fn base(&self, service: &str) -> PathBuf {
        self.bases().join(service)
    }

    /// The folder of [`State::base`].
    pub fn bases(&self) -> PathBuf {
        self.dir.join("bases")
    }

    /// What was synced into containers.
    pub fn synced(&self) -> PathBuf {
        self.dir.join("synced")
    }

    /// So that a refusal can name the folder that an object belongs to.
    fn remember_root(&self, root: &Path) {
        let path = self.dir.join("root");
        if !path.exists() {
            // Only a help in a message; without it the message says less.
            let _ = fs::write(path, root.as_os_str().as_encoded_bytes());
        }
    }
}

/// The folder of the stack with this root digest, if it was used on this machine.
pub fn folder_of(digest: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(home().ok()?.join(digest).join("root")).ok()?;
    Some(PathBuf::from(text))
}

/// `$XDG_STATE_HOME/llmdev`.
///
/// # Errors
/// When there is no home folder.
pub fn home() -> Result<PathBuf> {
    let strategy = etcetera::choose_base_strategy()
        .map_err(|_| Failure::environment("there is no home folder").remedy("set HOME"))?;
    let base = strategy.state_dir().unwrap_or_else(|| strategy.data_dir());
    Ok(base.join("llmdev"))
}

fn private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let mode = fs::metadata(dir)?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Somebody else may have made the folder in `/tmp` first.
fn is_ours(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(dir)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::getuid().as_raw())
}
