//! The daemon's own log: kept, and bounded.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

/// How large the log may grow before it begins anew; one older one is kept beside it. 1 MiB.
const BOUND: u64 = 1 << 20;

/// Sends what is traced into the file at `path`. `LLMDEV_LOG` says how much, as `tracing`'s filters do.
pub fn start(path: &Path) {
    let filter = EnvFilter::try_from_env("LLMDEV_LOG")
        .unwrap_or_else(|_| EnvFilter::new("llmdev=info,warn"));
    let Ok(journal) = Journal::open(path.to_owned()) else {
        return;
    };
    // A second one in this process keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Mutex::new(journal))
        .try_init();
}

struct Journal {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Journal {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Journal { path, file, size })
    }

    /// Copied and cut, not renamed: the daemon's standard error leads into the same file.
    fn turn(&mut self) -> io::Result<()> {
        std::fs::copy(&self.path, self.path.with_extension("log.1"))?;
        self.file.set_len(0)?;
        self.size = 0;
        Ok(())
    }
}

impl Write for Journal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size > BOUND {
            self.turn()?;
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let mut journal = Journal::open(path.clone()).unwrap();
        let line = [b'x'; 1024];
        for _ in 0..3 * 1024 {
            journal.write_all(&line).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= BOUND + 2048);
        assert!(
            std::fs::metadata(path.with_extension("log.1"))
                .unwrap()
                .len()
                <= BOUND + 2048
        );
    }
}
