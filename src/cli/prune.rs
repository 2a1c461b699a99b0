//! `llmdev prune`.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::{Global, json, print};
use crate::build::Planner;
use crate::cluster::load::Loader;
use crate::cluster::registry;
use crate::cluster::supply::Supply;
use crate::engine::prepare;
use crate::error::Result;
use crate::prune::{self, KEEP, Pruned, Wish};
use crate::state::State;

pub(super) const HELP: &str =
    "Stays: the newest images of each service, what a pod or a container uses, and what `up` would run now.

Examples:
  llmdev prune
  llmdev prune --dry-run
  llmdev prune --keep 1     only the newest one of each service, and what is used";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many images of each service stay
    #[arg(long, value_name = "N", default_value_t = KEEP)]
    keep: usize,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<()> {
    let stack = global.stack()?;
    let registry = registry::known(&stack).await;
    let stack = Arc::new(prepare::named(stack, registry.as_ref()));
    let state = State::of(&stack.root)?;
    let planner = Arc::new(Mutex::new(Planner::load(&state.digests())));
    let (plans, supply) = tokio::try_join!(
        prepare::plan(Arc::clone(&stack), planner, state.digests()),
        Supply::as_it_is(&stack.cluster, &stack.name)
    )?;
    let loader = loader(&supply, &state);
    let wish = Wish {
        stack: stack.name.clone(),
        registry: registry.map(|registry| registry.pull),
        keep: args.keep,
        needed: prune::needed(&plans, &stack, &state),
        dry_run: args.dry_run,
    };
    let cancel = CancellationToken::new();
    let work = prune::prune(&supply.docker, loader.as_ref(), &wish, &cancel);
    tokio::pin!(work);
    let mut interrupts = super::interrupts()?;
    let pruned = tokio::select! {
        pruned = &mut work => pruned,
        _ = interrupts.recv() => {
            cancel.cancel();
            work.await
        }
    }?;
    if global.json() {
        print(&json(&pruned))
    } else {
        text(&pruned)
    }
}

fn text(pruned: &Pruned) -> Result<()> {
    for gone in &pruned.removed {
        print(&format!("{}  {}", gone.image, gone.places.join(", ")))?;
    }
    print(&pruned.line())
}

/// Into the nodes, if the stack's cluster is there and has images of its own. One that is not has none, and no pods that
/// use any.
fn loader(supply: &Supply, state: &State) -> Option<Loader> {
    let mut nodes = supply.nodes.iter().flatten();
    let runs = nodes.any(|node| node.running);
    supply.loader(&state.dir).filter(|_| runs)
}
