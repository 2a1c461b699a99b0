//! Connections through the agent in a node: to ports of its pods, and to its containerd.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::agent::wire::{self, Dialled, NONCE};

/// A node that can be reached is near.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// The agent gives up on the pod's port before that.
const OPEN_WITHIN: Duration = Duration::from_secs(15);

/// Where an agent takes connections.
pub struct Door {
    address: SocketAddr,
    key: [u8; 32],
    /// Whether it can be reached from here; seen at the first connection.
    reachable: OnceCell<bool>,
}

impl Door {
    /// A door at this address, which opens to who knows the key.
    pub fn new(address: SocketAddr, key: [u8; 32]) -> Door {
        Door {
            address,
            key,
            reachable: OnceCell::new(),
        }
    }

    /// Connects to a port of a pod on the agent's node, as a process in the pod would connect to its own loopback; or
    /// to [`wire::CONTAINERD`].
    ///
    /// # Errors
    /// `ConnectionRefused`: nothing listens there. `NotFound`: no such pod runs on the node. `Unsupported`: the node
    /// cannot be reached from here, and never will. Others as they come.
    pub async fn dial(&self, to: &str, port: u16) -> io::Result<TcpStream> {
        let connect = async {
            let connected =
                tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(self.address)).await;
            connected
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
                .and_then(|done| done)
        };
        let mut first = None;
        let reachable = self.reachable.get_or_init(|| async {
            first = connect.await.ok();
            first.is_some()
        });
        if !*reachable.await {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut stream = match first {
            Some(stream) => stream,
            None => TcpStream::connect(self.address).await?,
        };
        stream.set_nodelay(true)?;
        let opening = async {
            let mut nonce = [0; NONCE];
            stream.read_exact(&mut nonce).await?;
            stream
                .write_all(&wire::opening(&self.key, &nonce, to, port)?)
                .await?;
            stream.read_u8().await
        };
        let answer = tokio::time::timeout(OPEN_WITHIN, opening).await;
        match Dialled::from_byte(answer.map_err(|_| io::ErrorKind::TimedOut)??) {
            Dialled::Yes => Ok(stream),
            Dialled::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
            Dialled::NoPod => Err(io::ErrorKind::NotFound.into()),
            Dialled::Failed => Err(io::Error::other("the pod's port does not answer")),
        }
    }
}
