//! Finding the processes of pods and containers, ending them, and running commands in the node.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::wire::is_id;

/// Processes that were found, by pod uid or container id.
#[derive(Default)]
pub struct Found {
    pids: Mutex<HashMap<String, u32>>,
}

/// Ids that are remembered; more than a node has pods.
const MOST: usize = 2048;

impl Found {
    /// The oldest process of a pod: it is the one that holds the pod together.
    pub fn of_pod(&self, uid: &str) -> Option<u32> {
        self.find(
            uid,
            &[format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))],
        )
    }

    /// The first process of a container.
    pub fn of_container(&self, id: &str) -> Option<u32> {
        self.find(id, &[id.to_owned()])
    }

    fn find(&self, id: &str, patterns: &[String]) -> Option<u32> {
        if !is_id(id) {
            return None;
        }
        let mut pids = self
            .pids
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // A number may have passed on to another process since.
        if let Some(&pid) = pids.get(id)
            && is_in(pid, patterns)
        {
            return Some(pid);
        }
        pids.remove(id);
        let pid = oldest(patterns)?;
        if pids.len() >= MOST {
            pids.clear();
        }
        pids.insert(id.to_owned(), pid);
        Some(pid)
    }
}

/// Whether a process's control groups name the pod or container. Zombies have no files and no network any more.
fn is_in(pid: u32, patterns: &[String]) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    patterns
        .iter()
        .any(|pattern| groups.contains(pattern.as_str()))
        && started(pid).is_some()
}

/// The processes of a container but for its first.
pub fn others_of_container(id: &str, first: u32) -> Vec<u32> {
    let patterns = [id.to_owned()];
    let pids = fs::read_dir("/proc").into_iter().flatten();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| pid != first && is_in(pid, &patterns))
        .collect()
}

fn oldest(patterns: &[String]) -> Option<u32> {
    let pids = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let inside = pids.filter(|pid| is_in(*pid, patterns));
    inside
        .filter_map(|pid| Some((started(pid)?, pid)))
        .min()
        .map(|(_, pid)| pid)
}

/// When a process started, in ticks since the boot; none if it is gone or a zombie.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Ends a process: SIGTERM, and SIGKILL when the grace is over. Answers whether that was needed.
pub fn end(pid: u32, grace: Duration) -> io::Result<bool> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::NotFound)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_send_signal(&process, Signal::TERM)?;
    if ended_within(&process, grace)? {
        return Ok(false);
    }
    pidfd_send_signal(&process, Signal::KILL)?;
    ended_within(&process, Duration::from_secs(10))?;
    Ok(true)
}

fn ended_within(process: &rustix::fd::OwnedFd, time: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(time).map_err(io::Error::other)?;
    let mut wait = [PollFd::new(process, PollFlags::IN)];
    loop {
        match poll(&mut wait, Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a command said.
pub struct Ran {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Runs a command with `input`.
pub fn run(argv: &[String], input: &[u8]) -> io::Result<Ran> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take();
    let mut stderr = child.stderr.take();
    let mut stdout = Vec::new();
    let mut said = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A command that ends early says why on its standard error.
            if let Some(mut stdin) = stdin.take() {
                let _ = stdin.write_all(input);
            }
        });
        scope.spawn(|| stderr.as_mut().map(|stderr| stderr.read_to_end(&mut said)));
        child
            .stdout
            .take()
            .map(|mut all| all.read_to_end(&mut stdout))
    });
    let code = child.wait()?.code();
    Ok(Ran {
        code,
        stdout,
        stderr: said,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ignores_sigterm_is_killed() {
        let ignoring = ["sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"];
        for (argv, killed) in [(&["sleep", "60"][..], false), (&ignoring[..], true)] {
            let mut child = Command::new(argv[0])
                .args(&argv[1..])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            if killed {
                // The trap is set when it has said something.
                child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            }
            let id = child.id();
            assert_eq!(end(id, Duration::from_millis(100)).unwrap(), killed);
            child.wait().unwrap();
            assert_eq!(started(id), None);
        }
    }

    #[test]
    fn commands_get_input_and_say_both() {
        let argv = ["sh", "-c", "cat; echo no >&2; exit 3"].map(str::to_owned);
        let ran = run(&argv, &vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(
            (ran.code, ran.stdout.len(), ran.stderr.as_slice()),
            (Some(3), 1 << 20, &b"no\n"[..])
        );
    }
}
