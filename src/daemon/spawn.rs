//! Starting the daemon, so that it outlives the terminal.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::error::{Failure, Result};
use crate::state::State;

/// What the daemon prints on standard output when its socket answers, or when another daemon has the lock.
pub const LISTENING: &str = "listening";

/// How much of the daemon's log is shown when it did not start.
const TAIL: u64 = 2048;

/// For the C library's allocator, which else keeps what a build of many files once took, once a thread: half of the
/// memory of a daemon at rest. What the daemon runs for people does not get them.
pub const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

/// Starts the daemon of a stack and waits until it listens.
///
/// # Errors
/// When it ends before that.
pub async fn spawn(state: &State, file: &Path) -> Result<()> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::environment("cannot tell where this program is").because(error)
    })?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(state.log())
        .map_err(|error| Failure::environment("cannot write the daemon's log").because(error))?;
    let mut child = Command::new(program)
        .args(["daemon", "run", "--file"])
        .arg(file)
        .envs(ALLOCATOR)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|error| Failure::environment("cannot start the daemon").because(error))?;
    let output = child.stdout.take().expect("standard output is piped");
    let first = BufReader::new(output).lines().next_line().await;
    match first {
        Ok(Some(line)) if line == LISTENING => Ok(()),
        _ => Err(Failure::environment("the daemon did not start")
            .detail(last_log_lines(state))
            .remedy("llmdev daemon logs")),
    }
}

/// The end of the daemon's log.
pub fn last_log_lines(state: &State) -> Vec<String> {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(state.log())?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read()
        .unwrap_or_default()
        .lines()
        .rev()
        .take(10)
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect()
}
