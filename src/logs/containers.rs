//! Which containers a query means, and which of a container's runs there are to read.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::LogQuery;
use crate::view::View;

/// One container of one pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub service: Arc<str>,
    pub namespace: String,
    pub pod: Arc<str>,
    pub uid: String,
    pub container: Arc<str>,
}

/// A container's runs, as the node would read them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runs {
    /// The last run that began.
    pub last: String,
    /// How many runs there were before it.
    pub restarts: i32,
    /// Whether it is still going on.
    pub running: bool,
    /// When it ended, by the node's clock, rounded down to seconds.
    pub ended: Option<DateTime<Utc>>,
    /// The one before it.
    pub before: Option<String>,
}

/// The containers that a query means, in the order of its services.
pub(super) fn places(view: &View, query: &LogQuery) -> Vec<Place> {
    let mut places = Vec::new();
    for service in &query.services {
        let name: Arc<str> = service.as_str().into();
        for pod in view.pods_of(service) {
            let meta = &pod.metadata;
            let pod_name: Arc<str> = meta.name.as_deref().unwrap_or_default().into();
            let wanted = |name: &&str| query.container.as_deref().is_none_or(|want| want == *name);
            places.extend(
                container_names(pod)
                    .into_iter()
                    .filter(wanted)
                    .map(|container| Place {
                        service: name.clone(),
                        namespace: meta.namespace.clone().unwrap_or_default(),
                        pod: pod_name.clone(),
                        uid: meta.uid.clone().unwrap_or_default(),
                        container: container.into(),
                    }),
            );
        }
    }
    places
}

fn container_names(pod: &Pod) -> Vec<&str> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let init = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| container.name.as_str());
    let main = spec
        .containers
        .iter()
        .map(|container| container.name.as_str());
    let debug = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|container| container.name.as_str());
    init.chain(main).chain(debug).collect()
}

/// The pod that a place is in, while it exists.
pub(super) fn pod_of<'a>(view: &'a View, place: &Place) -> Option<&'a Arc<Pod>> {
    let key = (place.namespace.clone(), place.pod.to_string());
    view.pods
        .get(&key)
        .filter(|pod| pod.metadata.uid.as_deref() == Some(&place.uid))
}

/// The runs of a place's container; none before the first one has begun.
pub(super) fn runs(view: &View, place: &Place) -> Option<Runs> {
    let status = pod_of(view, place)?.status.as_ref()?;
    let all = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut all = all.into_iter().flatten().flatten();
    runs_of(all.find(|status| *status.name == *place.container)?)
}

fn runs_of(status: &ContainerStatus) -> Option<Runs> {
    let (state, restarts) = (status.state.as_ref(), status.restart_count);
    let ended = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let before = ended.and_then(|ended| ended.container_id.clone());
    if state.is_some_and(|state| state.running.is_some()) {
        return Some(Runs {
            last: status.container_id.clone()?,
            restarts,
            running: true,
            ended: None,
            before,
        });
    }
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        return Some(Runs {
            last: ended.container_id.clone()?,
            restarts,
            running: false,
            ended: end(ended),
            before,
        });
    }
    // Waiting for the next run: the node reads out the one that ended.
    Some(Runs {
        last: before?,
        restarts,
        running: false,
        ended: ended.and_then(end),
        before: None,
    })
}

fn end(ended: &ContainerStateTerminated) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(ended.finished_at.as_ref()?.0.as_second(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: serde_json::Value) -> ContainerStatus {
        let mut whole = serde_json::json!({
            "name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        });
        whole
            .as_object_mut()
            .unwrap()
            .extend(json.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn runs_follow_from_the_status() {
        let at = "2026-01-02T03:04:05Z";
        let ended = |id: &str| serde_json::json!({"terminated": {"exitCode": 1, "containerID": id, "finishedAt": at}});
        let first = status(serde_json::json!({"containerID": "1", "state": {"running": {}}}));
        let again = status(serde_json::json!({
            "containerID": "2", "state": {"running": {}}, "lastState": ended("1")
        }));
        let over = status(serde_json::json!({"containerID": "1", "state": ended("1")}));
        let backing_off = status(serde_json::json!({
            "containerID": "1", "lastState": ended("1"), "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        }));
        let creating =
            status(serde_json::json!({"state": {"waiting": {"reason": "ContainerCreating"}}}));
        let runs = |last: &str, running, before: Option<&str>| {
            Some(Runs {
                last: last.into(),
                restarts: 0,
                running,
                ended: (!running).then(|| at.parse().unwrap()),
                before: before.map(Into::into),
            })
        };
        let table = [
            (first, runs("1", true, None)),
            (again, runs("2", true, Some("1"))),
            (over, runs("1", false, None)),
            (backing_off, runs("1", false, None)),
            (creating, None),
        ];
        for (status, expected) in table {
            assert_eq!(runs_of(&status), expected);
        }
    }
}
