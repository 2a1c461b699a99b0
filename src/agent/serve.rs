//! Requests from standard input, answers to standard output, until the input ends.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use super::dial;
use super::files::Root;
use super::process::{self, Found};
use super::wire::{self, Answer, Change, Frame, Request};

struct Said {
    answer: Answer,
    body: Vec<u8>,
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Said {
        Said {
            answer,
            body: Vec::new(),
        }
    }
}

/// Serves until the daemon goes.
pub fn serve() -> io::Result<()> {
    let found = Arc::new(Found::default());
    let mut input = io::stdin().lock();
    let mut first = [0; 4];
    loop {
        match input.read_exact(&mut first) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let mut rest = vec![0; wire::length(first)?];
        input.read_exact(&mut rest)?;
        let Frame { id, head, body } = wire::decode(&rest)?;
        drop(rest);
        match head {
            // What takes its time is not waited for. Syncs are done in the order in which they come.
            Request::Restart { .. } | Request::Rerun { .. } | Request::Run { .. } => {
                let found = found.clone();
                std::thread::spawn(move || say(id, &handle(head, &body, &found)));
            }
            Request::Begin { .. } | Request::Sync { .. } => say(id, &handle(head, &body, &found))?,
        }
    }
}

fn say(id: u64, said: &Said) -> io::Result<()> {
    let frame = wire::encode(id, &said.answer, &[&said.body])?;
    let mut output = io::stdout().lock();
    output.write_all(&frame)?;
    output.flush()
}

fn handle(request: Request, body: &[u8], found: &Arc<Found>) -> Said {
    let done = match request {
        Request::Begin { address: None, .. } => Ok(Answer::Begun { port: None }.into()),
        Request::Begin {
            address: Some(address),
            key,
        } => dial::listen(address, key, found.clone())
            .map(|port| Answer::Begun { port: Some(port) }.into()),
        Request::Sync { container, files } => sync(found, &container, &files, body),
        Request::Restart { container, grace } => restart(found, &container, grace),
        Request::Rerun { container } => rerun(found, &container),
        Request::Run { argv } => process::run(&argv, body).map(|ran| Said {
            answer: Answer::Ran {
                code: ran.code,
                stdout: ran.stdout.len() as u64,
            },
            body: [ran.stdout, ran.stderr].concat(),
        }),
    };
    done.unwrap_or_else(|error| {
        let gone = error.kind() == io::ErrorKind::NotFound;
        Answer::Failed {
            why: error.to_string(),
            gone,
        }
        .into()
    })
}

fn pid_of(found: &Found, container: &str) -> io::Result<u32> {
    found.of_container(container).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("container {container} does not run here"),
        )
    })
}

fn sync(found: &Found, container: &str, files: &[Change], body: &[u8]) -> io::Result<Said> {
    let root = Root::of(pid_of(found, container)?)?;
    let mut rest = body;
    let mut done = Vec::with_capacity(files.len());
    for change in files {
        let size = change.put.as_ref().map_or(0, |put| put.size) as usize;
        let (content, after) = rest
            .split_at_checked(size)
            .ok_or(io::ErrorKind::InvalidData)?;
        rest = after;
        done.push(root.apply(change, content));
    }
    Ok(Answer::Synced { files: done }.into())
}

fn restart(found: &Found, container: &str, grace: u64) -> io::Result<Said> {
    let killed = process::end(pid_of(found, container)?, Duration::from_millis(grace))?;
    Ok(Answer::Restarted { killed }.into())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn rerun(found: &Found, container: &str) -> io::Result<Said> {
    let pid = pid_of(found, container)?;
    super::rerun::rerun(container, pid, || {
        process::others_of_container(container, pid)
    })?;
    Ok(Answer::Restarted { killed: false }.into())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn rerun(_: &Found, _: &str) -> io::Result<Said> {
    Err(io::ErrorKind::Unsupported.into())
}
