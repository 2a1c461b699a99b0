//! Bytes both ways. No buffer is held while none move, so that thousands of idle connections are cheap.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dial::Upstream;

/// Bytes that are moved at once.
const CHUNK: usize = 64 * 1024;
/// Where the pod can't be told that the client has sent all: how long it may be silent before the connection
/// is taken to be over, when the client's last bytes were not answered yet, and when they were.
const UNANSWERED: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_secs(1);

/// Copies until both sides have ended, or reading one has failed. A side that has sent all can still receive.
///
/// With each side comes what was read of it already.
pub(super) async fn run(
    (client, sent): (TcpStream, Vec<u8>),
    (upstream, answered): (Upstream, Vec<u8>),
) -> io::Result<()> {
    let (mut client_read, mut client_write) = client.into_split();
    match upstream {
        Upstream::Tcp(stream) => {
            let (mut pod_read, mut pod_write) = stream.into_split();
            let up = copy(sent, &mut client_read, &mut pod_write, || ());
            let down = copy(answered, &mut pod_read, &mut client_write, || ());
            tokio::try_join!(up, down).map(|_| ())
        }
        Upstream::Api(stream) => {
            let (mut pod_read, mut pod_write) = tokio::io::split(*stream);
            let moved = Moved::default();
            let up = copy(sent, &mut client_read, &mut pod_write, || moved.sent());
            let down = copy(answered, &mut pod_read, &mut client_write, || {
                moved.answered()
            });
            tokio::pin!(down);
            tokio::select! {
                ended = &mut down => return ended,
                ended = up => ended?,
            }
            loop {
                let before = moved.answers.load(Relaxed);
                match timeout(moved.patience(), &mut down).await {
                    Ok(ended) => return ended,
                    Err(_) if moved.answers.load(Relaxed) == before => return Ok(()),
                    Err(_) => {}
                }
            }
        }
    }
}

/// Who moved bytes last.
#[derive(Default)]
struct Moved {
    answers: AtomicU64,
    pod_was_last: AtomicBool,
}

impl Moved {
    fn sent(&self) {
        self.pod_was_last.store(false, Relaxed);
    }

    fn answered(&self) {
        self.pod_was_last.store(true, Relaxed);
        self.answers.fetch_add(1, Relaxed);
    }

    fn patience(&self) -> Duration {
        if self.pod_was_last.load(Relaxed) {
            ANSWERED
        } else {
            UNANSWERED
        }
    }
}

/// Copies one direction, first `left`, and passes its end on.
async fn copy(
    left: Vec<u8>,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: impl Fn(),
) -> io::Result<()> {
    let mut copy = Copy {
        left,
        done: 0,
        unflushed: true,
    };
    poll_fn(|cx| copy.poll(cx, from, to, &moved)).await?;
    // A side that is gone already needs no word of the end.
    let _ = to.shutdown().await;
    Ok(())
}

struct Copy {
    /// What was read and not written, only while the writer is slower than the reader.
    left: Vec<u8>,
    done: usize,
    unflushed: bool,
}

impl Copy {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        moved: &impl Fn(),
    ) -> Poll<io::Result<()>> {
        // On the stack, so that it is there only while this runs.
        let mut chunk = [const { MaybeUninit::<u8>::uninit() }; CHUNK];
        loop {
            while self.done < self.left.len() {
                match ready!(write(cx, to, &self.left[self.done..])) {
                    0 => return Poll::Ready(Ok(())),
                    count => self.done += count,
                }
            }
            self.left = Vec::new();
            self.done = 0;
            let mut read = ReadBuf::uninit(&mut chunk);
            match Pin::new(&mut *from).poll_read(cx, &mut read) {
                Poll::Pending => {
                    if self.unflushed {
                        // An error shows again at the next write.
                        let _ = ready!(Pin::new(&mut *to).poll_flush(cx));
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
                Poll::Ready(done) => done?,
            }
            let mut bytes = read.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            moved();
            self.unflushed = true;
            while !bytes.is_empty() {
                match write(cx, to, bytes) {
                    Poll::Ready(0) => return Poll::Ready(Ok(())),
                    Poll::Ready(count) => bytes = &bytes[count..],
                    Poll::Pending => {
                        self.left = bytes.to_vec();
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

/// Writes a part; 0 when that side takes no more. It may still be sending: that is no failure of the connection.
fn write(cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Poll<usize> {
    Pin::new(to)
        .poll_write(cx, bytes)
        .map(|count| count.unwrap_or(0))
}

/// Reads once; holds no buffer while it waits. Empty is the end.
pub(super) async fn read_some(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    poll_fn(|cx| {
        let mut chunk = [const { MaybeUninit::<u8>::uninit() }; CHUNK];
        let mut read = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut *from).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(read.filled().to_vec()))
    })
    .await
}
