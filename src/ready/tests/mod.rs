//! Readiness by tables of hand-made objects, and by properties.

mod fixtures;
mod hold;
mod pods;
mod properties;
mod workloads;

use serde_json::Value;

use super::{Readiness, Target, readiness};
use fixtures::{now, view};

/// What the service `web` is, with the objects given: `ready`, `waiting: …` or `failed: …`.
fn said(objects: &[Value]) -> String {
    let view = view(objects);
    match readiness(&view, &Target::of(&view, "web"), now()) {
        Readiness::Ready => "ready".to_owned(),
        Readiness::Waiting { why } => format!("waiting: {why}"),
        Readiness::Failed(failure) => format!("failed: {failure}"),
    }
}
