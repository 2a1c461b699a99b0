//! What only an event says: a probe's answer, configuration that a volume misses, and a storage class that there is
//! not.

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::problem::{Problem, Trouble};
use super::workload::current_pods;
use super::{State, TargetObject, pod, scheduling};
use crate::view::{View, is_ready};

/// The state with what the warnings of its pods add to it.
pub(super) fn heard(view: &View, object: &TargetObject, state: State) -> State {
    let State::Waiting(why) = state else {
        return state;
    };
    let pods = current_pods(view, object);
    let waiting = pods.iter().filter(|pod| {
        !is_ready(pod) && pod.metadata.deletion_timestamp.is_none() && !view.warnings.is_empty()
    });
    for pod in waiting {
        if let Some(problem) = unmounted(view, pod).or_else(|| unprovided(view, pod)) {
            return State::failed(problem);
        }
        if let Some(probe) = why.strip_suffix(" probe not passed yet")
            && let Some(answer) = answer(view, pod, probe.rsplit(' ').next().unwrap_or(probe))
        {
            return State::Waiting(format!("{why}: {answer}"));
        }
    }
    State::Waiting(why)
}

/// Which probe failed, and with what answer.
pub(crate) fn unhealthy(event: &Event) -> Option<(&str, String)> {
    let message = event.message.as_deref()?;
    let (kind, answer) = message.split_once(" probe ")?;
    let answer = answer
        .trim_start_matches("failed: ")
        .trim_start_matches("errored: ");
    Some((kind, answer.trim().to_owned()))
}

/// When an event happened last.
pub(crate) fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    series.map(|time| time.0).or(last).or(first)
}

/// The warnings of a pod, the newest first.
fn of<'a>(view: &'a View, pod: &Pod, reason: &str) -> Vec<&'a Event> {
    let all = view.warnings.values().filter(|event| {
        event.involved_object.uid == pod.metadata.uid && event.reason.as_deref() == Some(reason)
    });
    let mut mine: Vec<&Event> = all.map(AsRef::as_ref).collect();
    mine.sort_by_key(|event| std::cmp::Reverse(last_seen(event)));
    mine
}

/// The newest answer of a probe, in one line.
fn answer(view: &View, pod: &Pod, probe: &str) -> Option<String> {
    let events = of(view, pod, "Unhealthy");
    let mut answers = events.into_iter().filter_map(unhealthy);
    let (_, answer) = answers.find(|(kind, _)| kind.eq_ignore_ascii_case(probe))?;
    answer.lines().next().map(str::to_owned)
}

/// A volume's ConfigMap, Secret or key that does not exist, while the pod still waits for its volumes.
fn unmounted(view: &View, pod: &Pod) -> Option<Problem> {
    let sandbox = pod::condition(pod, "PodReadyToStartContainers")?;
    if sandbox.status == "True" {
        return None;
    }
    let events = of(view, pod, "FailedMount");
    let message = events.first()?.message.clone()?;
    let missing = ["configmap \"", "secret \""]
        .iter()
        .any(|kind| message.contains(kind))
        && message.contains("not found");
    let name = pod.name_any();
    (missing || message.contains("references non-existent")).then(|| Problem {
        object: format!("pod {name}"),
        pod: Some((pod.namespace().unwrap_or_default(), name)),
        container: None,
        trouble: Trouble::Config { message },
    })
}

/// A claim with a storage class that the cluster has not got, while the pod still waits for it to be bound.
fn unprovided(view: &View, pod: &Pod) -> Option<Problem> {
    if pod.spec.as_ref()?.node_name.is_some() {
        return None;
    }
    let namespace = pod.namespace().unwrap_or_default();
    let (claim, class) = scheduling::claims_of(pod).find_map(|claim| {
        let known = view.claims.get(&(namespace.clone(), claim.to_owned()));
        let is_of_it = |event: &&std::sync::Arc<Event>| {
            let of = &event.involved_object;
            of.kind.as_deref() == Some("PersistentVolumeClaim")
                && of.name.as_deref() == Some(claim)
                && of.namespace.as_deref() == Some(&*namespace)
                && known.is_none_or(|known| known.metadata.uid == of.uid && !is_bound(known))
        };
        let mut events = view.warnings.values().filter(is_of_it);
        let class = events.find_map(|event| missing_class(event.message.as_deref()?))?;
        Some((claim.to_owned(), class.to_owned()))
    })?;
    Some(Problem {
        object: format!("volume claim {claim}"),
        pod: Some((namespace, pod.name_any())),
        container: None,
        trouble: Trouble::NoStorageClass { class },
    })
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    status.and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// The name in `storageclass.storage.k8s.io "fast" not found`.
fn missing_class(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("storageclass.storage.k8s.io \"")?;
    rest.strip_suffix("\" not found")
}
