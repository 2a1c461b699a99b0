//! One client's connection, from being accepted to its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::dial::{DialError, Upstream};
use super::reach::{Reached, Tries, exists, until};
use super::replay::{KEPT, may_repeat};
use super::{Shared, Target, relay};

/// How often one client's request is sent again. A request that kills the pod must not kill all pods for ever.
const REPLAYS: u32 = 3;
/// How long bytes of a pod that no longer exists may still be on their way.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// Bytes that are read from a client at once before its pod has answered.
const READ: usize = 4096;
/// After an accept that failed because the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts for ever.
pub(super) async fn accept(
    listener: TcpListener,
    target: watch::Receiver<Target>,
    shared: Arc<Shared>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let work = serve(stream, target.borrow().clone(), shared.clone());
                tokio::spawn(shared.cancel.clone().run_until_cancelled_owned(work));
            }
            Err(error) => {
                tracing::warn!(%error, "a local connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, target: Target, shared: Arc<Shared>) {
    // Only ever an optimisation.
    let _ = stream.set_nodelay(true);
    let mut client = Client {
        stream,
        sent: Vec::new(),
        ended: false,
    };
    let mut tries = Tries::new();
    let mut replays = 0;
    loop {
        let reached = tokio::select! {
            reached = tries.reach(&shared, &target) => reached,
            () = client.gone() => return,
        };
        let Some(Reached { pod, mut upstream }) = reached else {
            return;
        };
        let mut views = shared.views.clone();
        let first = tokio::select! {
            first = first_answer(&mut client, &mut upstream) => first,
            () = until(&mut views, |view| !exists(view, &pod)) => First::Cut,
        };
        let error = match first {
            First::ClientGone => return,
            First::Answer { answer, unsent } => {
                shared.board.problem(target.id, None);
                let whole = relay::run((client.stream, unsent), (upstream, answer));
                let gone = async {
                    until(&mut views, |view| !exists(view, &pod)).await;
                    tokio::time::sleep(LAST_BYTES).await;
                };
                // How a connection ended concerns its two ends only.
                tokio::select! { _ = whole => {}, () = gone => {} }
                return;
            }
            First::Refused(error) if tries.hopeless(&shared, &target, &pod, &error) => return,
            First::Refused(error) => error,
            First::Cut if replays == REPLAYS || !client.may_go_elsewhere() => return,
            First::Cut => {
                replays += 1;
                tries = Tries::new();
                DialError::Failed("the connection was cut".to_owned())
            }
        };
        tries.wait(&mut views, &pod, &error).await;
    }
}

/// A client, with all it sent as long as none of it was answered.
struct Client {
    stream: TcpStream,
    sent: Vec<u8>,
    /// It has sent all.
    ended: bool,
}

impl Client {
    /// Reads more of what the client sends.
    async fn fill(&mut self) -> io::Result<()> {
        self.stream.readable().await?;
        let room = KEPT - self.sent.len();
        self.sent.reserve(room.min(READ));
        let mut limited = bytes::BufMut::limit(&mut self.sent, room);
        match self.stream.try_read_buf(&mut limited) {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn wants_more(&self) -> bool {
        !self.ended && self.sent.len() < KEPT
    }

    /// Reads ahead while there is no pod yet; returns when the client has left.
    async fn gone(&mut self) {
        while self.wants_more() {
            if self.fill().await.is_err() {
                return;
            }
        }
        if self.ended && self.sent.is_empty() {
            return;
        }
        std::future::pending().await
    }

    /// Whether a connection that was cut before any answer may begin anew at another pod.
    fn may_go_elsewhere(&self) -> bool {
        // Nothing was asked: nothing can be done twice.
        self.sent.is_empty() || (self.sent.len() < KEPT && may_repeat(&self.sent))
    }
}

/// How a connection to a pod began.
enum First {
    /// With these bytes; or with none when the client sent more than is kept, and it can't begin anew.
    Answer {
        answer: Vec<u8>,
        /// What the client had sent by then and the pod had not got.
        unsent: Vec<u8>,
    },
    /// It ended without an answer.
    Cut,
    /// It turned out that the pod was not reached.
    Refused(DialError),
    ClientGone,
}

async fn first_answer(client: &mut Client, upstream: &mut Upstream) -> First {
    match upstream {
        Upstream::Tcp(stream) => {
            let (mut read, mut write) = stream.split();
            exchange(client, &mut read, &mut write).await
        }
        Upstream::Api(stream) => {
            let (mut read, mut write) = tokio::io::split(&mut **stream);
            exchange(client, &mut read, &mut write).await
        }
    }
}

/// Sends on what the client sends until the pod says something.
async fn exchange(
    client: &mut Client,
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
) -> First {
    let mut sending = Sending::default();
    loop {
        if client.sent.len() == KEPT && sending.written == KEPT {
            return First::Answer {
                answer: Vec::new(),
                unsent: Vec::new(),
            };
        }
        tokio::select! {
            biased;
            answer = relay::read_some(read) => return match answer {
                Ok(bytes) if bytes.is_empty() => First::Cut,
                Ok(answer) => {
                    let unsent = client.sent.split_off(sending.written);
                    First::Answer { answer, unsent }
                }
                Err(error) => match DialError::from(error) {
                    DialError::Refused => First::Refused(DialError::Refused),
                    DialError::Failed(_) => First::Cut,
                },
            },
            stayed = sending.step(client, write) => if stayed.is_err() {
                return First::ClientGone;
            },
        }
    }
}

/// How much of what the client sent was passed on.
#[derive(Default)]
struct Sending {
    written: usize,
    unflushed: bool,
    /// The pod knows that there is no more.
    told: bool,
    /// The pod takes no more. It may have answered before that.
    deaf: bool,
}

impl Sending {
    /// One step; may be dropped at any time and begun again. Fails when the client is gone.
    async fn step(
        &mut self,
        client: &mut Client,
        write: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        if self.deaf {
            std::future::pending::<()>().await;
        }
        let done = if self.written < client.sent.len() {
            let count = write.write(&client.sent[self.written..]).await;
            count.map(|count| {
                self.written += count;
                self.unflushed = true;
            })
        } else if self.unflushed {
            write.flush().await.map(|()| self.unflushed = false)
        } else if client.wants_more() {
            return client.fill().await;
        } else if !self.told {
            write.shutdown().await.map(|()| self.told = true)
        } else {
            std::future::pending().await
        };
        self.deaf = done.is_err();
        Ok(())
    }
}
