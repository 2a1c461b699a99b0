//! Tries a forward once for each pod that becomes ready, so that `status` is honest before anybody connects.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::dial::{DialError, Upstream};
use super::reach::{Tries, until};
use super::{Shared, Target, relay};
use crate::view::View;

/// How long the API server may take to say that a pod refused.
const VERDICT: Duration = Duration::from_millis(500);

/// Probes for ever.
pub(super) async fn run(mut target: watch::Receiver<Target>, shared: Arc<Shared>) {
    loop {
        let now = target.borrow_and_update().clone();
        tokio::select! {
            () = each_pod(&now, &shared) => {}
            changed = target.changed() => if changed.is_err() { return },
        }
    }
}

async fn each_pod(target: &Target, shared: &Shared) {
    let mut views = shared.views.clone();
    let mut probed: Option<String> = None;
    loop {
        until(&mut views, |view| {
            newest(view, target).is_some_and(|pod| probed != Some(pod))
        })
        .await;
        probed = newest(&views.borrow(), target);
        probe(target, shared).await;
    }
}

fn newest<'a>(view: &'a View, target: &'a Target) -> Option<String> {
    view.ready_pods_of(&target.service)
        .first()?
        .metadata
        .uid
        .clone()
}

async fn probe(target: &Target, shared: &Shared) {
    let mut tries = Tries::new();
    // The connection ends at once: a program that is there sees a client that says nothing.
    while let Some(mut reached) = tries.reach(shared, target).await {
        match verdict(&mut reached.upstream).await {
            None => return shared.board.problem(target.id, None),
            Some(error) if tries.hopeless(shared, target, &reached.pod, &error) => return,
            Some(error) => {
                tries
                    .wait(&mut shared.views.clone(), &reached.pod, &error)
                    .await
            }
        }
    }
}

/// What is wrong with a connection that was dialed, as far as it is said soon.
async fn verdict(upstream: &mut Upstream) -> Option<DialError> {
    match upstream {
        Upstream::Tcp(_) => None,
        Upstream::Api(stream) => match timeout(VERDICT, relay::read_some(&mut **stream)).await {
            Ok(Err(error)) => Some(error.into()),
            Ok(Ok(_)) | Err(_) => None,
        },
    }
}
