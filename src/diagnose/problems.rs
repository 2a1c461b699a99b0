//! The problems that the objects show, with what the cluster can add to each.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};

use super::cluster::Run;
use super::{Case, Ranked, clue, config, events, image, room};
use crate::error::Failure;
use crate::ready::{self, PodState, Problem, Trouble};

/// A finding for each different problem.
pub(super) async fn findings(case: &Case<'_>, events: &[Event]) -> Vec<Ranked> {
    let mut problems: Vec<Problem> = Vec::new();
    // What a Job's tries had is told with the Job itself.
    let workloads = case.target.objects.iter().filter(|one| one.kind != "Job");
    let pods = workloads.flat_map(|one| ready::current_pods(case.view, one));
    let of_pods = pods.filter_map(|pod| match ready::pod_state(pod, case.now) {
        PodState::Broken(problem) => Some(problem),
        _ => None,
    });
    for problem in ready::problem(case.view, case.target, case.now)
        .into_iter()
        .chain(of_pods)
    {
        if !problems.iter().any(|said| covers(said, &problem)) {
            problems.push(problem);
        }
    }
    let mut findings = Vec::new();
    for problem in problems {
        let failure = enriched(case, events, &problem).await;
        findings.push((rank(&problem.trouble), failure));
    }
    findings
}

/// Whether a problem that is told already says the same: the pods of one workload mostly have one in common.
fn covers(said: &Problem, problem: &Problem) -> bool {
    match &said.trouble {
        Trouble::StuckBehindOldPod { old } => **old == *problem,
        trouble => {
            said.container == problem.container
                && (problem.container.is_some() || *trouble == problem.trouble)
        }
    }
}

/// The causes before what follows from them.
fn rank(trouble: &Trouble) -> u8 {
    match trouble {
        Trouble::Image { .. } | Trouble::Config { .. } | Trouble::Unschedulable { .. } => 0,
        Trouble::PodsRefused { .. } | Trouble::VolumeLost | Trouble::CannotStart { .. } => 0,
        Trouble::NoStorageClass { .. } => 0,
        Trouble::StuckBehindOldPod { .. } => 0,
        Trouble::OutOfMemory { .. } | Trouble::Evicted { .. } => 1,
        Trouble::Crash(_) => 2,
        Trouble::DeadlineExceeded => 3,
        Trouble::JobFailed { .. } => 4,
        Trouble::NoProgress { .. } => 6,
    }
}

async fn enriched(case: &Case<'_>, events: &[Event], problem: &Problem) -> Failure {
    let failure = problem.failure();
    let cluster = &case.cluster;
    let pod = problem
        .pod
        .as_ref()
        .and_then(|key| case.view.pods.get(key))
        .map(Arc::as_ref);
    match (&problem.trouble, pod) {
        (Trouble::Image { image, .. }, pod) => image::explain(cluster, pod, image, failure).await,
        (Trouble::Config { message }, _) => {
            let namespace = problem.pod.as_ref().map_or("", |key| key.0.as_str());
            config::explain(cluster, namespace, message, failure).await
        }
        (Trouble::Unschedulable { message }, Some(pod)) => {
            room::explain(cluster, pod, message, failure).await
        }
        (Trouble::Crash(exit), Some(pod)) => {
            let failure = match events::liveness(events, pod) {
                Some(answer) if matches!(exit.code, 137 | 143) => failure
                    .cause(format!("it failed its liveness probe: {answer}"))
                    .remedy("correct livenessProbe, or give it more time by initialDelaySeconds"),
                _ => failure,
            };
            last_words(case, problem, pod, failure).await
        }
        (Trouble::OutOfMemory { .. }, Some(pod)) => last_words(case, problem, pod, failure).await,
        (Trouble::StuckBehindOldPod { old }, Some(pod)) => {
            last_words(case, old, pod, failure).await
        }
        (Trouble::JobFailed { .. }, _) => job_words(case, failure).await,
        _ => failure,
    }
}

/// Adds the last lines of the run that ended, and the remedy that they suggest.
async fn last_words(
    case: &Case<'_>,
    problem: &Problem,
    pod: &Pod,
    mut failure: Failure,
) -> Failure {
    let (Some(key), Some(container)) = (&problem.pod, &problem.container) else {
        return failure;
    };
    let lines = case
        .cluster
        .log(key, container, ended_run(pod, container))
        .await;
    if matches!(problem.trouble, Trouble::Crash(_))
        && let Some(remedy) = clue::remedy(&lines)
    {
        failure = failure.remedy(remedy);
    }
    failure.detail(lines)
}

/// While a new run goes on, the one that ended is the previous.
fn ended_run(pod: &Pod, container: &str) -> Run {
    let running = statuses(pod)
        .find(|one| one.name == container)
        .and_then(|one| one.state.as_ref())
        .is_some_and(|state| state.running.is_some());
    if running { Run::Previous } else { Run::Current }
}

/// The statuses of all containers of a pod, init containers first.
pub(super) fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    })
}

/// A Job's failure is that of its last try.
async fn job_words(case: &Case<'_>, failure: Failure) -> Failure {
    let jobs = case.target.objects.iter().filter(|one| one.kind == "Job");
    let mut pods: Vec<_> = jobs
        .flat_map(|job| ready::current_pods(case.view, job))
        .collect();
    pods.sort_by(|a, b| {
        a.metadata
            .creation_timestamp
            .cmp(&b.metadata.creation_timestamp)
    });
    let broken = pods
        .iter()
        .rev()
        .find_map(|pod| match ready::pod_state(pod, case.now) {
            PodState::Broken(problem) => Some((pod, problem)),
            _ => None,
        });
    let Some((pod, problem)) = broken else {
        return failure;
    };
    let last = problem.failure();
    let failure = failure.cause(last.what);
    let failure = match last.remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    };
    last_words(case, &problem, pod, failure).await
}
