//! How a run came out, in one failure or none.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::diagnose;
use crate::error::Failure;
use crate::event::Phase;
use crate::ui;

use super::machine::Row;
use super::world::World;

/// What whoever waits is told: nothing when all went well; else the one failure, looked into, or all in a list.
pub async fn outcome(
    failure: Option<Failure>,
    rows: &[Row],
    world: Option<&World>,
) -> Option<Failure> {
    if failure.is_some() {
        return failure;
    }
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row.phase == Phase::Failed)
        .collect();
    let mut failures = Vec::new();
    for row in &failed {
        failures.push(looked_into(row, world).await);
    }
    if failures.len() < 2 {
        return failures.pop();
    }
    let mut whole = Failure::failed(format!(
        "{} of {} services are not ready",
        failed.len(),
        rows.len()
    ));
    for (row, failure) in failed.iter().zip(&failures) {
        whole = whole.detail([format!("{}: {}", row.name, failure.line())]);
        whole = whole.detail(failure.detail.iter().map(|line| format!("  {line}")));
        whole = whole.detail(
            failure
                .remedy
                .iter()
                .map(|remedy| format!("  try: {remedy}")),
        );
    }
    Some(whole.remedy("`llmdev why SERVICE` says more"))
}

/// What the machine knows of a failure, and what the cluster knows beside it.
async fn looked_into(row: &Row, world: Option<&World>) -> Failure {
    let known = row
        .failure
        .clone()
        .unwrap_or_else(|| Failure::failed(format!("{} is {}", row.name, ui::word(row.phase))));
    // A build or an apply that failed has said all there is to say.
    let (Some(world), true) = (world, row.applied) else {
        return known;
    };
    let view = Arc::clone(&world.views.borrow());
    let (client, loader) = (&world.cluster.client, world.loader.as_ref());
    let mut findings = diagnose::why(client, loader, &view, &row.name, Timestamp::now())
        .await
        .findings;
    if findings.is_empty() {
        known
    } else {
        findings.swap_remove(0)
    }
}
