//! A container's last lines, read where its node keeps them, without the API server and the kubelet on the way.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::line::Raw;
use crate::cluster::agent::{Agent, Agents};

/// An agent that runs answers at once; one that is yet to be started is not waited for.
const AGENT_WITHIN: Duration = Duration::from_millis(100);
/// Reading the end of a file.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// Lines; whoever wants more has the time.
const MOST: usize = 10_000;

/// The last lines of a container's last run. None: they cannot be read this way, and the API server has to be asked.
pub(super) async fn last_lines(
    agents: &Agents,
    pod: &Pod,
    container: &str,
    restarts: i32,
    tail: usize,
) -> Option<Vec<Raw>> {
    if tail > MOST {
        return None;
    }
    let file = file(pod, container, restarts)?;
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    let agent = tokio::time::timeout(AGENT_WITHIN, agents.on(node)).await;
    let agent = agent.ok()?.ok()?;
    let read = read(&agent, &file, tail);
    let text = tokio::time::timeout(READ_WITHIN, read).await.ok()??;
    let lines = text.strip_suffix(b"\n").unwrap_or(&text);
    match lines.is_empty() {
        true => Some(Vec::new()),
        false => lines.split(|byte| *byte == b'\n').map(parse).collect(),
    }
}

async fn read(agent: &Agent, file: &str, tail: usize) -> Option<Vec<u8>> {
    let tail = tail.to_string();
    let output = agent.run(&["tail", "-n", &tail, "--", file], &[]).await;
    Some(output.ok().filter(|output| output.code == 0)?.stdout)
}

/// Where a kubelet has the runtime write it.
fn file(pod: &Pod, container: &str, restarts: i32) -> Option<String> {
    let meta = &pod.metadata;
    let (space, name, uid) = (
        meta.namespace.as_ref()?,
        meta.name.as_ref()?,
        meta.uid.as_ref()?,
    );
    Some(format!(
        "/var/log/pods/{space}_{name}_{uid}/{container}/{restarts}.log"
    ))
}

/// A line as the runtime writes it, `TIME STREAM TAG TEXT`, as the API server would send it. None: it is a part of a line,
/// or it is written in another way, as Docker does.
fn parse(line: &[u8]) -> Option<Raw> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    if !matches!(stream, b"stdout" | b"stderr")
        || !matches!(tag.split(|byte| *byte == b':').next(), Some(b"F"))
    {
        return None;
    }
    let mut raw = Raw::default();
    raw.push(time);
    raw.push(b" ");
    raw.push(parts.next()?);
    Some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtime_writes_is_what_the_api_server_sends() {
        let text = |line: &str| parse(line.as_bytes()).map(|raw| raw.parse().unwrap());
        let (at, words) = text("2026-11-21T08:09:52.123456789Z stderr F one  two").unwrap();
        assert_eq!(at.to_rfc3339(), "2026-11-21T08:09:52.123456789+00:00");
        assert_eq!(words, "one  two");
        assert_eq!(text("2026-11-21T08:09:52Z stdout F ").unwrap().1, "");
        for other in [
            "2026-11-21T08:09:52Z stdout P a part",
            r#"{"log":"by Docker\n","stream":"stdout","time":"2026-11-21T08:09:52Z"}"#,
            "half a line",
            "",
        ] {
            assert_eq!(parse(other.as_bytes()), None, "{other}");
        }
    }
}
