//! The daemon: holds the lock, listens on the socket, and gives what clients ask for to the driver.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::{SinkExt, StreamExt};
use k8s_openapi::jiff::Timestamp;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::codec::{Framed, LinesCodec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::LONGEST_LINE;
use super::lock::{self, Lock};
use super::protocol::{Answer, Hello, PROTOCOL, Request};
use super::{journal, spawn};
use crate::engine::bus::Subscription;
use crate::engine::driver::{self, Command, Handle};
use crate::error::{Failure, Result};
use crate::ready::Target;
use crate::state::State;
use crate::{diagnose, logs};

/// How long another process may hold the lock without listening: it starts, or ends.
const OTHER_STARTS: Duration = Duration::from_secs(10);

/// How long clients may take to hear the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

type Lines = Framed<UnixStream, LinesCodec>;

/// Runs the daemon of the stack in `file`, until it is asked to end.
///
/// # Errors
/// When it cannot listen.
pub async fn run(file: &Path) -> Result<()> {
    // Away from the terminal, whose end must not be the daemon's. Fails where it has been done, which is as good.
    let _ = rustix::process::setsid();
    let file = file.canonicalize().map_err(|error| {
        Failure::config(format!("{} cannot be read", file.display())).because(error)
    })?;
    let state = State::of(file.parent().expect("a file is in a folder"))?;
    let Some(_lock) = only_one(&state.lock(), &state.socket()?).await? else {
        println!("{}", spawn::LISTENING);
        return Ok(());
    };
    journal::start(&state.log());
    let listener = listen(&state.socket()?)?;
    println!("{}", spawn::LISTENING);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), stack = %file.display(), "listening");

    let end = CancellationToken::new();
    let (handle, driver) = driver::start(file, state.clone(), end.clone());
    let asked = TaskTracker::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    loop {
        tokio::select! {
            connection = listener.accept() => match connection {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream, handle.clone(), asked.clone()))),
                Err(error) => tracing::warn!(%error, "cannot accept"),
            },
            () = end.cancelled() => break,
            _ = terminate.recv() => end.cancel(),
            _ = interrupt.recv() => end.cancel(),
        }
    }
    let _ = driver.await;
    // Whoever waits is told how it came out.
    asked.close();
    let _ = tokio::time::timeout(LAST_WORDS, asked.wait()).await;
    let _ = fs::remove_file(state.socket()?);
    tracing::info!("ended");
    Ok(())
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::environment("cannot wait for signals").because(error)
}

/// The lock; `None` when another daemon holds it and listens. Of two that start at once, the one that came second steps
/// back; one that ends holds the lock a little longer than it listens.
async fn only_one(lock: &Path, socket: &Path) -> Result<Option<Lock>> {
    let known = async {
        loop {
            if let Some(lock) = lock::acquire(lock)? {
                return Ok(Some(lock));
            }
            if UnixStream::connect(socket).await.is_ok() {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(OTHER_STARTS, known)
        .await
        .unwrap_or_else(|_| {
            let silent = "another daemon of this stack holds the lock and does not listen";
            Err(Failure::environment(silent).remedy("llmdev daemon status names its process"))
        })
}

fn listen(path: &Path) -> Result<UnixListener> {
    // Whoever left it there is gone: this process holds the lock.
    let _ = fs::remove_file(path);
    let unusable =
        |error| Failure::environment(format!("cannot listen on {}", path.display())).because(error);
    let listener = UnixListener::bind(path).map_err(unusable)?;
    // Its folder is 0700, so that nobody gets in between.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(unusable)?;
    Ok(listener)
}

/// `asked` counts the requests that somebody waits for.
async fn serve(stream: UnixStream, handle: Handle, asked: TaskTracker) {
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(LONGEST_LINE));
    if let Err(gone) = converse(&mut lines, &handle, &asked).await {
        tracing::debug!(?gone, "a client went away");
    }
}

/// A client that has gone away: the conversation ends, nothing else.
#[derive(Debug)]
struct Gone;

async fn converse(lines: &mut Lines, handle: &Handle, asked: &TaskTracker) -> Result<(), Gone> {
    let hello: Hello = receive(lines).await?;
    send(lines, &Hello::ours()).await?;
    let request: Request = match receive(lines).await {
        Ok(request) => request,
        // A client of another version may still end this daemon.
        Err(Gone) if hello.protocol != PROTOCOL => return Ok(()),
        Err(Gone) => return Err(Gone),
    };
    match request {
        Request::Status => send(lines, &Answer::Status(Box::new(handle.status()))).await,
        Request::Events => events(lines, handle).await,
        Request::Logs(query) => log(lines, handle, query).await,
        Request::Why { service } => why(lines, handle, &service).await,
        Request::Stop => {
            handle.end();
            Ok(())
        }
        Request::Cancel => Ok(()),
        Request::Up {
            services,
            watch,
            force,
            profile,
        } => {
            carry(lines, handle, asked, |reply| Command::Up {
                services,
                watch,
                force,
                profile,
                reply,
            })
            .await
        }
        Request::Down { volumes } => {
            carry(lines, handle, asked, |reply| Command::Down {
                volumes,
                reply,
            })
            .await
        }
        Request::Restart { services } => {
            carry(lines, handle, asked, |reply| Command::Restart {
                services,
                reply,
            })
            .await
        }
        Request::Sync { service } => {
            carry(lines, handle, asked, |reply| Command::Sync {
                service,
                reply,
            })
            .await
        }
        Request::Watch { on } => {
            carry(lines, handle, asked, |reply| Command::Watch { on, reply }).await
        }
    }
}

/// Gives a command to the driver, and sends events until it has been carried out.
async fn carry(
    lines: &mut Lines,
    handle: &Handle,
    asked: &TaskTracker,
    command: impl FnOnce(oneshot::Sender<Option<Failure>>) -> Command,
) -> Result<(), Gone> {
    let _asked = asked.token();
    let (reply, mut done) = oneshot::channel();
    let mut events = handle.bus.subscribe();
    handle
        .commands
        .send(command(reply))
        .await
        .map_err(|_| Gone)?;
    let failure = loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(event) => send(lines, &Answer::Event(Box::new((*event).clone()))).await?,
                // The daemon ends; what became of the request is known by then.
                None => break done.await.map_err(|_| Gone)?,
            },
            result = &mut done => break result.map_err(|_| Gone)?,
            request = receive::<Request>(lines) => match request {
                Ok(Request::Cancel) => handle.commands.send(Command::Halt).await.map_err(|_| Gone)?,
                Ok(_) => {}
                // The terminal was closed: what was begun goes on.
                Err(Gone) => return Err(Gone),
            },
        }
    };
    rest(lines, &mut events).await?;
    send(lines, &Answer::Done(failure)).await
}

/// What happened before the end is said before it.
async fn rest(lines: &mut Lines, events: &mut Subscription) -> Result<(), Gone> {
    while let Some(event) = events.ready() {
        send(lines, &Answer::Event(Box::new((*event).clone()))).await?;
    }
    Ok(())
}

async fn events(lines: &mut Lines, handle: &Handle) -> Result<(), Gone> {
    let mut events = handle.bus.subscribe();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => send(lines, &Answer::Event(Box::new((*event).clone()))).await?,
                None => return Ok(()),
            },
            // Nothing more is expected of the client but its end.
            _ = lines.next() => return Ok(()),
        }
    }
}

async fn log(lines: &mut Lines, handle: &Handle, query: logs::LogQuery) -> Result<(), Gone> {
    let Some(world) = handle.world() else {
        return send(lines, &Answer::Done(Some(nothing_up()))).await;
    };
    let cancel = CancellationToken::new();
    let _end = cancel.clone().drop_guard();
    let mut output = match logs::stream(
        world.cluster.client.clone(),
        world.agents.clone(),
        world.views.clone(),
        query,
        cancel,
    ) {
        Ok(output) => output,
        Err(failure) => return send(lines, &Answer::Done(Some(failure))).await,
    };
    loop {
        tokio::select! {
            line = output.recv() => match line {
                Some(line) => {
                    lines.feed(text(&item(line))).await.map_err(|_| Gone)?;
                    // Many lines, one write.
                    while let Ok(line) = output.try_recv() {
                        lines.feed(text(&item(line))).await.map_err(|_| Gone)?;
                    }
                    flush(lines).await?;
                }
                None => return send(lines, &Answer::Done(None)).await,
            },
            _ = lines.next() => return Ok(()),
        }
    }
}

/// A container that cannot be read is said, and the others go on.
fn item(line: logs::LogItem) -> Answer {
    match line {
        Ok(line) => Answer::Log(line),
        Err(failure) => Answer::Findings(vec![failure]),
    }
}

async fn why(lines: &mut Lines, handle: &Handle, service: &str) -> Result<(), Gone> {
    // What is yet to come to the cluster is known to nobody but the daemon.
    let held = diagnose::held_up(&handle.status(), service, Utc::now());
    let found = match handle.world() {
        Some(world) => {
            let view = Arc::clone(&world.views.borrow());
            let (client, loader) = (&world.cluster.client, world.loader.as_ref());
            match held.is_some() && Target::of(&view, service).objects.is_empty() {
                true => Vec::new(),
                false => {
                    diagnose::why(client, loader, &view, service, Timestamp::now())
                        .await
                        .findings
                }
            }
        }
        None if held.is_none() => vec![nothing_up()],
        None => Vec::new(),
    };
    let held = held.filter(|held| !found.iter().any(|one| one.what == held.what));
    let findings = held.into_iter().chain(found).collect();
    send(lines, &Answer::Findings(findings)).await
}

fn nothing_up() -> Failure {
    Failure::environment("nothing of this stack is up").remedy("llmdev up")
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("the protocol's types are plain data")
}

async fn send(lines: &mut Lines, value: &impl serde::Serialize) -> Result<(), Gone> {
    lines.send(text(value)).await.map_err(|_| Gone)
}

async fn flush(lines: &mut Lines) -> Result<(), Gone> {
    SinkExt::<String>::flush(lines).await.map_err(|_| Gone)
}

async fn receive<T: serde::de::DeserializeOwned>(lines: &mut Lines) -> Result<T, Gone> {
    match lines.next().await {
        Some(Ok(line)) => serde_json::from_str(&line).map_err(|_| Gone),
        _ => Err(Gone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_while_a_daemon_ends_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (lock, socket) = (folder.path().join("lock"), folder.path().join("socket"));
        let ends = lock::acquire(&lock).unwrap();
        let mut comes = std::pin::pin!(only_one(&lock, &socket));
        assert!(futures::poll!(comes.as_mut()).is_pending());
        drop(ends);
        assert!(comes.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn who_comes_second_leaves_it_to_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let (lock, socket) = (folder.path().join("lock"), folder.path().join("socket"));
        let _first = lock::acquire(&lock).unwrap();
        let mut second = std::pin::pin!(only_one(&lock, &socket));
        assert!(futures::poll!(second.as_mut()).is_pending());
        let _listens = listen(&socket).unwrap();
        assert!(second.await.unwrap().is_none());
    }
}
