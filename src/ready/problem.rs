//! What keeps a service from becoming ready, in kinds that a remedy follows from.

use crate::error::Failure;
use crate::view::Key;

/// A reason that does not go away by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What has it, such as `pod web-5d8f-x2x4z` or `Job migrate`.
    pub object: String,
    /// The pod, if it is a pod's.
    pub pod: Option<Key>,
    /// The container, if it is a container's.
    pub container: Option<String>,
    /// What it is.
    pub trouble: Trouble,
}

/// How a container's run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// As the kernel says it: 128 + the signal for a process that was killed.
    pub code: i32,
    /// What the container runtime adds, such as that the program does not exist.
    pub message: Option<String>,
    /// How often the container was started again.
    pub restarts: i32,
    /// Whether it is an init container.
    pub init: bool,
    /// The memory limit of one that no probe can have ended: the runtime does not always notice that memory did.
    pub limit: Option<String>,
}

/// The kinds of [`Problem`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The container's program ends, again and again or for good.
    Crash(Exit),
    /// The kernel killed it for memory.
    OutOfMemory {
        /// The container's limit as its manifest writes it; without one the node ran out.
        limit: Option<String>,
    },
    /// The node cannot get the image.
    Image {
        /// The reference.
        image: String,
        /// Kubernetes' word, such as `ErrImagePull`.
        reason: String,
        /// What the node says.
        message: String,
    },
    /// The container refers to a ConfigMap, Secret or key that is not there.
    Config {
        /// What the node says.
        message: String,
    },
    /// The container runtime could not start the container.
    CannotStart {
        /// What the node says.
        message: String,
    },
    /// No node takes the pod.
    Unschedulable {
        /// What the scheduler says.
        message: String,
    },
    /// The node threw the pod out.
    Evicted {
        /// What the node says.
        message: String,
    },
    /// It took longer than its `activeDeadlineSeconds`.
    DeadlineExceeded,
    /// A Job gave up.
    JobFailed {
        /// What the Job's condition says.
        message: String,
    },
    /// The API server refuses the pods, for example by a quota.
    PodsRefused {
        /// What it says.
        message: String,
    },
    /// A rollout made no progress in its `progressDeadlineSeconds`.
    NoProgress {
        /// What the Deployment's condition says.
        message: String,
    },
    /// Kubernetes replaces a StatefulSet's pods only when they are ready, and this one of the old version never is.
    StuckBehindOldPod {
        /// What the old pod has.
        old: Box<Problem>,
    },
    /// The claim's volume is gone.
    VolumeLost,
    /// The claim names a storage class that the cluster has not got.
    NoStorageClass {
        /// Its name.
        class: String,
    },
}

impl Problem {
    /// For people, with the remedy.
    pub fn failure(&self) -> Failure {
        let (what, cause, remedy) = self.words();
        let mut failure = Failure::failed(what);
        failure
            .causes
            .extend(cause.filter(|cause| !cause.trim().is_empty()));
        failure.remedy = remedy;
        failure
    }

    /// The container, or the pod if it is the pod's.
    fn subject(&self) -> String {
        match (&self.container, &self.trouble) {
            (Some(name), Trouble::Crash(Exit { init: true, .. })) => {
                format!("init container {name}")
            }
            (Some(name), _) => format!("container {name}"),
            (None, _) => self.object.clone(),
        }
    }

    /// What, why, and the remedy.
    fn words(&self) -> (String, Option<String>, Option<String>) {
        let subject = self.subject();
        let said = |message: &String| Some(message.trim().to_owned());
        match &self.trouble {
            Trouble::Crash(exit) => {
                let cause = exit.message.as_ref().and_then(said);
                (format!("{subject} {}", exit.ended()), cause, exit.remedy())
            }
            Trouble::OutOfMemory { limit: Some(limit) } => (
                format!("{subject} was killed: it needs more memory than its limit of {limit}"),
                None,
                Some(format!(
                    "raise resources.limits.memory of {subject} above {limit}"
                )),
            ),
            Trouble::OutOfMemory { limit: None } => (
                format!("{subject} was killed: the node ran out of memory"),
                None,
                Some(
                    "give the cluster more memory, or set resources.limits.memory where it leaks"
                        .into(),
                ),
            ),
            Trouble::Image {
                image,
                reason,
                message,
            } => (
                format!("{subject}: image {image} cannot be had ({reason})"),
                said(message),
                Some(image_remedy(image, reason, message)),
            ),
            Trouble::Config { message } => (
                format!("{subject} refers to configuration that does not exist"),
                said(message),
                Some("add it to the manifests, or correct the name or key".into()),
            ),
            Trouble::CannotStart { message } => {
                (format!("{subject} cannot be started"), said(message), None)
            }
            Trouble::Unschedulable { message } => (
                format!("no node takes {subject}"),
                said(message),
                Some("lower its requests, or give the cluster what it lacks".into()),
            ),
            Trouble::Evicted { message } => (
                format!("{subject} was evicted by its node"),
                said(message),
                Some("free disk or memory of the node; `llmdev prune` removes old images".into()),
            ),
            Trouble::DeadlineExceeded => (
                format!("{subject} took longer than its activeDeadlineSeconds"),
                None,
                Some("raise activeDeadlineSeconds, or see why it takes so long".into()),
            ),
            Trouble::JobFailed { message } => (format!("{subject} failed"), said(message), None),
            Trouble::PodsRefused { message } => (
                format!("the API server refuses the pods of {subject}"),
                said(message),
                Some("raise the quota, or lower what the pods ask for".into()),
            ),
            Trouble::NoProgress { message } => (
                format!("the rollout of {subject} made no progress in its deadline"),
                said(message),
                None,
            ),
            Trouble::StuckBehindOldPod { old } => (
                format!(
                    "{subject} waits for its old {} to be ready, which it never is",
                    old.object
                ),
                Some(old.words().0),
                Some(format!("kubectl delete {}", old.object)),
            ),
            Trouble::NoStorageClass { class } => (
                format!("{subject}: the cluster has no storage class {class}"),
                None,
                Some(
                    "name one that it has (kubectl get storageclass), or leave storageClassName out for its default"
                        .into(),
                ),
            ),
            Trouble::VolumeLost => (
                format!("{subject} has lost its volume"),
                None,
                Some("delete the claim; it is then made anew, without the data".into()),
            ),
        }
    }
}

fn image_remedy(image: &str, reason: &str, message: &str) -> String {
    let registry = image.split('/').next().unwrap_or(image);
    match reason {
        "InvalidImageName" => "correct the image's name in the manifests".to_owned(),
        _ if message.contains("HTTP response to HTTPS client") => format!(
            "tell the nodes that it speaks plain HTTP: /etc/containerd/certs.d/{registry}/hosts.toml"
        ),
        _ if message.contains("no basic auth") || message.contains("401 Unauthorized") => {
            format!(
                "the nodes need a login for {registry}: `imagePullSecrets` of the pod names one"
            )
        }
        _ => format!(
            "check the name, or get it with `docker pull {image}`: llmdev loads what Docker has"
        ),
    }
}

impl Exit {
    /// How it ended, as the rest of a sentence.
    fn ended(&self) -> String {
        let again = match self.restarts {
            0 => String::new(),
            1 => ", once more after a restart".to_owned(),
            n => format!(", {n} restarts"),
        };
        match self.meaning() {
            Some(meaning) => format!("ended with exit code {} ({meaning}){again}", self.code),
            None => format!("ended with exit code {}{again}", self.code),
        }
    }

    /// What an exit code means by convention.
    pub fn meaning(&self) -> Option<&'static str> {
        match self.code {
            0 => Some("it says that it is done"),
            126 => Some("the command is not executable"),
            127 => Some("the command was not found"),
            128 if self.message.is_some() => Some("it could not be started"),
            130 => Some("interrupted, SIGINT"),
            132 => Some("illegal instruction, SIGILL"),
            134 => Some("aborted, SIGABRT"),
            135 => Some("bus error, SIGBUS"),
            136 => Some("arithmetic error, SIGFPE"),
            137 => Some("killed, SIGKILL"),
            139 => Some("segmentation fault, SIGSEGV"),
            143 => Some("asked to end, SIGTERM"),
            _ => None,
        }
    }

    fn remedy(&self) -> Option<String> {
        if let (137, Some(limit)) = (self.code, &self.limit) {
            return Some(format!(
                "it may need more memory than its limit of {limit}: raise resources.limits.memory"
            ));
        }
        let remedy = match self.code {
            0 => "it should keep running: check its command, or make it a Job",
            126 => "make the file executable in the image, or correct `command`",
            127 | 128 => "check `command` and `args` against what the image has in its PATH",
            132 | 135 | 139 => {
                "check that the image is for the node's architecture, and its native libraries"
            }
            137 | 143 => {
                "it may have failed its liveness probe: `llmdev why` shows the probe's answer"
            }
            _ => return None,
        };
        Some(remedy.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_killed_and_no_probe_can_have_done_it_may_need_memory() {
        let remedy = |limit: Option<&str>| {
            let limit = limit.map(str::to_owned);
            let exit = Exit {
                code: 137,
                limit,
                ..Exit::default()
            };
            exit.remedy().unwrap()
        };
        insta::assert_snapshot!(remedy(Some("64Mi")), @"it may need more memory than its limit of 64Mi: raise resources.limits.memory");
        insta::assert_snapshot!(remedy(None), @"it may have failed its liveness probe: `llmdev why` shows the probe's answer");
    }

    #[test]
    fn what_helps_an_image_goes_by_what_the_node_says() {
        let remedy = |message| image_remedy("r.example:5000/shop/api:0", "ErrImagePull", message);
        insta::assert_snapshot!(remedy("http: server gave HTTP response to HTTPS client"), @"tell the nodes that it speaks plain HTTP: /etc/containerd/certs.d/r.example:5000/hosts.toml");
        insta::assert_snapshot!(remedy("unexpected status: 401 Unauthorized"), @"the nodes need a login for r.example:5000: `imagePullSecrets` of the pod names one");
        insta::assert_snapshot!(remedy("r.example:5000/shop/api:0: not found"), @"check the name, or get it with `docker pull r.example:5000/shop/api:0`: llmdev loads what Docker has");
    }
}
