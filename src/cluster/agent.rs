//! The daemon's side of the agents in the nodes: brought there, started, and asked over one held stream each.
//!
//! An agent is a faster way beside a slower one, so whoever asks for it must be ready to hear that there is none.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::containerd::{Containerd, SNAPSHOTTER};
use super::door::Door;
use super::load::{memory, oci};
use super::node::{Node, Output, Running};
use crate::agent::wire::{self, Answer, Change, Done, Frame, Put, Request};
use crate::error::{Failure, Result};

/// Where agents are in a node.
const FOLDER: &str = "/usr/local/lib/llmdev";
/// An agent that is there answers at once.
const START_WITHIN: Duration = Duration::from_secs(20);
/// Bringing the program there, on a machine that is busy.
const BRING_WITHIN: Duration = Duration::from_secs(120);
/// Files are small, and a disk that is slower is broken.
const SYNC_WITHIN: Duration = Duration::from_secs(30);

/// The agents of a cluster's nodes, each started when it is first asked for, and again when it ended.
pub struct Agents {
    docker: Docker,
    binary: PathBuf,
    digest: OnceCell<String>,
    slots: Vec<(Node, tokio::sync::Mutex<Slot>)>,
}

enum Slot {
    Idle,
    Running(Arc<Agent>),
    /// It was tried, and why it will not work.
    Unable(Failure),
}

impl Agents {
    /// Agents for these nodes. `binary` is the llmdev program, usually [`std::env::current_exe`].
    pub fn new(docker: &Docker, nodes: &[Node], binary: PathBuf) -> Agents {
        let slots = nodes
            .iter()
            .map(|node| (node.clone(), tokio::sync::Mutex::new(Slot::Idle)));
        Agents {
            docker: docker.clone(),
            binary,
            digest: OnceCell::new(),
            slots: slots.collect(),
        }
    }

    /// The agent in the node of that name.
    ///
    /// # Errors
    /// Says why there is none. Once it is clear that the program does not run there, that is not tried again.
    pub async fn on(&self, node: &str) -> Result<Arc<Agent>> {
        let found = self.slots.iter().find(|(known, _)| known.name == node);
        let (node, slot) = found.ok_or_else(|| {
            Failure::environment(format!("node {node} is not a container of this Docker"))
        })?;
        let mut slot = slot.lock().await;
        match &*slot {
            Slot::Running(agent) if agent.lives() => return Ok(agent.clone()),
            Slot::Unable(why) => return Err(why.clone()),
            Slot::Running(_) | Slot::Idle => {}
        }
        let node = node.refreshed(&self.docker).await?;
        match self.start(&node).await {
            Ok(agent) => {
                let agent = Arc::new(agent);
                *slot = Slot::Running(agent.clone());
                Ok(agent)
            }
            Err(Unstarted::ForNow(why)) => Err(why),
            Err(Unstarted::ForGood(why)) => {
                *slot = Slot::Unable(why.clone());
                Err(why)
            }
        }
    }

    async fn start(&self, node: &Node) -> Result<Agent, Unstarted> {
        let digest = self
            .digest
            .get_or_try_init(|| self.digest())
            .await
            .map_err(Unstarted::ForGood)?;
        let path = format!("{FOLDER}/agent-{digest}");
        // It is there but for the first time, and a try costs less than a question.
        if let Ok(agent) = Agent::start(&self.docker, node, &path).await {
            return Ok(agent);
        }
        let late = || Failure::environment(format!("node {} does not take the agent", node.name));
        let brought = tokio::time::timeout(BRING_WITHIN, self.bring(node, &path)).await;
        brought
            .unwrap_or_else(|_| Err(late()))
            .map_err(Unstarted::ForNow)?;
        Agent::start(&self.docker, node, &path).await
    }

    async fn digest(&self) -> Result<String> {
        let binary = self.binary.clone();
        let hash = tokio::task::spawn_blocking(move || {
            let mut hasher = blake3::Hasher::new();
            io::copy(&mut std::fs::File::open(binary)?, &mut hasher)?;
            Ok::<_, io::Error>(hasher.finalize().to_hex()[..16].to_owned())
        });
        hash.await
            .map_err(io::Error::other)
            .and_then(|hash| hash)
            .map_err(|error| {
                Failure::environment(format!("cannot read {}", self.binary.display()))
                    .because(error)
            })
    }

    /// Copies the program into a node, and takes others of its kind away. Those that still run are not harmed by it.
    async fn bring(&self, node: &Node, path: &str) -> Result<()> {
        let failed =
            || Failure::environment(format!("cannot bring the agent into node {}", node.name));
        let file = tokio::fs::File::open(&self.binary)
            .await
            .map_err(|e| failed().because(e))?;
        let size = file
            .metadata()
            .await
            .map_err(|e| failed().because(e))?
            .len();
        let mut unique = [0; 8];
        memory::random(&mut unique)?;
        let name = format!(
            "{}.{:x}",
            path.trim_start_matches('/'),
            u64::from_ne_bytes(unique)
        );
        let parts = stream::iter([Ok(oci::tar_header(&name, size))])
            .chain(ReaderStream::with_capacity(file, 1 << 18))
            .chain(stream::iter([
                Ok(oci::tar_padding(size)),
                Ok(oci::tar_end()),
            ]));
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let body = bollard::body_try_stream(parts.map_err(io::Error::other));
        let upload = self
            .docker
            .upload_to_container(&node.container, Some(options), body);
        upload.await.map_err(|error| failed().because(error))?;
        let script = format!(
            "chmod 755 /{name} && mv -f /{name} {path} && \
             find {FOLDER} -type f -name 'agent-*' ! -path {path} ! -name '*.*' -exec rm -f {{}} +"
        );
        let never = CancellationToken::new();
        let output = node
            .exec(
                &self.docker,
                &["sh", "-c", &script],
                stream::empty(),
                &never,
            )
            .await?;
        match output.code {
            0 => Ok(()),
            _ => Err(failed().cause(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    }
}

enum Unstarted {
    ForNow(Failure),
    ForGood(Failure),
}

type Answers = HashMap<u64, oneshot::Sender<Frame<Answer>>>;

/// Waiting for answers; none when the stream has ended.
type Pending = Arc<Mutex<Option<Answers>>>;

/// An agent that runs in a node. It ends with this.
pub struct Agent {
    node: String,
    requests: mpsc::Sender<Vec<u8>>,
    pending: Pending,
    next: AtomicU64,
    door: Option<Arc<Door>>,
    /// None within, if there is no way to it.
    containerd: OnceCell<Option<Containerd>>,
    _reader: AbortOnDropHandle<()>,
    _writer: AbortOnDropHandle<()>,
}

/// A file to be put or deleted below a container's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The path in the container.
    pub path: String,
    /// What it shall have; none: it is deleted.
    pub content: Option<Bytes>,
    /// Permission bits of a file that is new there; one that is replaced keeps its mode and owner.
    pub mode: u32,
}

impl Agent {
    async fn start(docker: &Docker, node: &Node, path: &str) -> Result<Agent, Unstarted> {
        let mut key = [0; 32];
        memory::random(&mut key).map_err(Unstarted::ForGood)?;
        let mut running = node
            .start(docker, &[path, "agent"])
            .await
            .map_err(Unstarted::ForNow)?;
        let mut stdin = std::mem::replace(&mut running.stdin, Box::pin(tokio::io::sink()));
        let (requests, mut queue) = mpsc::channel::<Vec<u8>>(16);
        let writer = tokio::spawn(async move {
            while let Some(frame) = queue.recv().await {
                if stdin.write_all(&frame).await.is_err() || stdin.flush().await.is_err() {
                    return;
                }
            }
        });
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let (ended, end) = oneshot::channel();
        let reader = tokio::spawn({
            let pending = pending.clone();
            async move {
                let said = read_answers(running, &pending).await;
                lock(&pending).take();
                let _ = ended.send(said);
            }
        });
        let mut agent = Agent {
            node: node.name.clone(),
            requests,
            pending,
            next: AtomicU64::new(0),
            door: None,
            containerd: OnceCell::new(),
            _reader: AbortOnDropHandle::new(reader),
            _writer: AbortOnDropHandle::new(writer),
        };
        let begin = Request::Begin {
            address: node.address,
            key,
        };
        let failed =
            || Failure::environment(format!("the agent does not run in node {}", node.name));
        match tokio::time::timeout(START_WITHIN, agent.ask(&begin, &[])).await {
            Ok(Ok(Frame {
                head: Answer::Begun { port },
                ..
            })) => {
                agent.door = port
                    .zip(node.address)
                    .map(|(port, address)| Arc::new(Door::new((address, port).into(), key)));
                Ok(agent)
            }
            Ok(Ok(Frame { head, .. })) => Err(Unstarted::ForGood(failed().cause(why(head)))),
            // Another architecture, a C library that is too old, or no program there.
            Ok(Err(_)) => Err(Unstarted::ForGood(
                failed().cause(end.await.unwrap_or_default()),
            )),
            Err(_) => Err(Unstarted::ForNow(failed().cause("it does not answer"))),
        }
    }

    /// Whether it can be asked.
    pub fn lives(&self) -> bool {
        lock(&self.pending).is_some()
    }

    /// Connects to a port of a pod on the agent's node, as a process in the pod would connect to its own loopback.
    ///
    /// # Errors
    /// `ConnectionRefused`: nothing listens there. `NotFound`: no such pod runs on the node. `Unsupported`: the node
    /// cannot be reached from here, and never will. Others as they come.
    pub async fn dial(&self, pod_uid: &str, port: u16) -> io::Result<TcpStream> {
        let door = self.door.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        door.dial(pod_uid, port).await
    }

    /// The node's containerd; none where the agent's door cannot be reached, or containerd is elsewhere.
    pub async fn containerd(&self) -> Option<Containerd> {
        self.containerd
            .get_or_init(|| self.connect_containerd())
            .await
            .clone()
    }

    async fn connect_containerd(&self) -> Option<Containerd> {
        let door = self.door.clone()?;
        let asked = self.run(&["sh", "-c", SNAPSHOTTER], &[]).await.ok()?;
        let snapshotter = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
        let dial = move || -> BoxFuture<'static, io::Result<TcpStream>> {
            let door = Arc::clone(&door);
            Box::pin(async move { door.dial(wire::CONTAINERD, 0).await })
        };
        let connected = Containerd::connect(Arc::new(dial), &snapshotter).await;
        connected
            .inspect_err(|error| tracing::debug!(%error, node = self.node, "no containerd"))
            .ok()
    }

    /// Puts and deletes files below a container's root, in this order; one answer for each.
    ///
    /// `container` is the id as a pod's status has it, with or without the runtime's name before it.
    ///
    /// # Errors
    /// When the container is not there, or the agent is gone. What is wrong with single files is in the answers.
    pub async fn sync(&self, container: &str, files: &[FileChange]) -> Result<Vec<Done>> {
        let changes = files.iter().map(|file| Change {
            path: file.path.clone(),
            put: file.content.as_ref().map(|c| Put {
                size: c.len() as u64,
                mode: file.mode,
            }),
        });
        let request = Request::Sync {
            container: bare(container),
            files: changes.collect(),
        };
        let contents: Vec<&[u8]> = files
            .iter()
            .filter_map(|file| file.content.as_deref())
            .collect();
        let asked = tokio::time::timeout(SYNC_WITHIN, self.ask(&request, &contents)).await;
        let late =
            || Failure::environment(format!("the agent in node {} does not answer", self.node));
        match asked.map_err(|_| late())??.head {
            Answer::Synced { files } => Ok(files),
            other => {
                Err(Failure::failed(format!("cannot sync in node {}", self.node)).cause(why(other)))
            }
        }
    }

    /// Ends a container's first process, so that the kubelet starts the container anew. Answers whether it had to be
    /// killed when the grace was over. What was synced into the container is gone then.
    pub async fn restart(&self, container: &str, grace: Duration) -> Result<bool> {
        let grace = grace.as_millis().try_into().unwrap_or(u64::MAX);
        let request = Request::Restart {
            container: bare(container),
            grace,
        };
        match self.ask(&request, &[]).await?.head {
            Answer::Restarted { killed } => Ok(killed),
            other => Err(
                Failure::failed(format!("cannot restart in node {}", self.node)).cause(why(other)),
            ),
        }
    }

    /// Starts a container's program anew where it runs: what was synced stays, and the kubelet notices nothing. The
    /// container's other processes are ended.
    ///
    /// # Errors
    /// When the container is not there, or it cannot be done; then the program runs on.
    pub async fn rerun(&self, container: &str) -> Result<()> {
        let request = Request::Rerun {
            container: bare(container),
        };
        match self.ask(&request, &[]).await?.head {
            Answer::Restarted { .. } => Ok(()),
            other => Err(
                Failure::failed(format!("cannot restart in node {}", self.node)).cause(why(other)),
            ),
        }
    }

    /// Runs a command as root in the node, without the 60 to 100 ms that Docker's exec needs.
    pub async fn run<S: AsRef<str>>(&self, argv: &[S], input: &[u8]) -> Result<Output> {
        let argv = argv.iter().map(|word| word.as_ref().to_owned()).collect();
        let frame = self.ask(&Request::Run { argv }, &[input]).await?;
        match frame.head {
            Answer::Ran { code, stdout } => {
                let mut stdout_and_err = frame.body;
                let at = (stdout as usize).min(stdout_and_err.len());
                let stderr = stdout_and_err.split_off(at);
                Ok(Output {
                    stdout: stdout_and_err,
                    stderr,
                    code: code.map_or(-1, i64::from),
                })
            }
            other => Err(
                Failure::failed(format!("cannot run a command in node {}", self.node))
                    .cause(why(other)),
            ),
        }
    }

    async fn ask(&self, request: &Request, body: &[&[u8]]) -> Result<Frame<Answer>> {
        let gone = || Failure::environment(format!("the agent in node {} is gone", self.node));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let frame = wire::encode(id, request, body).map_err(|error| gone().because(error))?;
        let (answer, answered) = oneshot::channel();
        lock(&self.pending)
            .as_mut()
            .ok_or_else(gone)?
            .insert(id, answer);
        self.requests.send(frame).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

/// Hands answers out until the stream ends; then what the agent said on its standard error.
async fn read_answers(mut running: Running, pending: &Pending) -> String {
    let mut buffer = BytesMut::new();
    let mut said = String::new();
    while let Some(Ok(piece)) = running.output.next().await {
        match piece {
            LogOutput::StdErr { message } => {
                if said.len() < 4096 {
                    said.push_str(&String::from_utf8_lossy(&message));
                }
            }
            LogOutput::StdOut { message }
            | LogOutput::Console { message }
            | LogOutput::StdIn { message } => buffer.extend_from_slice(&message),
        }
        while let Some(first) = buffer.first_chunk::<4>() {
            let Ok(length) = wire::length(*first) else {
                return format!("{said}{buffer:?}");
            };
            if buffer.len() < 4 + length {
                buffer.reserve(4 + length - buffer.len());
                break;
            }
            buffer.advance(4);
            let Ok(frame) = wire::decode(&buffer.split_to(length)) else {
                return said;
            };
            let waiting = lock(pending)
                .as_mut()
                .and_then(|pending| pending.remove(&frame.id));
            // Nobody waits any more when the request was cancelled.
            waiting.map(|waiting| waiting.send(frame));
        }
    }
    said.trim().to_owned()
}

fn why(answer: Answer) -> String {
    match answer {
        Answer::Failed { why, .. } => why,
        _ => "the agent answers something else".to_owned(),
    }
}

/// `containerd://1234…` in a pod's status is `1234…` for the runtime.
fn bare(container: &str) -> String {
    container
        .rsplit_once("://")
        .map_or(container, |(_, id)| id)
        .to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
