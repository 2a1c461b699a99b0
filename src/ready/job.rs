//! Jobs.

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::State;
use super::pod::PodState;
use super::problem::{Problem, Trouble};
use super::workload::{owned, pods_say};
use crate::view::View;

/// What Kubernetes does when a Job says nothing else.
const BACKOFF_LIMIT: i32 = 6;

/// Ready when it is complete. A try that fails is tried again, so only what no further try changes is a failure.
pub(super) fn job(view: &View, job: &Job, now: Timestamp) -> State {
    let spec = job.spec.as_ref();
    if is(job, "Complete").is_some() || spec.and_then(|spec| spec.suspend) == Some(true) {
        return State::Ready;
    }
    if let Some(failed) = is(job, "Failed").or_else(|| is(job, "FailureTarget")) {
        let message = failed.message.clone().or_else(|| failed.reason.clone());
        return State::failed(Problem {
            object: format!("Job {}", job.name_any()),
            pod: None,
            container: None,
            trouble: match failed.reason.as_deref() {
                Some("DeadlineExceeded") => Trouble::DeadlineExceeded,
                _ => Trouble::JobFailed {
                    message: message.unwrap_or_default(),
                },
            },
        });
    }
    let tries = job
        .status
        .as_ref()
        .and_then(|status| status.failed)
        .unwrap_or(0);
    let pods = owned(view, job.metadata.uid.as_deref()).collect::<Vec<_>>();
    let said = pods_say(&pods, now, |problem| !is_a_try(problem));
    let limit = spec
        .and_then(|spec| spec.backoff_limit)
        .unwrap_or(BACKOFF_LIMIT);
    match said {
        PodState::Broken(problem) => State::failed(problem),
        PodState::Waiting(why) if tries == 0 => State::Waiting(format!("Job: {why}")),
        _ if tries > 0 => State::Waiting(format!(
            "Job running, {tries} of at most {} tries failed",
            limit.saturating_add(1)
        )),
        _ => State::waiting("Job running"),
    }
}

/// What a Job answers with a further try.
fn is_a_try(problem: &Problem) -> bool {
    matches!(
        problem.trouble,
        Trouble::Crash(_) | Trouble::OutOfMemory { .. } | Trouble::Evicted { .. }
    )
}

fn is<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|one| one.type_ == kind && one.status == "True")
}
