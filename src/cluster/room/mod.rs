//! Whether the cluster has what a stack asks for, looked at before anything is applied.

mod facts;
mod network;
mod place;
mod storage;
mod table;

pub use facts::{Class, Facts, Node, Taint};

use super::Choice;
use crate::error::{Failure, Result};
use crate::render::{Rendered, quantity};
use crate::stack::{Resources, Stack};

use place::Placed;

/// What the stack asks for and the cluster has not got, as one warning; none: it has all of it.
///
/// # Errors
/// [`crate::error::Kind::Environment`] when no pod of the stack finds room.
pub fn check(
    stack: &Stack,
    rendered: &Rendered,
    facts: &Facts,
    choice: &Choice,
) -> Result<Option<String>> {
    let context = &choice.context;
    if let Some(why) = &facts.unseen {
        let fits = stack.dev.resources == Some(Resources::Fit);
        let so = "so requests stay as they are (`dev.resources: fit` has nothing to go by)";
        return Ok(fits.then(|| format!("the nodes of {context} cannot be looked at, {so}: {why}")));
    }
    // A cluster that has just begun has no node yet, and says nothing of what there will be.
    if facts.nodes.is_empty() {
        return Ok(None);
    }
    let placed = place::place(stack, rendered, facts);
    let mut lines = table::amounts(stack, &placed, facts);
    let remedy = placed
        .is_short()
        .then(|| remedy(stack, &placed, facts, choice));
    if placed.nothing_runs() {
        return Err(Failure::environment(format!(
            "no service of the stack finds room on {context}"
        ))
        .cause("nothing was applied")
        .detail(lines)
        .remedy(remedy.unwrap_or_default()));
    }
    lines.extend(storage::lacking(stack, rendered, facts));
    lines.extend(network::lacking(stack, rendered, facts, choice));
    if lines.is_empty() {
        return Ok(None);
    }
    lines.extend(remedy.map(|remedy| format!("remedy: {remedy}")));
    Ok(Some(format!(
        "{context} has not all that the stack asks for\n    {}",
        lines.join("\n    ")
    )))
}

fn remedy(stack: &Stack, placed: &Placed, facts: &Facts, choice: &Choice) -> String {
    let mut all = Vec::new();
    if placed.wanted.cpu > placed.free.cpu && stack.dev.resources != Some(Resources::Fit) {
        all.push("`dev: { resources: fit }` in stack.yaml lowers CPU requests".to_owned());
    }
    let others = facts.others();
    let mut taken = Vec::new();
    if others.cpu > 0 {
        taken.push(format!("{} cpu", quantity::cpu(others.cpu)));
    }
    if others.memory > 0 {
        taken.push(format!("{} memory", quantity::about(others.memory)));
    }
    if !taken.is_empty() {
        all.push(format!("stop what else runs (it has {})", taken.join(", ")));
    }
    all.push(match &choice.flavor {
        super::Flavor::Minikube(profile) => {
            format!(
                "a larger profile: minikube delete -p {profile}, and more `cpus` or `memory` in `cluster`"
            )
        }
        super::Flavor::Kind(_) => "give Docker more, or a larger machine".to_owned(),
        super::Flavor::Other => "a larger cluster".to_owned(),
    });
    all.join("; or ")
}
