//! What client and daemon say to each other: JSON, one value a line, a hello first from either side.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::event::{Event, Status};
use crate::logs::{LogLine, LogQuery};

/// Changes when an older peer could misunderstand a newer one.
pub const PROTOCOL: u32 = 1;

/// The first line from either side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Tells a rebuilt llmdev of the same version from the older one, and another Docker or kubeconfig from the one that
    /// the daemon was started with.
    pub build: String,
    /// For people.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
}

impl Hello {
    /// This process's hello.
    pub fn ours() -> Self {
        Hello {
            protocol: PROTOCOL,
            build: build_id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        }
    }
}

/// What decides which Docker and which cluster the daemon works with.
const SURROUNDINGS: [&str; 5] = [
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "KUBECONFIG",
    "MINIKUBE_HOME",
];

/// Size and time of the program file (cheap, and another for every build), and a digest of the surroundings.
fn build_id() -> String {
    use std::os::unix::fs::MetadataExt;
    let program = std::env::current_exe()
        .and_then(std::fs::metadata)
        .map(|meta| {
            format!(
                "{:x}-{:x}.{:x}",
                meta.len(),
                meta.mtime(),
                meta.mtime_nsec()
            )
        })
        .unwrap_or_default();
    let mut digest = blake3::Hasher::new();
    for name in SURROUNDINGS {
        digest.update(
            std::env::var_os(name)
                .unwrap_or_default()
                .as_encoded_bytes(),
        );
        digest.update(&[0]);
    }
    format!("{program}-{}", &digest.finalize().to_hex()[..8])
}

/// What a client asks for. One request a connection; what is sent after it is [`Request::Cancel`] or nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Bring services up: events until it has settled, then [`Answer::Done`].
    Up {
        /// Empty: all.
        services: BTreeSet<String>,
        /// Whether file changes are acted on from now on.
        watch: bool,
        /// Take fields over that other managers own.
        force: bool,
        /// The profile to read `stack.yaml` with.
        profile: Option<String>,
    },
    /// Take away what the stack owns and end the daemon: events, then [`Answer::Done`].
    Down {
        /// Claims, too.
        volumes: bool,
    },
    /// The status as it is: [`Answer::Status`].
    Status,
    /// A snapshot and then every change, until the client goes.
    Events,
    /// The services' output: [`Answer::Log`] lines, then [`Answer::Done`].
    Logs(LogQuery),
    /// Why a service is not ready: [`Answer::Findings`].
    Why {
        /// Its name.
        service: String,
    },
    /// Replace the pods of these services: events until they are ready, then [`Answer::Done`].
    Restart {
        /// At least one.
        services: BTreeSet<String>,
    },
    /// Send all files that sync rules cover into a service's containers.
    Sync {
        /// Its name.
        service: String,
    },
    /// Do not act on file changes, or do so again.
    Watch {
        /// Which of the two.
        on: bool,
    },
    /// End the daemon; the cluster is left as it is.
    Stop,
    /// Only within a connection whose request goes on: end it cleanly.
    Cancel,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// Something happened.
    Event(Box<Event>),
    /// The stack as it is.
    Status(Box<Status>),
    /// A line of output.
    Log(LogLine),
    /// Why a service is not ready, the likeliest first; none when it is healthy.
    Findings(Vec<Failure>),
    /// The end, with what went wrong.
    Done(Option<Failure>),
}
