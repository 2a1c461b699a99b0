//! `llmdev render`.

use std::sync::{Arc, Mutex};

use super::{Global, print};
use crate::build::Planner;
use crate::cluster::registry;
use crate::engine::prepare;
use crate::error::Result;
use crate::render;
use crate::state::State;

pub(super) const HELP: &str = "Example:
  llmdev render | kubectl diff --filename -";

pub(super) async fn run(global: &Global) -> Result<()> {
    let stack = Arc::new(global.stack()?);
    let registry = registry::known(&stack).await;
    let state = State::of(&stack.root)?;
    let planner = Arc::new(Mutex::new(Planner::load(&state.digests())));
    let prepared = prepare::prepare(stack, planner, &state, None, registry).await?;
    prepared
        .rendered
        .notes
        .iter()
        .for_each(|note| anstream::eprintln!("note: {note}"));
    print(render::to_yaml(&prepared.rendered).trim_end())
}
