//! An API server whose nodes say that they run containers with something else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// All that a cluster says, but for the runtime.
pub struct Posing {
    proxy: Child,
    port: u16,
}

/// Of which both are one length, so that the answers' heads stay true.
const LENGTH: usize = 13;
const TRUE: &[u8; LENGTH] = b"containerd://";
pub const DOCKER: &[u8; LENGTH] = b"docker://29.0";
pub const CRI_O: &[u8; LENGTH] = b"cri-o://1.36.";

impl Posing {
    /// The cluster that kubectl reaches with these words, as one of that runtime.
    pub fn of(reached: &[&str], runtime: &'static [u8; LENGTH]) -> Posing {
        let mut proxy = Command::new("kubectl")
            .args(reached)
            .args(["proxy", "--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let out = proxy.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        let server = said.rsplit(' ').next().unwrap().trim().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Its end closes the listener's clients as well.
                let Ok(server) = TcpStream::connect(&server) else {
                    return;
                };
                let (mut asks, mut asked) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut asks, &mut asked));
                std::thread::spawn(move || pass_on(server, client, runtime));
            }
        });
        Posing { proxy, port }
    }

    /// A kubeconfig that leads there.
    pub fn config(&self) -> Value {
        let server = format!("http://127.0.0.1:{}", self.port);
        json!({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{"cluster": {"server": server}}], "contexts": [{"context": {}}], "users": [{"user": {}}],
        })
    }
}

impl Drop for Posing {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

fn pass_on(mut server: TcpStream, mut client: TcpStream, runtime: &[u8; LENGTH]) {
    let (mut held, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    while let Ok(read @ 1..) = server.read(&mut piece) {
        held.extend_from_slice(&piece[..read]);
        while let Some(at) = held.windows(LENGTH).position(|part| part == TRUE) {
            held[at..at + LENGTH].copy_from_slice(runtime);
        }
        // What may be its beginning waits for the rest.
        let begun = (1..LENGTH)
            .rev()
            .find(|&some| held.ends_with(&TRUE[..some]));
        let rest = held.split_off(held.len() - begun.unwrap_or(0));
        if client.write_all(&held).is_err() {
            break;
        }
        held = rest;
    }
    let _ = client.write_all(&held);
    let _ = client.shutdown(std::net::Shutdown::Both);
}
