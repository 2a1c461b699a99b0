//! Rows for people: what the machine decides and what the cluster says, put together.

use chrono::Utc;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

use crate::event::{Phase, PodStatus, ServiceStatus};
use crate::view::{self, View};

/// The row of a service of which nothing is known.
pub fn blank(name: &str) -> ServiceStatus {
    ServiceStatus {
        name: name.to_owned(),
        phase: Phase::Pending,
        ready: false,
        older: false,
        reason: None,
        waits_for: Vec::new(),
        image: None,
        pods: Vec::new(),
        forwards: Vec::new(),
        since: Utc::now(),
        failure: None,
        timings: Vec::new(),
    }
}

/// The pods of a service.
pub fn pods(view: &View, service: &str) -> Vec<PodStatus> {
    view.pods_of(service)
        .into_iter()
        .map(|pod| status(pod))
        .collect()
}

fn status(pod: &Pod) -> PodStatus {
    let containers = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default();
    PodStatus {
        name: pod.metadata.name.clone().unwrap_or_default(),
        status: word(pod),
        ready: view::is_ready(pod),
        restarts: containers
            .iter()
            .map(|one| u32::try_from(one.restart_count).unwrap_or(0))
            .sum(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
    }
}

/// What `kubectl get pods` would say of it, less its rarer words.
fn word(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return PodStatus::STOPPING.to_owned();
    }
    let Some(status) = &pod.status else {
        return "Unknown".to_owned();
    };
    let states = |all: &Option<Vec<ContainerStatus>>| -> Vec<ContainerState> {
        all.iter()
            .flatten()
            .filter_map(|one| one.state.clone())
            .collect()
    };
    let initial = states(&status.init_container_statuses)
        .into_iter()
        .filter_map(|state| reason(state, true));
    if let Some(why) = initial.map(|why| format!("Init:{why}")).next() {
        return why;
    }
    let main = states(&status.container_statuses)
        .into_iter()
        .find_map(|state| reason(state, false));
    main.or_else(|| status.reason.clone())
        .or_else(|| status.phase.clone())
        .unwrap_or_else(|| "Unknown".to_owned())
}

/// Why a container does not run; none if it does, or did what an init container is for.
fn reason(state: ContainerState, initial: bool) -> Option<String> {
    if let Some(waiting) = state.waiting {
        return waiting
            .reason
            .filter(|why| !initial || why != "PodInitializing");
    }
    let ended = state.terminated?;
    (!initial || ended.exit_code != 0).then(|| {
        ended
            .reason
            .unwrap_or_else(|| format!("ExitCode:{}", ended.exit_code))
    })
}
