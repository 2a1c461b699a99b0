//! The stack's ports on this machine: free, this stack's own already, or somebody else's.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::Check;
use crate::event::Status;
use crate::stack::{ForwardSpec, Stack};

/// `daemon` is the process of this stack's daemon, and what it says.
pub(super) async fn check(stack: &Stack, daemon: Option<&(u32, Status)>) -> Vec<Check> {
    let (daemon, status) = (daemon.map(|it| it.0), daemon.map(|it| &it.1));
    let own: Vec<u16> = status
        .iter()
        .flat_map(|status| &status.services)
        .flat_map(|service| &service.forwards)
        .filter(|forward| forward.wanted.is_none() && forward.problem.is_none())
        .map(|forward| forward.local)
        .collect();
    let wanted: Vec<(String, ForwardSpec)> = stack
        .services
        .iter()
        .flat_map(|service| {
            service
                .forwards
                .iter()
                .map(|one| (service.name.clone(), one.clone()))
        })
        .collect();
    // Looking for a holder reads much of /proc.
    let checked = tokio::task::spawn_blocking(move || all(&wanted, &own, daemon));
    checked.await.unwrap_or_default()
}

fn all(wanted: &[(String, ForwardSpec)], own: &[u16], daemon: Option<u32>) -> Vec<Check> {
    let taken = wanted
        .iter()
        .filter(|(_, spec)| !own.contains(&spec.local) && !is_free(spec))
        .map(|(service, spec)| (service, spec, holder(spec.local)));
    // Also with a port that leads nowhere it is the daemon's.
    let taken: Vec<_> = taken
        .filter(|(_, _, holder)| daemon.is_none() || holder.as_ref().map(|it| it.0) != daemon)
        .collect();
    let held = |spec: &ForwardSpec| own.contains(&spec.local) || !is_free(spec);
    let free = wanted.iter().filter(|(_, spec)| !held(spec)).count();
    let mine = wanted.len() - free - taken.len();
    let mut checks: Vec<_> = taken
        .into_iter()
        .map(|(service, spec, holder)| {
            let holder = match holder {
                Some((pid, name)) => format!("{name} (process {pid})"),
                None => "another program".to_owned(),
            };
            let found = format!("{} of {service} is held by {holder}", spec.local);
            Check::warning("port", found)
                .remedy("`llmdev up` takes a free one instead and says so; or end that program")
        })
        .collect();
    if mine + free > 0 {
        let found = match (mine, free) {
            (0, free) => format!("{free} free"),
            (mine, 0) => format!("{mine} forwarded by this stack's daemon"),
            (mine, free) => format!("{mine} forwarded by this stack's daemon, {free} free"),
        };
        checks.insert(0, Check::good("ports", found));
    }
    checks
}

fn is_free(spec: &ForwardSpec) -> bool {
    let addresses = match spec.address {
        Some(address) => vec![address],
        None => vec![
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ],
    };
    addresses.into_iter().all(|address| {
        match TcpListener::bind(SocketAddr::new(address, spec.local)) {
            Ok(_) => true,
            // A machine without this address family.
            Err(error) => error.kind() == std::io::ErrorKind::AddrNotAvailable,
        }
    })
}

/// The program that listens on a port, as far as this user may know.
fn holder(port: u16) -> Option<(u32, String)> {
    let sockets: Vec<_> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbered = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in numbered {
        let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let held = open.flatten().any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|target| {
                sockets
                    .iter()
                    .any(|socket| target.as_os_str() == socket.as_str())
            })
        });
        if held {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

/// The inodes of the sockets that listen on a port, from a table of the kernel's.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTENS: &str = "0A";
    let mut inodes = Vec::new();
    for line in table.lines().skip(1) {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [_, local, _, LISTENS, _, _, _, _, _, inode, ..] = columns[..] else {
            continue;
        };
        let here = local
            .rsplit_once(':')
            .map(|(_, port)| u16::from_str_radix(port, 16));
        if here == Some(Ok(port)) {
            inodes.push(inode.to_owned());
        }
    }
    inodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_held_is_said_with_its_holder() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let spec = ForwardSpec {
            local: port,
            remote: 80,
            address: None,
        };
        let wanted = [("web".to_owned(), spec)];
        let checks = all(&wanted, &[], None);
        let me = format!("(process {})", std::process::id());
        assert!(checks[0].found.contains(&me), "{checks:?}");
        assert_eq!(
            all(&wanted, &[port], None)[0].found,
            "1 forwarded by this stack's daemon"
        );
        let own = all(&wanted, &[], Some(std::process::id()));
        assert_eq!(own[0].found, "1 forwarded by this stack's daemon");
        drop(held);
        assert_eq!(all(&wanted, &[], None)[0].found, "1 free");
    }

    #[test]
    fn the_kernels_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0 20 4 30 10 -1";
        assert_eq!(listening(table, 8080), ["4242"]);
        assert!(listening(table, 80).is_empty());
    }
}
