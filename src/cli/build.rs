//! `llmdev build`.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::{Global, check_services, json, print};
use crate::build::{Outcome, Planner};
use crate::cluster::registry;
use crate::cluster::supply::Supply;
use crate::engine::prepare;
use crate::error::{Failure, Result};
use crate::state::State;
use crate::ui;

pub(super) const HELP: &str = "Examples:
  llmdev build
  llmdev build litellm r2r";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only these services, and the images that they require
    services: Vec<String>,
}

#[derive(serde::Serialize)]
struct Image {
    service: String,
    image: String,
    built: bool,
    ms: u128,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    let stack = global.stack()?;
    let registry = registry::known(&stack).await;
    let stack = Arc::new(prepare::named(stack, registry.as_ref()));
    check_services(&stack, &args.services)?;
    let state = State::of(&stack.root)?;
    let planner = Arc::new(Mutex::new(Planner::load(&state.digests())));
    let plans = prepare::plan(Arc::clone(&stack), planner, state.digests()).await?;
    let docker = Supply::as_it_is(&stack.cluster, &stack.name).await?.docker;
    let cancel = CancellationToken::new();
    let mut images = Vec::new();
    let mut interrupts = super::interrupts()?;
    for plan in prepare::in_order(&stack, &plans, &args.services) {
        let began = Instant::now();
        let built = docker.image_id(&plan.reference).await?.is_none();
        if built {
            let mut lines = |line: &str| anstream::eprintln!("{}: {line}", plan.name);
            let build = docker.build(&plan, &mut lines, &cancel);
            let outcome = tokio::select! {
                outcome = build => outcome?,
                _ = interrupts.recv() => return Err(Failure::new(crate::error::Kind::Interrupted, "stopped")),
            };
            if let Outcome::Changed(path) = outcome {
                return Err(Failure::failed(format!(
                    "{} changed while {} was built",
                    path.display(),
                    plan.name
                ))
                .remedy("llmdev build"));
            }
        }
        if !global.json() {
            let word = if built { "built" } else { "there already" };
            print(&format!(
                "{}  {}  {word} ({})",
                plan.name,
                plan.reference,
                ui::duration(began.elapsed())
            ))?;
        }
        let ms = began.elapsed().as_millis();
        images.push(Image {
            service: plan.name.clone(),
            image: plan.reference.clone(),
            built,
            ms,
        });
    }
    if global.json() {
        print(&json(&images))
    } else {
        Ok(())
    }
}
