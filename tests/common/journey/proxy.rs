//! A way to a server that can be cut, fall silent, and be restored.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Listens on a loopback port and passes all on to a server.
pub struct Proxy {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    way: Way,
    open: Vec<Connection>,
    /// Clients that wait for a server that never hears of them.
    unheard: Vec<TcpStream>,
}

#[derive(Default)]
enum Way {
    #[default]
    Open,
    Cut,
    Silent,
}

enum Side {
    Tcp(TcpStream),
    Unix(UnixStream),
}

struct Connection {
    client: Side,
    server: Side,
    /// What comes from either end is swallowed.
    forgotten: Arc<AtomicBool>,
}

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
                match state.way {
                    Way::Open => {
                        let server = Side::to(&server);
                        let both = server.map(|server| join(Side::Tcp(client), server));
                        state.open.extend(both);
                    }
                    // Accepted and closed at once: to the client the server is gone.
                    Way::Cut => {}
                    Way::Silent => state.unheard.push(client),
                }
            }
        });
        Proxy { port, state }
    }

    /// Nothing gets through any more, nor what is under way.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.way = Way::Cut;
        for connection in state.open.drain(..) {
            connection.client.shutdown();
            connection.server.shutdown();
        }
    }

    /// Whoever connects gets no answer, and what is connected is forgotten: it never gets one again.
    pub fn silence(&self) {
        let mut state = self.state.lock().unwrap();
        state.way = Way::Silent;
        for connection in &state.open {
            connection.forgotten.store(true, Ordering::SeqCst);
        }
    }

    pub fn restore(&self) {
        self.state.lock().unwrap().way = Way::Open;
    }
}

/// Passes on in both directions, until it is forgotten.
fn join(client: Side, server: Side) -> Connection {
    let forgotten: Arc<AtomicBool> = Arc::default();
    for (mut from, mut to) in [
        (client.clone(), server.clone()),
        (server.clone(), client.clone()),
    ] {
        let forgotten = Arc::clone(&forgotten);
        std::thread::spawn(move || {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                if !forgotten.load(Ordering::SeqCst) && to.write_all(&bytes[..length]).is_err() {
                    break;
                }
            }
            if !forgotten.load(Ordering::SeqCst) {
                to.finish();
            }
        });
    }
    Connection {
        client,
        server,
        forgotten,
    }
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
