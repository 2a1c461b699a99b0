//! What can be done without a daemon: taking a stack away, and saying how it is.

use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::apply::{Applier, Progress};
use crate::cluster;
use crate::error::Result;
use crate::event::{Level, Phase, Status};
use crate::owner::Owner;
use crate::ready::{self, Readiness};
use crate::stack::Stack;
use crate::state::State;
use crate::view::{self, Scope, View};

use super::bus::Bus;
use super::rows;

/// Takes away what the stack owns; lines for people.
///
/// # Errors
/// When the cluster cannot be reached or an object cannot be deleted.
pub async fn without_daemon(stack: &Stack, state: &State, volumes: bool) -> Result<Vec<String>> {
    let cluster = match cluster::connect_existing(&stack.cluster, &stack.name).await {
        Ok(cluster) => cluster,
        Err(failure) => return Err(failure),
    };
    let applier = Applier::new(
        cluster.client,
        Owner::of(stack),
        &stack.namespace,
        &state.dir,
    );
    Ok(applier.remove(volumes, &|_| {}).await?.notes)
}

/// Says what of a stack has just gone.
pub(super) fn say(bus: &Bus, progress: &Progress) {
    if let Some(gone) = &progress.gone {
        bus.note(
            Level::Info,
            None,
            format!("removed {gone}, {} left", progress.left),
        );
    }
}

/// The status as the cluster has it, when no daemon keeps the stack.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn status_without_daemon(stack: &Stack) -> Result<Status> {
    let cluster = cluster::connect_existing(&stack.cluster, &stack.name).await?;
    let cancel = CancellationToken::new();
    let _end = cancel.clone().drop_guard();
    let mut views = view::observe(
        cluster.client,
        &Owner::of(stack),
        Scope::AllNamespaces(stack.namespace.clone()),
        cancel,
    );
    let view = match views
        .wait_for(|view| view.complete || view.unreachable.is_some())
        .await
    {
        Ok(view) => std::sync::Arc::clone(&view),
        Err(_) => std::sync::Arc::default(),
    };
    let services = stack
        .services
        .iter()
        .map(|service| row(&view, &service.name))
        .collect();
    Ok(Status {
        stack: stack.name.clone(),
        cluster: Some(cluster.choice.context),
        services,
        watching: false,
        unreachable: view.unreachable.clone(),
        failure: None,
    })
}

fn row(view: &View, service: &str) -> crate::event::ServiceStatus {
    let target = ready::Target::of(view, service);
    let mut row = rows::blank(service);
    row.pods = rows::pods(view, service);
    row.ready = ready::serving(view, service);
    if target.objects.is_empty() {
        row.phase = Phase::Stopped;
        return row;
    }
    match ready::readiness(view, &target, Timestamp::now()) {
        Readiness::Ready => row.phase = Phase::Ready,
        Readiness::Waiting { why } => {
            row.phase = Phase::Starting;
            row.reason = Some(why);
        }
        Readiness::Failed(failure) => {
            row.phase = Phase::Failed;
            row.reason = Some(failure.line());
            row.failure = Some(failure);
        }
    }
    row.older = row.phase != Phase::Ready && ready::older_serves(view, &target);
    row
}
