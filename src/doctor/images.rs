//! The way that images take into the cluster, and why that one.

use super::{Check, Verdict};
use crate::build::{Docker, credentials};
use crate::cluster::load::push;
use crate::cluster::registry::{self, Announced, Registry};
use crate::cluster::supply::{Supply, Way};
use crate::cluster::{self, Flavor, detect};
use crate::stack::{ClusterSpec, Stack};

pub(super) async fn check(stack: Option<&Stack>) -> Vec<Check> {
    let nothing = ClusterSpec::default();
    let spec = stack.map_or(&nothing, |stack| &stack.cluster);
    let name = stack.map_or("llmdev", |stack| stack.name.as_str());
    // Without a choice, Docker or an answer, their own checks have said all.
    let Ok(choice) = detect::choose(spec, name, &cluster::kubeconfig()) else {
        return Vec::new();
    };
    let (supply, announced) = tokio::join!(Supply::as_it_is(spec, name), async {
        match choice.known {
            true => registry::announced(&choice.context).await,
            false => Ok(None),
        }
    });
    let Ok(supply) = supply else {
        return Vec::new();
    };
    let in_place = matches!(supply.way, Way::None);
    let nodes = match &supply.nodes {
        Some(nodes) => Some(nodes.len()),
        // It is yet to be made.
        None if !choice.known && choice.flavor != Flavor::Other => Some(0),
        None => None,
    };
    let theirs = announced.as_ref().ok().and_then(Option::as_ref);
    let reached = nodes.is_some() || in_place;
    let chosen = registry::choose(spec.registry.as_deref(), reached, theirs);
    let builds = stack.is_none_or(|stack| stack.services.iter().any(|one| one.build.is_some()));
    vec![match (chosen, nodes) {
        (Some(registry), _) => through(&registry, &supply.docker).await,
        _ if in_place => Check::good("images", "built in the nodes' own Docker"),
        (None, Some(nodes)) => {
            let tried = by_layers(&supply).await;
            into_nodes(nodes, tried, theirs.and_then(Announced::registry))
        }
        (None, None) if builds => {
            Check::failed("images", &registry::no_way(&choice.context, &announced))
        }
        (None, None) => Check::good("images", "none is built: the nodes pull what they need"),
    }]
}

async fn through(registry: &Registry, docker: &Docker) -> Check {
    let login = credentials::for_push(registry.host()).await;
    match registry.answers(docker.api(), login).await {
        Ok(()) => Check::good("images", registry.line()),
        Err(failure) => Check::failed("images", &failure),
    }
}

/// Whether the nodes can be sent single layers, or why not.
async fn by_layers(supply: &Supply) -> Result<(), String> {
    if let Way::Load(program) = supply.way
        && let Some(why) = program.only_whole()
    {
        return Err(why);
    }
    let reached = push::reachable(supply.docker.api()).await;
    reached.map_err(|why| format!("Docker does not reach 127.0.0.1 of this machine ({why})"))
}

fn into_nodes(nodes: usize, tried: Result<(), String>, beside: Option<Registry>) -> Check {
    let (verdict, way) = match tried {
        Ok(()) => (
            Verdict::Good,
            "layer by layer, only what is lacking".to_owned(),
        ),
        Err(why) => (
            Verdict::Warning,
            format!("by `docker save`, which is slower: {why}"),
        ),
    };
    let nodes = match nodes {
        0 => "the nodes that are yet to be made".to_owned(),
        1 => "1 node".to_owned(),
        many => format!("{many} nodes"),
    };
    let beside = beside.map_or_else(String::new, |registry| {
        let push = registry.push;
        format!("; `cluster.registry: {push}` would push to the one that the cluster announces")
    });
    Check::new("images", verdict, format!("put into {nodes} {way}{beside}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::registry::By;

    #[test]
    fn the_way_into_nodes_is_said_with_its_reason() {
        let said = |nodes, tried: Result<(), &str>, beside| {
            let check = into_nodes(nodes, tried.map_err(str::to_owned), beside);
            format!("{:?} {}", check.verdict, check.found)
        };
        let registry = Registry {
            push: "localhost:5001".to_owned(),
            pull: "localhost:5001".to_owned(),
            by: By::Cluster(None),
        };
        insta::assert_snapshot!(said(1, Ok(()), None), @"Good put into 1 node layer by layer, only what is lacking");
        insta::assert_snapshot!(said(3, Ok(()), Some(registry)), @"Good put into 3 nodes layer by layer, only what is lacking; `cluster.registry: localhost:5001` would push to the one that the cluster announces");
        insta::assert_snapshot!(said(0, Err("Docker does not come here"), None), @"Warning put into the nodes that are yet to be made by `docker save`, which is slower: Docker does not come here");
    }
}
