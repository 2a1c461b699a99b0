//! What Kubernetes says in events only: a probe's answer, a volume that cannot be mounted, pods that are refused.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{Resource, ResourceExt};

use super::cluster::Run;
use super::{Case, Ranked, clue, config};
use crate::error::Failure;
use crate::ready::{self, Problem, Trouble, last_seen, unhealthy};
use crate::view::{Objects, is_ready};

/// The warnings of a service's objects, the newest first, each text once.
pub(super) async fn of(case: &Case<'_>) -> Vec<Event> {
    let namespaces: BTreeSet<_> = case
        .target
        .objects
        .iter()
        .map(|one| one.namespace.as_str())
        .collect();
    let uids = uids(case);
    let mut events = Vec::new();
    for namespace in namespaces {
        events.extend(case.cluster.warnings(namespace).await);
    }
    events.retain(|event| {
        event
            .involved_object
            .uid
            .as_ref()
            .is_some_and(|uid| uids.contains(uid))
    });
    newest_first(events)
}

fn newest_first(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| std::cmp::Reverse(last_seen(event)));
    let mut said = BTreeSet::new();
    events.retain(|event| {
        said.insert((
            event.involved_object.uid.clone(),
            event.reason.clone(),
            event.message.clone(),
        ))
    });
    events
}

/// The objects whose events concern the service: those that are not ready, and who makes their pods.
fn uids(case: &Case<'_>) -> BTreeSet<String> {
    let mut uids: BTreeSet<String> = case
        .target
        .objects
        .iter()
        .filter_map(|one| one.uid.clone())
        .collect();
    let pods = case
        .target
        .objects
        .iter()
        .flat_map(|one| ready::current_pods(case.view, one));
    uids.extend(pods.filter_map(|pod| pod.metadata.uid.clone()));
    let sets = made_by(&case.view.replica_sets, &uids);
    uids.extend(sets);
    uids
}

fn made_by<K: Resource>(objects: &Objects<K>, owners: &BTreeSet<String>) -> Vec<String> {
    let made = objects.values().filter(|object| {
        object
            .meta()
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owners.contains(&owner.uid))
    });
    made.filter_map(|object| object.meta().uid.clone())
        .collect()
}

/// The answer of a failing liveness probe of a pod.
pub(super) fn liveness(events: &[Event], pod: &Pod) -> Option<String> {
    let mine = events
        .iter()
        .filter(|event| event.involved_object.uid == pod.metadata.uid);
    mine.filter_map(unhealthy)
        .find(|(kind, _)| *kind == "Liveness")
        .map(|(_, answer)| answer)
}

/// What the events say that no object does.
pub(super) async fn findings(case: &Case<'_>, events: &[Event]) -> Vec<Ranked> {
    let mut found = Vec::new();
    for event in events {
        let message = event.message.clone().unwrap_or_default();
        match event.reason.as_deref().unwrap_or("") {
            "Unhealthy" => found.extend(probe(case, event).await),
            "FailedMount" | "FailedAttachVolume" => {
                found.extend(mount(case, event, &message).await)
            }
            "FailedCreate" if !message.contains("serviceaccount \"default\" not found") => {
                found.push((0, refused(event, message)));
            }
            "FailedCreatePodSandBox" => found.push((1, sandbox(event, message))),
            _ => (),
        }
    }
    found
}

/// The pod of an event, while it is neither ready nor stopping.
fn pod_of<'a>(case: &'a Case<'_>, event: &Event) -> Option<&'a Pod> {
    let about = &event.involved_object;
    let key = (about.namespace.clone()?, about.name.clone()?);
    let pod = case.view.pods.get(&key)?;
    let waits = !is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
    (waits && pod.metadata.uid == about.uid).then_some(pod)
}

/// The container of an event, from `spec.containers{web}`.
fn container_of(event: &Event) -> Option<&str> {
    let path = event.involved_object.field_path.as_deref()?;
    path.split_once('{')?.1.strip_suffix('}')
}

async fn probe(case: &Case<'_>, event: &Event) -> Option<Ranked> {
    let pod = pod_of(case, event)?;
    let container = container_of(event)?;
    let (kind, answer) = unhealthy(event)?;
    let running = super::problems::statuses(pod)
        .any(|one| one.name == container && one.state.iter().any(|state| state.running.is_some()));
    // Of a container that ended, that it did is the news.
    if !running {
        return None;
    }
    let kind = kind.to_lowercase();
    let key = (pod.namespace().unwrap_or_default(), pod.name_any());
    let lines = case.cluster.log(&key, container, Run::Current).await;
    let remedy = advice(&answer, &kind).map(str::to_owned);
    let remedy = remedy.or_else(|| clue::remedy(&lines).map(str::to_owned));
    let mut failure = Failure::failed(format!(
        "container {container} does not pass its {kind} probe"
    ))
    .cause(answer)
    .detail(lines);
    failure.remedy = remedy;
    Some((3, failure))
}

/// What a probe's answer suggests.
fn advice(answer: &str, kind: &str) -> Option<&'static str> {
    let code = answer
        .split_once("statuscode: ")
        .map(|(_, code)| code.trim());
    match code.and_then(|code| code.parse::<u16>().ok()) {
        Some(401 | 403) => Some("the probe's path wants credentials: probe one that does not"),
        Some(404) => Some("the probe's path does not exist: correct httpGet.path"),
        Some(300..=399) => Some("the probe is sent elsewhere: probe the path that it is sent to"),
        Some(500..) => Some("the program answers that it is not well: see its log"),
        _ if answer.contains("connection refused") => Some(
            "nothing listens on the probe's port: correct the port, or let the program listen on 0.0.0.0",
        ),
        _ if answer.contains("deadline exceeded")
            || answer.contains("timed out")
            || answer.contains("timeout") =>
        {
            Some("the answer takes too long: raise timeoutSeconds, or probe something quicker")
        }
        _ if answer.contains("executable file not found") => {
            Some("the probe's command is not in the image: correct exec.command")
        }
        _ if kind == "startup" => Some("raise failureThreshold if it only needs longer to start"),
        _ => None,
    }
}

async fn mount(case: &Case<'_>, event: &Event, message: &str) -> Option<Ranked> {
    let pod = pod_of(case, event)?;
    // The node takes its time to get them from the API server, and says so.
    if message.contains("failed to sync") || message.contains("object \"") {
        return None;
    }
    if !config::is_about(message) {
        let failure = Failure::failed(format!(
            "a volume of pod {} cannot be mounted",
            pod.name_any()
        ));
        return Some((2, failure.cause(message.trim())));
    }
    let problem = Problem {
        object: format!("pod {}", pod.name_any()),
        pod: None,
        container: None,
        trouble: Trouble::Config {
            message: message.to_owned(),
        },
    };
    let namespace = pod.namespace().unwrap_or_default();
    Some((
        0,
        config::explain(&case.cluster, &namespace, message, problem.failure()).await,
    ))
}

fn refused(event: &Event, message: String) -> Failure {
    let about = &event.involved_object;
    let object = [about.kind.as_deref(), about.name.as_deref()];
    let object = object.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let trouble = Trouble::PodsRefused { message };
    Problem {
        object,
        pod: None,
        container: None,
        trouble,
    }
    .failure()
}

fn sandbox(event: &Event, message: String) -> Failure {
    let name = event.involved_object.name.clone().unwrap_or_default();
    Failure::failed(format!("the node cannot set up pod {name}"))
        .cause(message)
        .remedy("see whether the cluster's network works: `kubectl get pods -n kube-system`")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn event(message: &str, second: i64) -> Event {
        let time = Timestamp::from_second(second).expect("a time");
        Event {
            message: Some(message.to_owned()),
            last_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time)),
            ..Event::default()
        }
    }

    #[test]
    fn the_newest_comes_first_and_each_once() {
        let events = newest_first(vec![event("a", 1), event("b", 3), event("a", 2)]);
        let texts: Vec<_> = events
            .iter()
            .filter_map(|event| event.message.as_deref())
            .collect();
        assert_eq!(texts, ["b", "a"]);
    }

    #[test]
    fn a_probes_answer_is_read() {
        let said = event(
            "Readiness probe failed: HTTP probe failed with statuscode: 401",
            1,
        );
        let (kind, answer) = unhealthy(&said).expect("a probe");
        assert_eq!(
            (kind, &*answer),
            ("Readiness", "HTTP probe failed with statuscode: 401")
        );
        assert!(advice(&answer, "readiness").is_some_and(|said| said.contains("credentials")));
        assert_eq!(unhealthy(&event("Back-off restarting", 1)), None);
    }

    #[test]
    fn advice_follows_the_answer() {
        for (answer, expected) in [
            (
                "HTTP probe failed with statuscode: 404",
                "path does not exist",
            ),
            ("HTTP probe failed with statuscode: 503", "not well"),
            (
                "dial tcp 10.0.0.1:80: connect: connection refused",
                "nothing listens",
            ),
            (
                "Get \"http://10.0.0.1/\": context deadline exceeded",
                "too long",
            ),
        ] {
            assert!(
                advice(answer, "readiness").is_some_and(|said| said.contains(expected)),
                "{answer}"
            );
        }
    }
}
