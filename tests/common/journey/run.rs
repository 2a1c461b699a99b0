//! A program that runs, line by line.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::PATIENCE;

/// A run that goes on. Dropped: it is killed.
pub struct Run {
    what: String,
    child: Child,
    out: Receiver<String>,
    said: Receiver<String>,
    /// What it has said on standard error by now.
    heard: Vec<String>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ended {
    pub what: String,
    /// None when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub said: String,
    pub took: Duration,
}

impl Run {
    pub fn start(mut command: Command, what: String) -> Self {
        let piped = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let out = lines(child.stdout.take().unwrap());
        let said = lines(child.stderr.take().unwrap());
        Run {
            what,
            child,
            out,
            said,
            heard: Vec::new(),
        }
    }

    /// Waits until a line of standard error has this in it.
    pub fn until_it_says(&mut self, part: &str) -> String {
        self.until_it_says_one_of(&[part])
    }

    pub fn until_it_says_one_of(&mut self, parts: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .said
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if parts.iter().any(|part| line.contains(part)) {
                        return line;
                    }
                }
                Err(error) => panic!(
                    "{} never said {parts:?} ({error}); it said {:#?}",
                    self.what, self.heard
                ),
            }
        }
    }

    /// The next line of standard output; none at its end, or when it does not come in time.
    pub fn next_out(&mut self, deadline: Instant) -> Option<String> {
        self.out
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .ok()
    }

    pub fn signal(&self, signal: Signal) {
        kill(i32::try_from(self.child.id()).unwrap(), signal);
    }

    /// Waits for its end.
    pub fn ends(self) -> Ended {
        self.ends_within(PATIENCE)
    }

    /// Waits for its end, and so long at the most.
    pub fn ends_within(mut self, patience: Duration) -> Ended {
        let began = Instant::now();
        let (mut said, mut out) = (std::mem::take(&mut self.heard), Vec::new());
        for (receiver, lines) in [(&self.said, &mut said), (&self.out, &mut out)] {
            loop {
                match receiver
                    .recv_timeout((began + patience).saturating_duration_since(Instant::now()))
                {
                    Ok(line) => lines.push(line),
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        panic!("{} does not end; it said {lines:#?}", self.what)
                    }
                }
            }
        }
        let status = self.child.wait().unwrap();
        Ended {
            what: self.what.clone(),
            code: status.code(),
            out: out.join("\n"),
            said: said.join("\n"),
            took: began.elapsed(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    #[track_caller]
    pub fn went_well(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    #[track_caller]
    pub fn failed_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// It said each of these.
    #[track_caller]
    pub fn saying(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(
                self.said.contains(part) || self.out.contains(part),
                "it never said {part:?}\n{self}"
            );
        }
        self
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "`{}` ended with {:?} after {:?}",
            self.what, self.code, self.took
        )?;
        writeln!(
            f,
            "--- its output:\n{}\n--- it said:\n{}\n---",
            self.out, self.said
        )
    }
}

pub fn kill(pid: i32, signal: Signal) {
    let _ = rustix::process::kill_process(Pid::from_raw(pid).expect("a process"), signal);
}

/// A daemon that it started may hold the pipe open: its lines end when nobody holds it.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
