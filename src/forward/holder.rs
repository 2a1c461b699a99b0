//! Which program holds a local port, where the system says so simply.

use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// `process postgres (pid 812)`; none when it is another user's, or not known.
pub(super) fn of(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let read = |path| std::fs::read_to_string(path).ok();
    let inode = tables
        .into_iter()
        .filter_map(read)
        .find_map(|table| listener(&table, port))?;
    let socket = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let pid = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|&pid| holds(pid, &socket))?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("process {} (pid {pid})", name.trim()))
}

/// The inode of the socket that listens on the port.
fn listener(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        let at = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        if at == port && state == LISTEN {
            inode.parse().ok()
        } else {
            None
        }
    })
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files
        .flatten()
        .any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link == Path::new(socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_sockets_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1538 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0\n   1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0 100 0\n";
        assert_eq!(listener(table, 5432), Some(99));
        assert_eq!(listener(table, 5433), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let said = of(socket.local_addr().unwrap().port()).unwrap();
        assert!(
            said.ends_with(&format!("(pid {})", std::process::id())),
            "{said}"
        );
    }
}
