//! Bytes from one connection to another and back, through one buffer for all: a connection that waits costs no memory.

use std::cell::RefCell;
use std::io;

use rustix::net::{Shutdown as End, shutdown};
use tokio::net::TcpStream;

/// What is read at once.
const PIECE: usize = 256 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE]);
}

/// Copies both ways until both have ended. The end of the one way is passed on, and leaves the other one open.
pub async fn relay(a: &TcpStream, b: &TcpStream) -> io::Result<()> {
    let done = tokio::try_join!(one_way(a, b), one_way(b, a));
    done.map(|_| ())
}

async fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    loop {
        from.readable().await?;
        // What the other side does not take at once is kept apart, and the buffer is free for others.
        let step = BUFFER.with_borrow_mut(|buffer| -> io::Result<Option<Vec<u8>>> {
            let read = match from.try_read(buffer) {
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Some(Vec::new()));
                }
                Err(error) => return Err(error),
            };
            let written = written(to, &buffer[..read])?;
            Ok(Some(buffer[written..read].to_vec()))
        });
        let Some(mut left) = step? else {
            shutdown(to, End::Write).or_else(ended_already)?;
            return Ok(());
        };
        while !left.is_empty() {
            to.writable().await?;
            let written = written(to, &left)?;
            left.drain(..written);
        }
    }
}

/// Writes what the other side takes at once.
fn written(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match to.try_write(&bytes[written..]) {
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn ended_already(error: rustix::io::Errno) -> io::Result<()> {
    if error == rustix::io::Errno::NOTCONN {
        Ok(())
    } else {
        Err(error.into())
    }
}
