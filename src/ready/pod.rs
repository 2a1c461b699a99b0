//! The state of one pod.

use k8s_openapi::api::core::v1::{
    Container, ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodSpec,
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::problem::{Exit, Problem, Trouble};
use super::{State, scheduling};
use crate::view::is_ready;

/// Without a readiness probe a program counts as ready while it is only about to crash; node times are in seconds.
const JUST_STARTED: SignedDuration = SignedDuration::from_secs(2);
/// A container that has run this much longer than its last run did is taken to be over its crashes.
const OUTLIVED: SignedDuration = SignedDuration::from_secs(10);
/// Longer than this no run has to be to be believed.
const LONG_RUN: SignedDuration = SignedDuration::from_secs(60);
/// Starts that lie further in the future are a matter of clocks.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(-5);

/// The state of one pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PodState {
    /// It takes connections.
    Ready,
    /// It ended well.
    Done,
    /// Somebody asked for its end.
    Stopping,
    /// It may become ready by itself.
    Waiting(String),
    /// It will not.
    Broken(Problem),
}

/// A pod that stands for itself.
pub(super) fn bare(pod: &Pod, now: Timestamp) -> State {
    match pod_state(pod, now) {
        PodState::Ready | PodState::Done => State::Ready,
        PodState::Stopping => State::waiting("pod is stopping"),
        PodState::Waiting(why) => State::Waiting(why),
        PodState::Broken(problem) => State::failed(problem),
    }
}

/// The state of a pod.
pub(crate) fn pod_state(pod: &Pod, now: Timestamp) -> PodState {
    if pod.metadata.deletion_timestamp.is_some() {
        return PodState::Stopping;
    }
    let look = Look { pod, now };
    if is_ready(pod) && !look.unsettled() {
        return PodState::Ready;
    }
    match look.phase() {
        "Succeeded" => PodState::Done,
        "Failed" => PodState::Broken(look.ended()),
        _ => look.on_its_way(),
    }
}

/// When a pod's state changes next without anything happening in the cluster.
pub(crate) fn settles_at(pod: &Pod, now: Timestamp) -> Option<Timestamp> {
    let look = Look { pod, now };
    let parts = look.parts();
    let tried = parts.iter().filter(|part| look.on_trial(part));
    tried
        .filter_map(|part| part.running_since()?.checked_add(part.trial()).ok())
        .chain(scheduling::settles_at(pod).filter(|then| *then > now))
        .min()
}

/// A pod's condition of that type.
pub(super) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|one| one.type_ == kind)
}

/// A pod that is not ready.
struct Look<'a> {
    pod: &'a Pod,
    now: Timestamp,
}

/// A container with what the node says of it.
struct Part<'a> {
    name: &'a str,
    image: &'a str,
    spec: Option<&'a Container>,
    status: &'a ContainerStatus,
    init: bool,
    /// Whether it is started again after it ended badly.
    restarts: bool,
}

impl<'a> Look<'a> {
    fn phase(&self) -> &'a str {
        self.pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or("Pending")
    }

    fn reason(&self) -> &'a str {
        self.pod
            .status
            .as_ref()
            .and_then(|status| status.reason.as_deref())
            .unwrap_or("")
    }

    fn message(&self) -> String {
        let message = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.message.clone());
        message.unwrap_or_default()
    }

    fn problem(&self, container: Option<&str>, trouble: Trouble) -> Problem {
        let meta = &self.pod.metadata;
        let name = meta.name.clone().unwrap_or_default();
        Problem {
            object: format!("pod {name}"),
            pod: Some((meta.namespace.clone().unwrap_or_default(), name)),
            container: container.map(str::to_owned),
            trouble,
        }
    }

    /// Why a pod of the phase `Failed` is one.
    fn ended(&self) -> Problem {
        match self.reason() {
            "Evicted" => self.problem(
                None,
                Trouble::Evicted {
                    message: self.message(),
                },
            ),
            "DeadlineExceeded" => self.problem(None, Trouble::DeadlineExceeded),
            _ => {
                let parts = self.parts();
                let exits = parts
                    .iter()
                    .filter_map(|part| Some((part, part.terminated()?)));
                let bad = exits.into_iter().find(|(_, exit)| exit.exit_code != 0);
                match bad {
                    Some((part, exit)) => self.crash(part, exit),
                    None => self.problem(
                        None,
                        Trouble::CannotStart {
                            message: self.said(),
                        },
                    ),
                }
            }
        }
    }

    /// Reason and message of the pod itself.
    fn said(&self) -> String {
        [self.reason().to_owned(), self.message()]
            .join(" ")
            .trim()
            .to_owned()
    }

    fn on_its_way(&self) -> PodState {
        match scheduling::state(self.pod, self.now) {
            scheduling::Place::Found => (),
            scheduling::Place::Waiting(why) => return PodState::Waiting(why),
            scheduling::Place::None(message) => {
                return PodState::Broken(self.problem(None, Trouble::Unschedulable { message }));
            }
        }
        let parts = self.parts();
        if let Some(problem) = parts.iter().find_map(|part| self.trouble(part)) {
            return PodState::Broken(problem);
        }
        let why = parts.iter().find_map(|part| self.waits_for(part));
        PodState::Waiting(why.unwrap_or_else(|| self.gate()))
    }

    /// All containers are ready, but the pod is not.
    fn gate(&self) -> String {
        let spec = self.pod.spec.as_ref();
        let gates = spec
            .and_then(|spec| spec.readiness_gates.as_deref())
            .unwrap_or_default();
        let closed = gates.iter().find(|gate| {
            condition(self.pod, &gate.condition_type).is_none_or(|one| one.status != "True")
        });
        match closed {
            Some(gate) => format!("readiness gate {} is closed", gate.condition_type),
            None => "pod is starting".to_owned(),
        }
    }

    /// Init containers in their order, then the others.
    fn parts(&self) -> Vec<Part<'a>> {
        let spec = self.pod.spec.as_ref();
        let status = self.pod.status.as_ref();
        let init = status.and_then(|status| status.init_container_statuses.as_deref());
        let main = status.and_then(|status| status.container_statuses.as_deref());
        let init = init
            .unwrap_or_default()
            .iter()
            .map(|status| part(spec, status, true));
        let main = main
            .unwrap_or_default()
            .iter()
            .map(|status| part(spec, status, false));
        init.chain(main).collect()
    }

    /// What keeps a container from ever being ready.
    fn trouble(&self, part: &Part<'a>) -> Option<Problem> {
        let state = part.status.state.as_ref()?;
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.as_deref().unwrap_or("");
            return self.stuck(part, reason, waiting.message.as_deref().unwrap_or(""));
        }
        if let Some(exit) = &state.terminated {
            let again = part.status.restart_count >= 1 && !lost(exit);
            let hopeless = !part.restarts || again || at_once(exit);
            return (exit.exit_code != 0 && hopeless).then(|| self.crash(part, exit));
        }
        let last = part.last()?;
        let crashes = last.exit_code != 0
            && !lost(last)
            && (part.status.restart_count >= 2 || at_once(last))
            && !(part.status.ready && part.probed())
            && self.on_trial(part);
        crashes.then(|| self.crash(part, last))
    }

    /// Whether a container has run too short a time to be believed.
    fn on_trial(&self, part: &Part<'a>) -> bool {
        let age = part
            .running_since()
            .map(|since| self.now.duration_since(since));
        // A node whose clock is far ahead says nothing about it.
        age.is_some_and(|age| age > CLOCKS_DIFFER && age < part.trial())
    }

    /// Whether a pod is ready only because nobody has asked the programs that it has just started.
    fn unsettled(&self) -> bool {
        let parts = self.parts();
        let mut unproven = parts.iter().filter(|part| !part.init && !part.probed());
        unproven.any(|part| self.on_trial(part))
    }

    /// A container that is kept from running.
    fn stuck(&self, part: &Part<'a>, reason: &str, message: &str) -> Option<Problem> {
        let message_owned = message.to_owned();
        let trouble = match reason {
            "CrashLoopBackOff" => {
                let unknown = ContainerStateTerminated::default();
                return Some(self.crash(part, part.last().unwrap_or(&unknown)));
            }
            // The node has not got it from the API server yet; it tries again.
            "CreateContainerConfigError" if message.contains("failed to sync") => return None,
            "CreateContainerConfigError" => Trouble::Config {
                message: message_owned,
            },
            "CreateContainerError"
            | "RunContainerError"
            | "PostStartHookError"
            | "PreStartHookError"
            | "CreatePodSandboxError" => Trouble::CannotStart {
                message: message_owned,
            },
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => Trouble::Image {
                image: part.image.to_owned(),
                reason: reason.to_owned(),
                message: message_owned,
            },
            _ => return None,
        };
        Some(self.problem(Some(part.name), trouble))
    }

    fn crash(&self, part: &Part<'a>, exit: &ContainerStateTerminated) -> Problem {
        let trouble = if exit.reason.as_deref() == Some("OOMKilled") {
            Trouble::OutOfMemory {
                limit: part.memory_limit(),
            }
        } else {
            Trouble::Crash(Exit {
                code: exit.exit_code,
                message: exit.message.clone(),
                restarts: part.status.restart_count,
                init: part.init,
                limit: part.memory_limit().filter(|_| !part.is_probed()),
            })
        };
        self.problem(Some(part.name), trouble)
    }

    /// What a container waits for, if it does.
    fn waits_for(&self, part: &Part<'a>) -> Option<String> {
        let name = part.name;
        let state = part.status.state.as_ref();
        if let Some(exit) = part.terminated() {
            // An init container that ended well has done its work.
            return match exit.exit_code {
                0 if part.init || !part.restarts => None,
                code => Some(format!(
                    "container {name} ended with exit code {code}, starts again"
                )),
            };
        }
        if state.is_some_and(|state| state.running.is_some()) {
            return part.running_but();
        }
        let waiting = state.and_then(|state| state.waiting.as_ref());
        match waiting.and_then(|waiting| waiting.reason.as_deref()) {
            // The others are told of their init containers that they wait for.
            Some("PodInitializing") if part.init => None,
            Some("PodInitializing") => Some("pod is being initialized".to_owned()),
            Some("ContainerCreating") | None => Some(self.creating(part)),
            Some(other) => Some(format!("container {name}: {other}")),
        }
    }

    /// Until its sandbox stands a pod waits for volumes and network; after that, for images.
    fn creating(&self, part: &Part<'a>) -> String {
        match condition(self.pod, "PodReadyToStartContainers") {
            Some(sandbox) if sandbox.status == "True" => format!("pulling image {}", part.image),
            Some(_) => "volumes and network of the pod are being set up".to_owned(),
            None => "container is being created".to_owned(),
        }
    }
}

/// Ends that another start does not change.
fn at_once(exit: &ContainerStateTerminated) -> bool {
    matches!(
        exit.reason.as_deref(),
        Some("OOMKilled" | "StartError" | "ContainerCannotRun")
    ) || matches!(exit.exit_code, 126 | 127)
}

/// The node went down, and the container with it: what the runtime then says of one that it does not find any more.
fn lost(exit: &ContainerStateTerminated) -> bool {
    exit.exit_code == 255 && exit.reason.as_deref() == Some("Unknown")
}

fn part<'a>(spec: Option<&'a PodSpec>, status: &'a ContainerStatus, init: bool) -> Part<'a> {
    let containers = spec.and_then(|spec| match init {
        true => spec.init_containers.as_ref(),
        false => Some(&spec.containers),
    });
    let own = containers.and_then(|all| all.iter().find(|one| one.name == status.name));
    let image = own
        .and_then(|own| own.image.as_deref())
        .unwrap_or(&status.image);
    let policy = own
        .and_then(|own| own.restart_policy.as_deref())
        .or_else(|| spec.and_then(|spec| spec.restart_policy.as_deref()))
        .unwrap_or("Always");
    Part {
        name: &status.name,
        image,
        spec: own,
        status,
        init,
        restarts: policy != "Never",
    }
}

impl<'a> Part<'a> {
    fn terminated(&self) -> Option<&'a ContainerStateTerminated> {
        self.status.state.as_ref()?.terminated.as_ref()
    }

    fn last(&self) -> Option<&'a ContainerStateTerminated> {
        self.status.last_state.as_ref()?.terminated.as_ref()
    }

    fn running_since(&self) -> Option<Timestamp> {
        let running = self.status.state.as_ref()?.running.as_ref()?;
        running.started_at.as_ref().map(|time| time.0)
    }

    fn probed(&self) -> bool {
        self.spec.is_some_and(|own| own.readiness_probe.is_some())
    }

    /// How long the present run has to be to be believed.
    fn trial(&self) -> SignedDuration {
        let crashed = |last: &&ContainerStateTerminated| last.exit_code != 0 && !lost(last);
        let Some(last) = self.last().filter(crashed) else {
            return JUST_STARTED;
        };
        if self.status.restart_count < 2 && !at_once(last) {
            return JUST_STARTED;
        }
        let previous = match (&last.started_at, &last.finished_at) {
            (Some(from), Some(to)) => to.0.duration_since(from.0),
            _ => SignedDuration::ZERO,
        };
        previous.saturating_add(OUTLIVED).min(LONG_RUN)
    }

    fn memory_limit(&self) -> Option<String> {
        let resources = self.spec?.resources.as_ref()?;
        Some(resources.limits.as_ref()?.get("memory")?.0.clone())
    }

    /// Whether a probe may end it.
    fn is_probed(&self) -> bool {
        self.spec
            .is_some_and(|own| own.liveness_probe.is_some() || own.startup_probe.is_some())
    }

    /// What a running container has yet to do, if anything.
    fn running_but(&self) -> Option<String> {
        let name = self.name;
        let sidecar = self
            .spec
            .is_some_and(|own| own.restart_policy.as_deref() == Some("Always"));
        match (self.init, self.status.started == Some(true)) {
            (true, true) if sidecar => None,
            (true, _) => Some(format!("init container {name} running")),
            (false, _) if self.status.ready && self.probed() => None,
            (false, _) if self.status.ready => Some(format!("container {name} has just started")),
            (false, false) if self.spec.is_some_and(|own| own.startup_probe.is_some()) => {
                Some("startup probe not passed yet".to_owned())
            }
            (false, _) if self.spec.is_some_and(|own| own.readiness_probe.is_some()) => {
                Some("readiness probe not passed yet".to_owned())
            }
            (false, _) => Some(format!("container {name} is starting")),
        }
    }
}
