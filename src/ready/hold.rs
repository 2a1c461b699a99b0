//! What held a rollout although the program did not: probes that begin late or ask seldom, old pods that end late.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;

use super::pod::condition;
use super::workload::is_newest;
use super::{Target, TargetObject};
use crate::view::{View, is_ready};

/// What holds less long, in seconds, is not worth a word; Kubernetes' times are in whole seconds.
const WORTH: i64 = 2;
/// How many are named.
const MOST: usize = 2;

/// Something that held a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hold {
    /// How long, in seconds, at most.
    seconds: i64,
    why: String,
}

/// What held the rollout of a service that has just become ready and was applied then, in a short phrase. None: it went
/// as fast as it may, or no pod is of this rollout.
pub fn held(view: &View, target: &Target, applied: Timestamp) -> Option<String> {
    let objects = target.objects.iter();
    let mut holds: Vec<Hold> = objects
        .flat_map(|object| of_object(view, object, applied))
        .filter(|hold| hold.seconds >= WORTH)
        .collect();
    holds.sort_by_key(|hold| std::cmp::Reverse(hold.seconds));
    holds.truncate(MOST);
    let whys: Vec<_> = holds.into_iter().map(|hold| hold.why).collect();
    (!whys.is_empty()).then(|| whys.join(" and "))
}

fn of_object(view: &View, object: &TargetObject, applied: Timestamp) -> Vec<Hold> {
    let Some(replacing) = Replacing::of(view, object) else {
        return Vec::new();
    };
    let is_of_it = |pod: &&Arc<Pod>| {
        let since = created(pod).map(|at| at.as_second() - applied.as_second());
        since.is_some_and(|since| since >= 0) && is_ready(pod) && is_newest(view, object, pod)
    };
    let pods: Vec<&Arc<Pod>> = view.pods.values().filter(is_of_it).collect();
    let first = pods.iter().filter_map(|pod| created(pod)).min();
    let last = pods.iter().max_by_key(|pod| ready_at(pod));
    let (Some(first), Some(last)) = (first, last) else {
        return Vec::new();
    };
    let mut holds = asked(last);
    holds.extend(replacing.first.then(|| {
        let seconds = first.as_second() - applied.as_second();
        let spec = last.spec.as_ref();
        let grace = spec.and_then(|spec| spec.termination_grace_period_seconds);
        let why = match grace.filter(|grace| seconds >= *grace) {
            Some(grace) => format!("the old pod's terminationGracePeriodSeconds of {grace}"),
            None => format!("the old pod, which took {seconds} s to end"),
        };
        Hold { seconds, why }
    }));
    holds.push(Hold {
        seconds: replacing.min_ready,
        why: format!("minReadySeconds of {}", replacing.min_ready),
    });
    holds
}

/// How a workload goes over to a new version.
struct Replacing {
    /// Old pods end before new ones begin.
    first: bool,
    /// Seconds that a pod is ready before that counts.
    min_ready: i64,
}

impl Replacing {
    fn of(view: &View, object: &TargetObject) -> Option<Self> {
        let key = (object.namespace.clone(), object.name.clone());
        let none = |surge: Option<&IntOrString>| match surge {
            Some(IntOrString::Int(surge)) => *surge == 0,
            Some(IntOrString::String(surge)) => surge == "0%",
            None => false,
        };
        let (first, min_ready) = match object.kind.as_str() {
            "Deployment" => {
                let spec = view.deployments.get(&key)?.spec.as_ref()?;
                let strategy = spec.strategy.as_ref();
                let recreate = strategy.and_then(|one| one.type_.as_deref()) == Some("Recreate");
                let rolling = strategy.and_then(|one| one.rolling_update.as_ref());
                let surge = rolling.and_then(|one| one.max_surge.as_ref());
                (recreate || none(surge), spec.min_ready_seconds)
            }
            // Readiness is all that is waited for here.
            "StatefulSet" => (true, None),
            "DaemonSet" => {
                let spec = view.daemon_sets.get(&key)?.spec.as_ref()?;
                let strategy = spec.update_strategy.as_ref();
                let rolling = strategy.and_then(|one| one.rolling_update.as_ref());
                let surge = rolling.and_then(|one| one.max_surge.as_ref());
                (surge.is_none() || none(surge), spec.min_ready_seconds)
            }
            _ => return None,
        };
        Some(Replacing {
            first,
            min_ready: min_ready.unwrap_or(0).into(),
        })
    }
}

/// What the probes of a pod took beyond what its program needed.
fn asked(pod: &Pod) -> Vec<Hold> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .filter_map(|container| Some((container, until_ready(pod, &container.name)?)))
        .flat_map(|(container, took)| probes(container).filter_map(move |one| one.hold(took)))
        .collect()
}

/// Seconds from a container's start until its pod was ready.
fn until_ready(pod: &Pod, container: &str) -> Option<i64> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|one| one.name == container)?;
    let running = status.state.as_ref()?.running.as_ref()?;
    Some(ready_at(pod)?.as_second() - running.started_at.as_ref()?.0.as_second())
}

struct Asking<'a> {
    container: &'a str,
    name: &'a str,
    delay: i64,
    period: i64,
}

fn probes(container: &Container) -> impl Iterator<Item = Asking<'_>> {
    let both = [
        ("startupProbe", &container.startup_probe),
        ("readinessProbe", &container.readiness_probe),
    ];
    let asking = |(name, probe): (&'static str, &Option<Probe>)| {
        let probe = probe.as_ref()?;
        Some(Asking {
            container: &container.name,
            name,
            delay: probe.initial_delay_seconds.unwrap_or(0).into(),
            period: probe.period_seconds.unwrap_or(10).into(),
        })
    };
    both.into_iter().filter_map(asking)
}

impl Asking<'_> {
    /// `took`: seconds from the container's start until its pod was ready.
    fn hold(&self, took: i64) -> Option<Hold> {
        let (container, name) = (self.container, self.name);
        let after = took - self.delay;
        // Ready when it was first asked: it may have been for long.
        if self.delay > 0 && after < self.period.max(2) {
            let why = format!(
                "the {name} of {container}, first asked after {} s",
                self.delay
            );
            let seconds = self.delay;
            return Some(Hold { seconds, why });
        }
        // Not ready when it was first asked, and not asked for a while. Of a long start that is a small part.
        let seldom = self.period > 1 && after + 1 >= self.period && self.period * 4 >= took;
        seldom.then(|| Hold {
            seconds: self.period - 1,
            why: format!("the {name} of {container}, asked every {} s", self.period),
        })
    }
}

fn created(pod: &Pod) -> Option<Timestamp> {
    Some(pod.meta().creation_timestamp.as_ref()?.0)
}

fn ready_at(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready")?;
    Some(ready.last_transition_time.as_ref()?.0)
}
