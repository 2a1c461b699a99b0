//! A client's side of the daemon's socket.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec};

use super::protocol::{Answer, Hello, PROTOCOL, Request};
use super::{lock, spawn};
use crate::error::{Failure, Result};
use crate::state::State;

/// An answer's longest line: a status of a very large stack, or a log line, fits many times.
pub(super) const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// How often a daemon is started that ends at once.
const STARTS: usize = 3;

/// How long a daemon may take to end by itself before it is said that it hangs.
const END: Duration = Duration::from_secs(15);

/// A connection to a daemon that has said hello.
#[derive(Debug)]
pub struct Client {
    lines: Framed<UnixStream, LinesCodec>,
    /// What the daemon said of itself.
    pub daemon: Hello,
}

impl Client {
    /// Connects to the daemon of a stack; `None` when none runs.
    ///
    /// # Errors
    /// When one runs but cannot be understood.
    pub async fn connect(state: &State) -> Result<Option<Self>> {
        let path = state.socket()?;
        let Ok(stream) = UnixStream::connect(&path).await else {
            return Ok(None);
        };
        let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(LONGEST_LINE));
        // One that was killed takes connections until the kernel has taken it away.
        if say(&mut lines, &Hello::ours()).await.is_err() {
            return Ok(None);
        }
        let Some(Ok(line)) = lines.next().await else {
            return Ok(None);
        };
        let daemon = serde_json::from_str(&line).map_err(|error| {
            Failure::environment("the daemon's hello cannot be read")
                .because(error)
                .remedy("llmdev daemon stop")
        })?;
        Ok(Some(Client { lines, daemon }))
    }

    /// Connects to the daemon of a stack that is this very program; starts one, or replaces an older one, as needed.
    /// Says whether it was started.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn connect_or_start(state: &State, file: &std::path::Path) -> Result<(Self, bool)> {
        if let Some(client) = Self::connect(state).await? {
            if client.daemon.build == Hello::ours().build {
                return Ok((client, false));
            }
            client.end(state).await?;
        }
        // While one that was killed has the lock yet, another one does not start.
        for _ in 0..STARTS {
            spawn::spawn(state, file).await?;
            if let Some(client) = Self::connect(state).await? {
                return Ok((client, true));
            }
        }
        Err(
            Failure::environment("the daemon ended as soon as it had started")
                .detail(spawn::last_log_lines(state))
                .remedy("llmdev daemon logs"),
        )
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When the daemon has gone, or speaks another protocol.
    pub async fn ask(&mut self, request: &Request) -> Result<()> {
        if self.daemon.protocol != PROTOCOL && !matches!(request, Request::Stop) {
            return Err(Failure::environment(format!(
                "the daemon is llmdev {}, this is {}",
                self.daemon.version,
                env!("CARGO_PKG_VERSION")
            ))
            .remedy("`llmdev up` replaces it"));
        }
        say(&mut self.lines, request).await
    }

    /// The next answer; `None` when the daemon has closed the connection.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn answer(&mut self) -> Result<Option<Answer>> {
        match self.lines.next().await {
            None | Some(Err(_)) => Ok(None),
            Some(Ok(line)) => serde_json::from_str(&line).map(Some).map_err(|error| {
                Failure::environment("the daemon's answer cannot be read").because(error)
            }),
        }
    }

    /// Asks the daemon to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(mut self, state: &State) -> Result<()> {
        self.ask(&Request::Stop).await?;
        let ended = tokio::time::timeout(END, lock::released(&state.lock())).await;
        ended.unwrap_or_else(|_| {
            let pid = self.daemon.pid;
            Err(
                Failure::environment(format!("the daemon (process {pid}) does not end"))
                    .remedy(format!("kill {pid}")),
            )
        })
    }
}

async fn say(
    lines: &mut Framed<UnixStream, LinesCodec>,
    value: &impl serde::Serialize,
) -> Result<()> {
    let text = serde_json::to_string(value).expect("the protocol's types are plain data");
    lines
        .send(text)
        .await
        .map_err(|error| Failure::environment("the daemon has gone").because(error))
}
