//! Whether a service is ready: a function of the objects that the cluster has, and of nothing else.
//!
//! What is not ready is either waited for, or is known not to come right by itself. Only the newest version's pods
//! count; an old one that crashes while it is replaced does not.

mod claim;
mod endpoints;
mod hold;
mod job;
mod pod;
mod problem;
mod scheduling;
#[cfg(test)]
mod tests;
mod warnings;
mod workload;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};

use crate::error::Failure;
use crate::view::{Key, Objects, View, service_of};

pub use hold::held;
pub(crate) use pod::{PodState, pod_state, settles_at};
pub use problem::{Exit, Problem, Trouble};
pub(crate) use warnings::{last_seen, unhealthy};
pub(crate) use workload::current_pods;

/// What was applied for a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The service's name in `stack.yaml`.
    pub service: String,
    /// Its objects; kinds that have no readiness of their own may be among them.
    pub objects: Vec<TargetObject>,
}

/// One object as the API server confirmed it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetObject {
    /// Such as `Deployment`. A kind that has no state to wait for, such as `CronJob`, is ready once it is applied.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A view that shows another object of that name is out of date.
    pub uid: Option<String>,
    /// A view that shows an older generation is out of date; 0 if the kind counts none.
    pub generation: i64,
}

/// Whether a service is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// All of it does what it was applied for.
    Ready,
    /// It may become ready by itself.
    Waiting {
        /// For what, in a few words without a full stop.
        why: String,
    },
    /// It is not expected to become ready without a change. It may still, and is then [`Readiness::Ready`].
    Failed(Failure),
}

impl Readiness {
    /// Not ready yet, for this reason.
    pub fn waiting(why: impl Into<String>) -> Self {
        Readiness::Waiting { why: why.into() }
    }
}

/// Whether a service is ready, as far as `view` knows.
///
/// `now` tells a program that has just started, or that crashes in circles and happens to run, from one that has
/// run for a while. [`crate::view::observe`] brings a new view when that time has come, so no caller needs a timer.
pub fn readiness(view: &View, target: &Target, now: Timestamp) -> Readiness {
    match state(view, target, now) {
        State::Ready => Readiness::Ready,
        State::Waiting(why) => Readiness::Waiting { why },
        State::Failed(problem) => Readiness::Failed(problem.failure()),
    }
}

/// What keeps a service from ever being ready, if that is known already.
pub fn problem(view: &View, target: &Target, now: Timestamp) -> Option<Problem> {
    match state(view, target, now) {
        State::Failed(problem) => Some(*problem),
        State::Ready | State::Waiting(_) => None,
    }
}

/// Whether some version of the service takes connections, be it an older one.
pub fn serving(view: &View, service: &str) -> bool {
    !view.ready_pods_of(service).is_empty()
}

/// Whether a pod takes connections that is not of the newest version of what was applied.
pub fn older_serves(view: &View, target: &Target) -> bool {
    let newest = |pod: &Arc<Pod>| {
        let mut objects = target.objects.iter();
        objects.any(|object| workload::is_newest(view, object, pod))
    };
    let mut pods = view.ready_pods_of(&target.service).into_iter();
    pods.any(|pod| !newest(pod))
}

impl Target {
    /// The service as the cluster has it now, whoever applied it.
    pub fn of(view: &View, service: &str) -> Target {
        let mut target = Target {
            service: service.to_owned(),
            objects: Vec::new(),
        };
        target.add(&view.claims);
        target.add(&view.services);
        target.add(&view.deployments);
        target.add(&view.stateful_sets);
        target.add(&view.daemon_sets);
        target.add(&view.jobs);
        target.add(&view.pods);
        target
    }

    /// Adds those of the service that no controller made.
    fn add<K: Resource<DynamicType = ()>>(&mut self, objects: &Objects<K>) {
        let mine = objects.iter().filter(|(_, object)| {
            service_of(object.meta()) == Some(&self.service)
                && !object
                    .owner_references()
                    .iter()
                    .any(|owner| owner.controller == Some(true))
        });
        let found: Vec<_> = mine
            .map(|(key, object)| entry::<K>(key, object.meta()))
            .collect();
        self.objects.extend(found);
    }
}

fn entry<K: Resource<DynamicType = ()>>(key: &Key, meta: &ObjectMeta) -> TargetObject {
    TargetObject {
        kind: K::kind(&()).into_owned(),
        namespace: key.0.clone(),
        name: key.1.clone(),
        uid: meta.uid.clone(),
        generation: meta.generation.unwrap_or(0),
    }
}

/// [`Readiness`], before it is put into words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    Ready,
    Waiting(String),
    Failed(Box<Problem>),
}

impl State {
    pub(crate) fn waiting(why: impl Into<String>) -> State {
        State::Waiting(why.into())
    }

    pub(crate) fn failed(problem: Problem) -> State {
        State::Failed(Box::new(problem))
    }

    /// Both: what fails comes before what is waited for.
    fn and(self, other: State) -> State {
        match (self, other) {
            (State::Ready, other) => other,
            (State::Waiting(_), State::Failed(problem)) => State::Failed(problem),
            (first, _) => first,
        }
    }
}

fn state(view: &View, target: &Target, now: Timestamp) -> State {
    if !view.complete {
        return match &view.unreachable {
            Some(reason) => State::Waiting(format!("the cluster does not answer: {reason}")),
            None => State::waiting("asking the cluster"),
        };
    }
    // Services last: that nothing stands behind them follows from the workloads' state, not the other way round.
    let (services, others): (Vec<_>, Vec<_>) = target
        .objects
        .iter()
        .partition(|object| object.kind == "Service");
    others
        .into_iter()
        .chain(services)
        .map(|object| (object, patient(view, of_object(view, object, now))))
        .map(|(object, state)| warnings::heard(view, object, state))
        .fold(State::Ready, State::and)
}

/// A pod finds no room as long as those that are stopping still have it.
fn patient(view: &View, state: State) -> State {
    let State::Failed(problem) = &state else {
        return state;
    };
    let Trouble::Unschedulable { message } = &problem.trouble else {
        return state;
    };
    let room = message.contains("Insufficient") || message.contains("free ports");
    match room
        && view
            .pods
            .values()
            .any(|pod| pod.metadata.deletion_timestamp.is_some())
    {
        true => State::waiting("waiting for stopping pods to make room on the node"),
        false => state,
    }
}

fn of_object(view: &View, wanted: &TargetObject, now: Timestamp) -> State {
    match wanted.kind.as_str() {
        "Deployment" => look(&view.deployments, wanted, |one| {
            workload::deployment(view, one, now)
        }),
        "StatefulSet" => look(&view.stateful_sets, wanted, |one| {
            workload::stateful_set(view, one, now)
        }),
        "DaemonSet" => look(&view.daemon_sets, wanted, |one| {
            workload::daemon_set(view, one, now)
        }),
        "Job" => look(&view.jobs, wanted, |one| job::job(view, one, now)),
        "Pod" => look(&view.pods, wanted, |one| pod::bare(one, now)),
        "PersistentVolumeClaim" => look(&view.claims, wanted, |one| claim::claim(view, one)),
        "Service" => look(&view.services, wanted, |one| endpoints::service(view, one)),
        _ => State::Ready,
    }
}

/// The object as it was applied or newer; else the view has yet to catch up.
fn look<K: Resource>(
    objects: &Objects<K>,
    wanted: &TargetObject,
    judge: impl FnOnce(&K) -> State,
) -> State {
    let key = (wanted.namespace.clone(), wanted.name.clone());
    let current = objects.get(&key).filter(|object| {
        let meta = object.meta();
        let same = wanted.uid.is_none() || wanted.uid == meta.uid;
        same && meta.generation.unwrap_or(0) >= wanted.generation
    });
    match current {
        Some(object) if object.meta().deletion_timestamp.is_some() => {
            State::Waiting(format!("{} {} is being deleted", wanted.kind, wanted.name))
        }
        Some(object) => judge(object),
        None => State::Waiting(format!(
            "{} {} is not in the cluster yet",
            wanted.kind, wanted.name
        )),
    }
}
