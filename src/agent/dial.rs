//! Connections into pods: taken on the node's address, made inside the pod's network.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::process::Found;
use super::relay::relay;
use super::wire::{CONTAINERD, Dialled, NONCE, OPENING, opened};

/// Strangers are not waited for.
const OPENING_WITHIN: Duration = Duration::from_secs(5);
/// Loopback answers at once, unless the listener's queue is full.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Where kind and minikube have it.
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// Takes connections until the process ends; answers the port.
pub fn listen(address: IpAddr, key: [u8; 32], found: Arc<Found>) -> io::Result<u16> {
    let listener = std::net::TcpListener::bind((address, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("dial".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else {
                    return;
                };
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => drop(tokio::spawn(take(stream, key, found.clone()))),
                        // Out of file descriptors, say; it passes.
                        Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                }
            });
        })?;
    Ok(port)
}

async fn take(
    mut stream: tokio::net::TcpStream,
    key: [u8; 32],
    found: Arc<Found>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut nonce = [0; NONCE];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut nonce)?;
    stream.write_all(&nonce).await?;
    let mut opening = [0; OPENING];
    let read = tokio::time::timeout(OPENING_WITHIN, stream.read_exact(&mut opening));
    read.await.map_err(|_| io::ErrorKind::TimedOut)??;
    let Some((pod, port)) = opened(&key, &nonce, &opening) else {
        return Ok(());
    };
    let connected = if pod == CONTAINERD {
        tokio::net::UnixStream::connect(CONTAINERD_SOCKET)
            .await
            .map(To::Containerd)
    } else {
        connect(found, pod, port).await.map(To::Pod)
    };
    match connected {
        Ok(to) => {
            stream.write_all(&[Dialled::Yes as u8]).await?;
            match to {
                To::Pod(to) => relay(&stream, &to).await,
                To::Containerd(mut to) => tokio::io::copy_bidirectional(&mut stream, &mut to)
                    .await
                    .map(|_| ()),
            }
        }
        Err(error) => {
            let why = match error.kind() {
                io::ErrorKind::NotFound => Dialled::NoPod,
                io::ErrorKind::ConnectionRefused => Dialled::Refused,
                _ => Dialled::Failed,
            };
            stream.write_all(&[why as u8]).await?;
            stream.shutdown().await
        }
    }
}

enum To {
    Pod(tokio::net::TcpStream),
    Containerd(tokio::net::UnixStream),
}

async fn connect(found: Arc<Found>, pod: String, port: u16) -> io::Result<tokio::net::TcpStream> {
    let (done, connected) = tokio::sync::oneshot::channel();
    // A thread that was in another network is never used for anything else.
    std::thread::Builder::new()
        .name("connect".to_owned())
        .stack_size(256 << 10)
        .spawn(move || {
            let _ = done.send(connect_inside(&found, &pod, port));
        })?;
    let stream = connected.await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    tokio::net::TcpStream::from_std(stream)
}

fn connect_inside(found: &Found, pod: &str, port: u16) -> io::Result<TcpStream> {
    let pid = found.of_pod(pod).ok_or(io::ErrorKind::NotFound)?;
    let network = File::open(format!("/proc/{pid}/ns/net"))?;
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    let to = |address: IpAddr| {
        TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT_WITHIN)
    };
    // A pod without IPv6 has other errors for its address; the first one says more.
    to(Ipv4Addr::LOCALHOST.into())
        .or_else(|error| to(Ipv6Addr::LOCALHOST.into()).map_err(|_| error))
}
