//! One daemon a stack directory: whoever holds the lock is it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Failure, Result};

/// The lock, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock and writes the process's number into it; `None` when another process holds it.
///
/// # Errors
/// When the file cannot be opened or locked for another reason.
pub fn acquire(path: &Path) -> Result<Option<Lock>> {
    let mut file = open(path)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    let written = file
        .set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(|error| unusable(path, error))?;
    Ok(Some(Lock { _file: file }))
}

/// The process that holds the lock.
pub fn holder(path: &Path) -> Option<u32> {
    let mut file = File::open(path).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Waits until nobody holds the lock.
///
/// # Errors
/// When the file cannot be opened.
pub async fn released(path: &Path) -> Result<()> {
    let file = open(path)?;
    let waited = tokio::task::spawn_blocking(move || flock(&file, FlockOperation::LockShared));
    let _ = waited.await;
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: std::io::Error) -> Failure {
    Failure::environment(format!("cannot use the lock {}", path.display())).because(error)
}
