//! The way to a ready pod: which one, how often, and when to give up.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::dial::{DialError, Upstream};
use super::{Shared, Target};
use crate::view::{View, Views, is_ready};

/// How long a connection waits for a ready pod.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// A pod without a probe is ready before its program listens; this long a refusal means nothing.
const SETTLING: Duration = Duration::from_secs(15);
/// How long a pod that has been ready for longer may refuse: its program may be starting anew.
const REFUSING: Duration = Duration::from_secs(3);
/// Between two tries, doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// The tries of one connection.
pub(super) struct Tries {
    deadline: Instant,
    pause: Duration,
    refused_since: Option<Instant>,
    /// The pod that failed last: another one comes first.
    avoid: Option<String>,
}

/// A pod and the connection to its port.
pub(super) struct Reached {
    pub pod: Arc<Pod>,
    pub upstream: Upstream,
}

impl Tries {
    pub(super) fn new() -> Self {
        Tries {
            deadline: Instant::now() + DEADLINE,
            pause: PAUSES.0,
            refused_since: None,
            avoid: None,
        }
    }

    /// The next ready pod's connection; none when there is none to be had.
    pub(super) async fn reach(&mut self, shared: &Shared, target: &Target) -> Option<Reached> {
        let mut views = shared.views.clone();
        let mut changes = shared.views.clone();
        loop {
            let pod = self.ready_pod(&mut views, &target.service).await?;
            let dialed = tokio::select! {
                dialed = shared.dialer.dial(&pod, target.remote) => dialed,
                () = until(&mut changes, |view| !still_ready(view, &pod)) => continue,
            };
            match dialed {
                Ok(upstream) => {
                    if upstream.certain() {
                        shared.board.problem(target.id, None);
                    }
                    return Some(Reached { pod, upstream });
                }
                Err(error) if self.hopeless(shared, target, &pod, &error) => return None,
                Err(error) => self.wait(&mut views, &pod, &error).await,
            }
        }
    }

    /// Whether a failure is final. It is announced then.
    pub(super) fn hopeless(
        &mut self,
        shared: &Shared,
        target: &Target,
        pod: &Pod,
        error: &DialError,
    ) -> bool {
        let now = Instant::now();
        let problem = match error {
            DialError::Refused => {
                let since = *self.refused_since.get_or_insert(now);
                let known = shared
                    .board
                    .get(target.id)
                    .is_some_and(|row| row.problem.is_some());
                let settled = ready_for(pod, Timestamp::now()) >= SETTLING;
                if !(settled && (known || now - since >= REFUSING)) && now < self.deadline {
                    return false;
                }
                format!("nothing listens on port {} in the container", target.remote)
            }
            DialError::Failed(text) => {
                if now < self.deadline {
                    return false;
                }
                format!("the pod can't be reached: {text}")
            }
        };
        shared.board.problem(target.id, Some(problem));
        true
    }

    /// After a failure: until something changed, or a little while.
    pub(super) async fn wait(&mut self, views: &mut Views, pod: &Pod, error: &DialError) {
        if *error != DialError::Refused {
            self.refused_since = None;
        }
        self.avoid = pod.metadata.uid.clone();
        let pause = tokio::time::sleep(self.pause);
        self.pause = (self.pause * 2).min(PAUSES.1);
        tokio::select! {
            () = pause => {}
            () = until(views, |view| !still_ready(view, pod)) => self.pause = PAUSES.0,
        }
    }

    async fn ready_pod(&self, views: &mut Views, service: &str) -> Option<Arc<Pod>> {
        let ready = views.wait_for(|view| !view.ready_pods_of(service).is_empty());
        let view = tokio::time::timeout_at(self.deadline, ready)
            .await
            .ok()?
            .ok()?;
        let pods = view.ready_pods_of(service);
        let other = pods.iter().find(|pod| pod.metadata.uid != self.avoid);
        other.or(pods.first()).map(|pod| Arc::clone(pod))
    }
}

/// Waits for a view of which `what` is true; for ever when there are no more views.
pub(super) async fn until(views: &mut Views, what: impl Fn(&View) -> bool) {
    if views.wait_for(|view| what(view)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether that very pod takes new connections.
pub(super) fn still_ready(view: &View, pod: &Pod) -> bool {
    find(view, pod).is_some_and(|now| is_ready(now))
}

/// Whether that very pod exists.
pub(super) fn exists(view: &View, pod: &Pod) -> bool {
    find(view, pod).is_some()
}

fn find<'a>(view: &'a View, pod: &Pod) -> Option<&'a Arc<Pod>> {
    let meta = &pod.metadata;
    let key = (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    );
    view.pods
        .get(&key)
        .filter(|now| now.metadata.uid == meta.uid)
}

/// How long a pod has been ready.
fn ready_for(pod: &Pod, now: Timestamp) -> Duration {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let since = conditions
        .filter(|condition| condition.type_ == "Ready")
        .find_map(|condition| condition.last_transition_time.as_ref());
    let since = since.map_or(now, |time| time.0);
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}
