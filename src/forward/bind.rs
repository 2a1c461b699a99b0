//! Opening a local port, or a free one in its place.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use super::holder;
use crate::error::Failure;
use crate::stack::ForwardSpec;

/// How many clients may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How many free ports are tried; each can be taken by another program before it is bound.
const TRIES: usize = 8;

pub(super) struct Bound {
    pub listeners: Vec<TcpListener>,
    pub address: String,
    pub port: u16,
    /// Why it is not the port that was wanted.
    pub elsewhere: Option<Failure>,
}

/// Opens the wanted port, or says why another one was opened.
pub(super) fn listen(spec: &ForwardSpec) -> Result<Bound, Failure> {
    let addresses = addresses(spec);
    let error = match bind(&addresses, spec.local) {
        Ok(listeners) => return bound(spec, listeners, None),
        Err(error) => error,
    };
    if !matches!(
        error.kind(),
        ErrorKind::AddrInUse | ErrorKind::PermissionDenied
    ) {
        return Err(cannot_listen(spec, &error));
    }
    for _ in 0..TRIES {
        // None where the host has no IPv6: portpicker calls no port free there. 0 lets the kernel choose.
        let port = portpicker::pick_unused_port().unwrap_or(0);
        if let Ok(listeners) = bind(&addresses, port) {
            let taken = taken(spec, &error, port_of(&listeners)?);
            return bound(spec, listeners, Some(taken));
        }
    }
    Err(cannot_listen(spec, &error))
}

/// How people call what is listened on.
pub(super) fn address_of(spec: &ForwardSpec) -> String {
    spec.address
        .map_or_else(|| "localhost".to_owned(), |address| address.to_string())
}

fn addresses(spec: &ForwardSpec) -> Vec<IpAddr> {
    match spec.address {
        Some(address) => vec![address],
        None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    }
}

/// Binds all addresses to one port; every address but the first may be missing on this host.
fn bind(addresses: &[IpAddr], port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for &address in addresses {
        let port = match listeners.first() {
            Some(first) => first.local_addr()?.port(),
            None => port,
        };
        match bind_one(SocketAddr::new(address, port)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if !listeners.is_empty() && absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // The connections of a daemon that ended a moment ago must not keep its successor from the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether the host lacks the address family.
fn absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn bound(
    spec: &ForwardSpec,
    listeners: Vec<TcpListener>,
    elsewhere: Option<Failure>,
) -> Result<Bound, Failure> {
    let port = port_of(&listeners)?;
    let alone = spec.address.is_none() && listeners.len() == 1;
    let address = if alone {
        Ipv4Addr::LOCALHOST.to_string()
    } else {
        address_of(spec)
    };
    Ok(Bound {
        listeners,
        address,
        port,
        elsewhere,
    })
}

fn port_of(listeners: &[TcpListener]) -> Result<u16, Failure> {
    let first = listeners
        .first()
        .ok_or_else(|| Failure::environment("no address to listen on"))?;
    match first.local_addr() {
        Ok(address) => Ok(address.port()),
        Err(error) => Err(Failure::environment("a new port cannot be named").because(error)),
    }
}

fn taken(spec: &ForwardSpec, error: &io::Error, instead: u16) -> Failure {
    let wanted = spec.local;
    let cause = match error.kind() {
        ErrorKind::PermissionDenied => "ports below 1024 need root here".to_owned(),
        _ => match holder::of(wanted) {
            Some(holder) => format!("it is held by {holder}"),
            None => "another program has it".to_owned(),
        },
    };
    Failure::environment(format!(
        "port {wanted} cannot be had, port {instead} is used instead"
    ))
    .cause(cause)
    .remedy(format!(
        "free port {wanted}, or choose another local port under `forward:` in stack.yaml"
    ))
}

fn cannot_listen(spec: &ForwardSpec, error: &io::Error) -> Failure {
    let what = format!("cannot listen on {} port {}", address_of(spec), spec.local);
    let failure = Failure::environment(what).cause(error.to_string());
    match error.kind() {
        ErrorKind::AddrNotAvailable => {
            failure.remedy("give an `address:` that this machine has, or none for loopback")
        }
        _ => failure,
    }
}
