//! A way to a server that can be cut and restored.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

/// Listens on a loopback port and passes all on to a server.
pub struct Proxy {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cut: bool,
    open: Vec<Ends>,
}

enum Side {
    Tcp(TcpStream),
    Unix(UnixStream),
}

type Ends = (Side, Side);

impl Proxy {
    /// A way to a server whose address is written as in `DOCKER_HOST` or in a kubeconfig.
    pub fn to(address: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, server) = (Arc::clone(&state), address.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut state = shared.lock().unwrap();
                // Accepted and closed at once: to the client the server is gone.
                if !state.cut {
                    let ends = Side::to(&server).map(|server| join(Side::Tcp(client), server));
                    state.open.extend(ends);
                }
            }
        });
        Proxy { port, state }
    }

    /// Nothing gets through any more, nor what is under way.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.cut = true;
        for (client, server) in state.open.drain(..) {
            client.shutdown();
            server.shutdown();
        }
    }

    pub fn restore(&self) {
        self.state.lock().unwrap().cut = false;
    }
}

/// Passes on in both directions; what can be shut to end it.
fn join(client: Side, server: Side) -> Ends {
    for (mut from, mut to) in [
        (client.clone(), server.clone()),
        (server.clone(), client.clone()),
    ] {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            to.finish();
        });
    }
    (client, server)
}

impl Side {
    fn to(server: &str) -> Option<Side> {
        match server.split_once("://") {
            Some(("unix", path)) => UnixStream::connect(path).ok().map(Side::Unix),
            Some((_, host)) => TcpStream::connect(host).ok().map(Side::Tcp),
            None => None,
        }
    }

    fn shutdown(&self) {
        let _ = match self {
            Side::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Side::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    fn finish(&self) {
        let _ = match self {
            Side::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Side::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

impl Clone for Side {
    fn clone(&self) -> Self {
        match self {
            Side::Tcp(stream) => Side::Tcp(stream.try_clone().unwrap()),
            Side::Unix(stream) => Side::Unix(stream.try_clone().unwrap()),
        }
    }
}

impl Read for Side {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Side::Tcp(stream) => stream.read(buffer),
            Side::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Side {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Side::Tcp(stream) => stream.write(bytes),
            Side::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
