//! A connection to a pod's port through the API server: the way that always works.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::{Sink, Stream};
use hyper_util::rt::TokioIo;
use kube::client::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Channels of Kubernetes' port forwarding over a web socket, for the one port that was asked for.
const DATA: u8 = 0;
const ERROR: u8 = 1;
/// One message's payload in bytes: what the kubelet reads at once.
const FRAME: usize = 32 * 1024;

/// A pod's port as a byte stream.
///
/// The protocol can't say "I have sent all" without closing the connection altogether, so `shutdown` does
/// nothing; and a pod's refusal arrives as an error of the first read, not of the dial.
pub struct ApiStream {
    socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    /// Whether a channel's first message, which repeats the port, has come.
    begun: [bool; 2],
    unread: Bytes,
}

impl ApiStream {
    pub(super) fn new(connection: Connection) -> Self {
        ApiStream {
            socket: connection.into_stream(),
            begun: [false; 2],
            unread: Bytes::new(),
        }
    }

    /// Takes a message in; `Ok(false)` is the end.
    fn take(&mut self, message: Message) -> io::Result<bool> {
        let mut payload = match message {
            Message::Binary(payload) => payload,
            Message::Close(_) => return Ok(false),
            _ => return Ok(true),
        };
        if payload.is_empty() {
            return Ok(true);
        }
        let channel = payload.get_u8();
        let begun = self.begun.get_mut(usize::from(channel));
        let begun = begun.ok_or_else(|| io::Error::other(format!("unknown channel {channel}")))?;
        if !std::mem::replace(begun, true) {
            return Ok(true);
        }
        match channel {
            DATA => self.unread = payload,
            ERROR => return Err(said_by_the_node(&String::from_utf8_lossy(&payload))),
            _ => unreachable!("only two channels are begun"),
        }
        Ok(true)
    }
}

/// The node's words as an error; their kind tells a refusal from all else.
fn said_by_the_node(text: &str) -> io::Error {
    let refused = text.contains("connection refused");
    let kind = if refused {
        io::ErrorKind::ConnectionRefused
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, text.trim().to_owned())
}

fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::ConnectionReset, other),
    }
}

impl AsyncRead for ApiStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            let goes_on = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(message) => self.take(message.map_err(broken)?)?,
                None => false,
            };
            if !goes_on {
                return Poll::Ready(Ok(()));
            }
        }
        let count = into.remaining().min(self.unread.len());
        into.put_slice(&self.unread.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ApiStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(broken)?;
        let part = &from[..from.len().min(FRAME)];
        let mut frame = Vec::with_capacity(part.len() + 1);
        frame.push(DATA);
        frame.extend_from_slice(part);
        Pin::new(&mut self.socket)
            .start_send(Message::binary(frame))
            .map_err(broken)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_other_errors() {
        let refused = "an error occurred forwarding 6334: failed to connect to localhost:6334 inside namespace: dial tcp4 127.0.0.1:6334: connect: connection refused";
        assert_eq!(
            said_by_the_node(refused).kind(),
            io::ErrorKind::ConnectionRefused
        );
        assert_eq!(said_by_the_node("no such pod").kind(), io::ErrorKind::Other);
    }
}
