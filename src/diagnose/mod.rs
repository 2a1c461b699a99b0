//! Why a service is not ready, with the remedy: what the objects say, and what only the API server can add to it
//! (events with the probe's answer, the last lines of the crashed run, what the nodes have).

mod claims;
mod clue;
mod cluster;
mod config;
mod events;
mod held;
mod image;
mod initial;
mod near;
mod problems;
mod room;

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::cluster::load::Loader;
use crate::error::Failure;
use crate::ready::{self, Readiness, Target};
use crate::view::View;
use cluster::Cluster;

pub use held::held_up;

/// How long the API server may take for one answer. Without it the finding stands, with less detail.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a service's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// One line: that it is healthy, what it waits for, or that it failed.
    pub line: String,
    /// What keeps it from being ready, the likeliest first; empty if it is ready.
    pub findings: Vec<Failure>,
}

/// Why a service is not ready; for a ready one, since when it is.
///
/// It asks the API server only for what the view cannot know. An answer that does not come costs detail, not the
/// finding. Values of Secrets are never in it; lines that a container wrote are, as they are.
///
/// With a loader, the nodes are asked which images they have.
pub async fn why(
    client: &Client,
    loader: Option<&Loader>,
    view: &View,
    service: &str,
    now: Timestamp,
) -> Why {
    let target = Target::of(view, service);
    if let Some(reason) = view.unreachable.as_ref() {
        return Why {
            line: "the cluster does not answer".to_owned(),
            findings: vec![
                Failure::environment("the cluster does not answer")
                    .cause(reason)
                    .remedy("see whether Docker and the cluster's node run: `llmdev doctor`"),
            ],
        };
    }
    if view.complete && target.objects.is_empty() {
        let what = format!("nothing of {service} is in the cluster");
        let failure = Failure::failed(&what).remedy(format!("llmdev up {service}"));
        return Why {
            line: what,
            findings: vec![failure],
        };
    }
    let line = match ready::readiness(view, &target, now) {
        Readiness::Ready => {
            return Why {
                line: healthy(view, service, now),
                findings: Vec::new(),
            };
        }
        Readiness::Waiting { why } => format!("{service} waits: {why}"),
        Readiness::Failed(failure) => format!("{service} failed: {}", failure.what),
    };
    let case = Case {
        cluster: Cluster::new(client, loader),
        view,
        target: &target,
        now,
    };
    Why {
        line,
        findings: case.findings().await,
    }
}

/// One service under examination.
struct Case<'a> {
    cluster: Cluster<'a>,
    view: &'a View,
    target: &'a Target,
    now: Timestamp,
}

/// A finding with its likelihood; the lowest is the likeliest.
type Ranked = (u8, Failure);

impl Case<'_> {
    async fn findings(&self) -> Vec<Failure> {
        let events = events::of(self).await;
        // Of two with the same words the first one stays: a claim's says more than its service's.
        let mut found: Vec<Ranked> = claims::findings(self).await;
        found.extend(problems::findings(self, &events).await);
        found.extend(events::findings(self, &events).await);
        found.extend(initial::findings(self).await);
        found.sort_by_key(|(rank, _)| *rank);
        let mut findings: Vec<Failure> = Vec::new();
        for (_, failure) in found {
            if !findings.iter().any(|said| said.what == failure.what) {
                findings.push(failure);
            }
        }
        if findings.is_empty() {
            findings.push(self.only_waiting());
        }
        findings
    }

    /// Nothing is known to be wrong.
    fn only_waiting(&self) -> Failure {
        match ready::readiness(self.view, self.target, self.now) {
            Readiness::Failed(failure) => failure,
            Readiness::Waiting { why } => Failure::failed(format!("it is not ready yet: {why}")),
            Readiness::Ready => Failure::failed("it is not ready yet"),
        }
    }
}

/// Since when a service is ready, and how often it was started again.
fn healthy(view: &View, service: &str, now: Timestamp) -> String {
    let pods = view.ready_pods_of(service);
    if pods.is_empty() {
        return format!("{service} is ready; nothing of it has to run");
    }
    let statuses = || {
        let all = pods.iter().filter_map(|pod| pod.status.as_ref());
        all.flat_map(|status| status.container_statuses.iter().flatten())
    };
    let restarts: i64 = statuses().map(|one| i64::from(one.restart_count)).sum();
    let since = pods.iter().filter_map(|pod| {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        let ready = conditions.iter().find(|one| one.type_ == "Ready")?;
        Some(ready.last_transition_time.as_ref()?.0)
    });
    let since = since
        .max()
        .map_or(String::new(), |since| format!(" for {}", ago(now, since)));
    let names: Vec<_> = pods.iter().map(|pod| pod.name_any()).collect();
    let restarts = match restarts {
        0 => "no restarts".to_owned(),
        1 => "1 restart".to_owned(),
        n => format!("{n} restarts"),
    };
    format!(
        "{service} is healthy: ready{since}, {restarts}, {}",
        names.join(", ")
    )
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    span(now.duration_since(then).max(SignedDuration::ZERO).as_secs())
}

/// A span of time as people say it: `12 s`, `5 min`, `3 h`, `2 d`.
fn span(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
