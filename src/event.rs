//! What happens, as one type that the terminal, `-o json`, the dashboard and the log are fed from.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// Where a service is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Nothing was begun, or it waits for what it depends on.
    Pending,
    /// Docker builds its image.
    Building,
    /// The image goes into the nodes.
    Loading,
    /// Its objects are sent to the API server.
    Applying,
    /// Applied, not ready yet.
    Starting,
    /// Ready.
    Ready,
    /// It cannot become ready without a change.
    Failed,
    /// Taken down.
    Stopped,
}

/// One service, as `llmdev status -o json` prints it. Stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its name in `stack.yaml`.
    pub name: String,
    /// Where it is.
    pub phase: Phase,
    /// Whether something of it serves, be it an older version.
    pub ready: bool,
    /// Whether an older version serves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub older: bool,
    /// What it waits for or why it failed, in one line.
    pub reason: Option<String>,
    /// The services that hold it up: of what it depends on, those that failed, or else those that are not ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// The image's reference that its workload has.
    pub image: Option<String>,
    /// Its pods.
    pub pods: Vec<PodStatus>,
    /// Its local ports.
    pub forwards: Vec<ForwardStatus>,
    /// When the phase began.
    pub since: DateTime<Utc>,
    /// The whole failure when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How long each stage took the last time it ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timings: Vec<Timing>,
}

/// One pod of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Its name.
    pub name: String,
    /// Kubernetes' own word for its state, as `kubectl get pods` shows it.
    pub status: String,
    /// Whether it takes connections.
    pub ready: bool,
    /// Restarts of all its containers.
    pub restarts: u32,
    /// The node it runs on.
    pub node: Option<String>,
}

impl PodStatus {
    /// The word for a pod whose end was asked for.
    pub const STOPPING: &str = "Terminating";

    /// Whether its end was asked for.
    pub fn is_stopping(&self) -> bool {
        self.status == Self::STOPPING
    }
}

/// One local port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForwardStatus {
    /// What is listened on, such as `127.0.0.1` or `localhost` (both address families).
    pub address: String,
    /// The local port.
    pub local: u16,
    /// The container's port.
    pub remote: u16,
    /// The port that was asked for, when another program had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u16>,
    /// What is wrong with it, such as that nothing listens on the port in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How long a stage took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timing {
    /// `build`, `load`, `apply`, `start` or `sync`.
    pub stage: String,
    /// Milliseconds.
    pub ms: u64,
    /// What held it although the program did not, in a short phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// The whole stack, as `llmdev status -o json` prints it. Stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The stack's name.
    pub stack: String,
    /// The kubeconfig context; none before it is known.
    pub cluster: Option<String>,
    /// In the order of `stack.yaml`.
    pub services: Vec<ServiceStatus>,
    /// Whether file changes are acted on.
    pub watching: bool,
    /// Why the cluster does not answer; what is said of the services is what it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<String>,
    /// Why the stack as a whole could not be read or applied as it is now; what was up before goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// How loudly a note is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// What llmdev did.
    Info,
    /// What the user should know.
    Warning,
    /// What went wrong.
    Error,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// A service's row changed; the whole row.
    Service(Box<ServiceStatus>),
    /// All rows: the first event a subscriber gets, and again when it lagged or `stack.yaml` changed.
    Snapshot(Status),
    /// A line for people.
    Note {
        /// How loudly.
        level: Level,
        /// Whom it concerns.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// The line.
        text: String,
    },
}

/// [`What`], numbered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Grows by one an event, within one daemon's life.
    pub seq: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub what: What,
}
