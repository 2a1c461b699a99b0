//! Workloads that keep pods running, by the rules of `kubectl rollout status`.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    DaemonSet, Deployment, DeploymentCondition, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::pod::{PodState, pod_state};
use super::problem::{Problem, Trouble};
use super::{State, TargetObject};
use crate::view::View;

const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HASH: &str = "controller-revision-hash";
const DAEMON_GENERATION: &str = "deprecated.daemonset.template.generation";
const POD_GENERATION: &str = "pod-template-generation";
const UNSEEN: &str = "waiting for Kubernetes to take up the change";

type Pods<'a> = Vec<&'a Arc<Pod>>;

/// All replicas are of the newest version and available. That old pods are still stopping does not matter.
pub(super) fn deployment(view: &View, deployment: &Deployment, now: Timestamp) -> State {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let Some(status) = deployment.status.as_ref() else {
        return State::waiting(UNSEEN);
    };
    if status.observed_generation < deployment.metadata.generation {
        return State::waiting(UNSEEN);
    }
    let newest = newest_set(view, deployment);
    let updated = status.updated_replicas.unwrap_or(0);
    let available = match newest {
        Some(set) => set
            .status
            .as_ref()
            .and_then(|own| own.available_replicas)
            .unwrap_or(0),
        // The status counts old pods as well, so it says something only when there are none.
        None if status.replicas.unwrap_or(0) > updated => 0,
        None => status.available_replicas.unwrap_or(0),
    };
    let pods = newest.map(|set| owned(view, set.metadata.uid.as_deref()).collect());
    let pods: Pods = pods.unwrap_or_default();
    if updated >= wanted && available >= wanted && ready(&pods, now) >= wanted {
        return State::Ready;
    }
    if let PodState::Broken(problem) = pods_say(&pods, now, |_| true) {
        return State::failed(problem);
    }
    if let Some(trouble) = refused(deployment) {
        return State::failed(Problem {
            object: format!("Deployment {}", deployment.name_any()),
            pod: None,
            container: None,
            trouble,
        });
    }
    if deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true) {
        return State::waiting("the rollout is paused by spec.paused");
    }
    State::Waiting(progress(&pods, wanted, now))
}

/// All pods are ready, and of the newest version down to the partition.
pub(super) fn stateful_set(view: &View, set: &StatefulSet, now: Timestamp) -> State {
    let spec = set.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = set.status.as_ref() else {
        return State::waiting(UNSEEN);
    };
    if status.observed_generation < set.metadata.generation {
        return State::waiting(UNSEEN);
    }
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
    let by_hand = strategy.and_then(|one| one.type_.as_deref()) == Some("OnDelete");
    let partition = strategy
        .and_then(|one| one.rolling_update.as_ref())
        .and_then(|rolling| rolling.partition)
        .unwrap_or(0);
    let updated = by_hand
        || status.update_revision == status.current_revision
        || status.updated_replicas.unwrap_or(0) >= wanted.saturating_sub(partition).max(0);
    let all: Pods = owned(view, set.metadata.uid.as_deref()).collect();
    if updated && status.ready_replicas.unwrap_or(0) >= wanted && ready(&all, now) >= wanted {
        return State::Ready;
    }
    let newest = status.update_revision.as_deref();
    let (new, old): (Pods, Pods) = all
        .iter()
        .partition(|pod| pod.labels().get(REVISION_HASH).map(String::as_str) == newest);
    if let PodState::Broken(problem) = pods_say(&new, now, |_| true) {
        return State::failed(problem);
    }
    if let PodState::Broken(problem) = pods_say(&old, now, |_| true) {
        let in_order = spec.and_then(|spec| spec.pod_management_policy.as_deref());
        // What the partition keeps at the old version counts like the new; else it is in the new one's way.
        if partition > 0 || by_hand {
            return State::failed(problem);
        }
        if in_order != Some("Parallel") && new.is_empty() {
            return State::failed(Problem {
                object: format!("StatefulSet {}", set.name_any()),
                pod: problem.pod.clone(),
                container: None,
                trouble: Trouble::StuckBehindOldPod {
                    old: Box::new(problem),
                },
            });
        }
    }
    if !updated && status.ready_replicas.unwrap_or(0) >= wanted {
        let done = status.updated_replicas.unwrap_or(0);
        return State::Waiting(format!(
            "{done} of {} pods updated",
            wanted.saturating_sub(partition).max(0)
        ));
    }
    State::Waiting(progress(
        if new.is_empty() { &all } else { &new },
        wanted,
        now,
    ))
}

/// Every node that should run one has the newest, available.
pub(super) fn daemon_set(view: &View, set: &DaemonSet, now: Timestamp) -> State {
    let Some(status) = set.status.as_ref() else {
        return State::waiting(UNSEEN);
    };
    if status.observed_generation < set.metadata.generation {
        return State::waiting(UNSEEN);
    }
    let wanted = status.desired_number_scheduled;
    let by_hand = set
        .spec
        .as_ref()
        .and_then(|spec| spec.update_strategy.as_ref())
        .is_some_and(|one| one.type_.as_deref() == Some("OnDelete"));
    let updated = by_hand || status.updated_number_scheduled.unwrap_or(0) >= wanted;
    let pods = match by_hand {
        true => owned(view, set.metadata.uid.as_deref()).collect(),
        false => newest_daemon_pods(view, set),
    };
    if updated && status.number_available.unwrap_or(0) >= wanted && ready(&pods, now) >= wanted {
        return State::Ready;
    }
    if let PodState::Broken(problem) = pods_say(&pods, now, |_| true) {
        return State::failed(problem);
    }
    State::Waiting(progress(&pods, wanted, now))
}

/// The pods of the newest version of a target's object.
pub(crate) fn current_pods<'a>(view: &'a View, object: &TargetObject) -> Pods<'a> {
    let key = (object.namespace.clone(), object.name.clone());
    match object.kind.as_str() {
        "Deployment" => {
            let set = view
                .deployments
                .get(&key)
                .and_then(|one| newest_set(view, one));
            set.map(|set| owned(view, set.metadata.uid.as_deref()).collect())
                .unwrap_or_default()
        }
        "StatefulSet" => {
            let set = view.stateful_sets.get(&key);
            set.map(|set| owned(view, set.metadata.uid.as_deref()).collect())
                .unwrap_or_default()
        }
        "DaemonSet" => view
            .daemon_sets
            .get(&key)
            .map(|set| newest_daemon_pods(view, set))
            .unwrap_or_default(),
        "Job" => {
            let job = view.jobs.get(&key);
            job.map(|job| owned(view, job.metadata.uid.as_deref()).collect())
                .unwrap_or_default()
        }
        "Pod" => view.pods.get(&key).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Whether a pod is of the newest version of a target's object. In a StatefulSet, old and new ones stand side by side.
pub(super) fn is_newest(view: &View, object: &TargetObject, pod: &Arc<Pod>) -> bool {
    let key = (object.namespace.clone(), object.name.clone());
    let revision = match object.kind.as_str() {
        "StatefulSet" => view.stateful_sets.get(&key),
        _ => None,
    };
    let revision = revision.and_then(|set| set.status.as_ref()?.update_revision.as_ref());
    let of_revision = revision.is_none() || pod.labels().get(REVISION_HASH) == revision;
    let mut current = current_pods(view, object).into_iter();
    of_revision && current.any(|one| Arc::ptr_eq(one, pod))
}

/// The pods whose controller has that uid.
pub(super) fn owned<'a>(view: &'a View, uid: Option<&str>) -> impl Iterator<Item = &'a Arc<Pod>> {
    view.pods
        .values()
        .filter(move |pod| controller(&***pod) == uid && uid.is_some())
}

fn controller<K: Resource>(object: &K) -> Option<&str> {
    let owners = object.owner_references();
    owners
        .iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| &*owner.uid)
}

/// How many are ready. A workload's own count is older than its pods, so it alone is not believed.
fn ready(pods: &[&Arc<Pod>], now: Timestamp) -> i32 {
    let ready = pods
        .iter()
        .filter(|pod| pod_state(pod, now) == PodState::Ready)
        .count();
    i32::try_from(ready).unwrap_or(i32::MAX)
}

/// What the pods of one version say together: what is broken (of the sort that `counts`), else what is waited for.
///
/// A pod that has ended is replaced, so it counts only where no other is there.
pub(super) fn pods_say(
    pods: &[&Arc<Pod>],
    now: Timestamp,
    counts: impl Fn(&Problem) -> bool,
) -> PodState {
    let ended = |pod: &Pod| {
        pod.status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            == Some("Failed")
    };
    let only_ended = pods.iter().all(|pod| ended(pod));
    let states = pods
        .iter()
        .filter(|pod| only_ended || !ended(pod))
        .map(|pod| pod_state(pod, now));
    let mut said = PodState::Ready;
    for state in states {
        match state {
            PodState::Broken(problem) if counts(&problem) => return PodState::Broken(problem),
            PodState::Waiting(why) if said == PodState::Ready => said = PodState::Waiting(why),
            _ => (),
        }
    }
    said
}

/// How far the pods are, in a few words.
fn progress(pods: &[&Arc<Pod>], wanted: i32, now: Timestamp) -> String {
    let ready = ready(pods, now);
    let why = match pods_say(pods, now, |_| false) {
        PodState::Waiting(why) => why,
        _ if pods.is_empty() => "waiting for Kubernetes to make the pods".to_owned(),
        _ if pods
            .iter()
            .all(|pod| pod_state(pod, now) == PodState::Stopping) =>
        {
            "waiting for the old pod to stop".to_owned()
        }
        _ => "waiting for the pods to stay ready".to_owned(),
    };
    if wanted == 1 {
        why
    } else {
        format!("{ready} of {wanted} pods ready, {why}")
    }
}

fn newest_set<'a>(view: &'a View, deployment: &Deployment) -> Option<&'a Arc<ReplicaSet>> {
    let uid = deployment.metadata.uid.as_deref()?;
    let revision = deployment.annotations().get(REVISION)?;
    let mut sets = view
        .replica_sets
        .values()
        .filter(|set| controller(&***set) == Some(uid));
    sets.find(|set| set.annotations().get(REVISION) == Some(revision))
}

fn newest_daemon_pods<'a>(view: &'a View, set: &DaemonSet) -> Pods<'a> {
    let generation = set.annotations().get(DAEMON_GENERATION);
    let pods = owned(view, set.metadata.uid.as_deref());
    pods.filter(|pod| generation.is_none() || pod.labels().get(POD_GENERATION) == generation)
        .collect()
}

/// What the Deployment's own conditions say.
fn refused(deployment: &Deployment) -> Option<Trouble> {
    let said = |one: &DeploymentCondition| one.message.clone().unwrap_or_default();
    if let Some(failure) = condition(deployment, "ReplicaFailure", "True") {
        let message = said(failure);
        // The namespace's own account is made a moment after the namespace.
        let passing = message.contains("serviceaccount \"default\" not found");
        if !passing {
            return Some(Trouble::PodsRefused { message });
        }
    }
    let stalled = condition(deployment, "Progressing", "False")?;
    (stalled.reason.as_deref() == Some("ProgressDeadlineExceeded")).then(|| Trouble::NoProgress {
        message: said(stalled),
    })
}

fn condition<'a>(
    deployment: &'a Deployment,
    kind: &str,
    status: &str,
) -> Option<&'a DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|one| one.type_ == kind && one.status == status)
}
