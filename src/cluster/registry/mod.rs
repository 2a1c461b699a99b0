//! A registry that Docker pushes to and the nodes pull from: where `stack.yaml` names one, or where the nodes cannot be
//! reached from Docker and the cluster announces one.

mod announced;
mod push;

use std::time::Duration;

pub use announced::Announced;

use super::{Choice, Flavor, detect, kubeconfig, line_to, node};
use crate::build::Docker;
use crate::error::{Failure, Result};
use crate::stack::Stack;

/// One registry, by the names that it has on either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// As Docker calls it: `host:port[/path]`.
    pub push: String,
    /// As the nodes call it. Images have this name in the manifests.
    pub pull: String,
    /// Who says so.
    pub by: By,
}

/// Who names a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// `cluster.registry` of `stack.yaml`.
    Stack,
    /// The cluster, by KEP-1755. With its page for people, if it has one.
    Cluster(Option<String>),
}

/// How long commands wait that need no cluster: then what `stack.yaml` says is all there is.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The registry of a stack: the one that `stack.yaml` names, by the names that the cluster announces for it if it does;
/// else, where Docker does not reach the nodes, the one that the cluster announces.
pub fn choose(
    named: Option<&str>,
    reached: bool,
    announced: Option<&Announced>,
) -> Option<Registry> {
    match named {
        Some(named) => Some(
            announced
                .and_then(|it| it.called(named))
                .unwrap_or(Registry {
                    push: named.to_owned(),
                    pull: named.to_owned(),
                    by: By::Stack,
                }),
        ),
        None => announced.filter(|_| !reached)?.registry(),
    }
}

/// The registry of a stack for a command that works without a cluster, too.
pub async fn known(stack: &Stack) -> Option<Registry> {
    let named = stack.cluster.registry.as_deref();
    let choice = detect::choose(&stack.cluster, &stack.name, &kubeconfig()).ok();
    let reached = match &choice {
        Some(choice) => is_reached(choice).await,
        None => true,
    };
    let asked = choice.filter(|choice| choice.known && (named.is_some() || !reached));
    let announced = match asked {
        Some(choice) => announced(&choice.context).await.ok().flatten(),
        None => None,
    };
    choose(named, reached, announced.as_ref())
}

/// Whether the nodes are containers of this Docker, as far as is known without a word from the cluster: one that does not
/// run yet will be, and so is what Docker does not tell of.
async fn is_reached(choice: &Choice) -> bool {
    let Flavor::Kind(name) = &choice.flavor else {
        return choice.flavor != Flavor::Other;
    };
    let ask = async { node::of_kind(Docker::connect().await?.api(), name).await };
    match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(nodes)) => !choice.known || !nodes.is_empty(),
        Ok(Err(_)) | Err(_) => true,
    }
}

/// What the cluster of a context announces, if it says so soon.
///
/// # Errors
/// As [`Announced::ask`].
pub async fn announced(context: &str) -> Result<Option<Announced>> {
    let ask = async { Announced::ask(&line_to(context).await?.client()).await };
    let late = |_| Failure::environment(format!("the cluster {context} does not answer"));
    tokio::time::timeout(PATIENCE, ask).await.map_err(late)?
}

/// Why images cannot get into a cluster, and what would help. `announced` is what became of asking it for a registry.
pub fn no_way(context: &str, announced: &Result<Option<Announced>>) -> Failure {
    let failure = Failure::config(format!(
        "images cannot be brought into the cluster {context}"
    ))
    .cause("its nodes are no containers of this Docker, and stack.yaml names no registry");
    let remedy = "name one in stack.yaml that Docker may push to and the nodes can pull from: \
                  `cluster: { registry: host:port }`";
    let (why, remedy) = match announced {
        Ok(None) => ("the cluster announces none".to_owned(), remedy.to_owned()),
        Ok(Some(announced)) => (
            "the cluster announces one that is not reached from here".to_owned(),
            match &announced.help {
                Some(help) => {
                    format!("{remedy}; what the cluster announces is explained at {help}")
                }
                None => remedy.to_owned(),
            },
        ),
        Err(failure) => (failure.line(), remedy.to_owned()),
    };
    failure.cause(why).remedy(remedy)
}

impl Registry {
    /// The host, by which `docker login` keeps its logins.
    pub fn host(&self) -> &str {
        host(&self.push)
    }

    /// That images go there, and why.
    pub fn line(&self) -> String {
        let why = match self.by {
            By::Stack => "as `cluster.registry` says",
            By::Cluster(_) => {
                "which the cluster announces, since its nodes are not reached from Docker"
            }
        };
        let called = match self.pull == self.push {
            true => String::new(),
            false => format!("; the nodes call it {}", self.pull),
        };
        format!("images are pushed to {}, {why}{called}", self.push)
    }
}

fn host(registry: &str) -> &str {
    registry.split('/').next().unwrap_or(registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced() -> Announced {
        Announced {
            host: Some("localhost:5001".to_owned()),
            host_from_container_runtime: Some("registry:5000".to_owned()),
            help: None,
        }
    }

    fn names(named: Option<&str>, reached: bool, announced: Option<&Announced>) -> Option<String> {
        let registry = choose(named, reached, announced)?;
        let by = if registry.by == By::Stack {
            "stack"
        } else {
            "cluster"
        };
        Some(format!("{} {} {by}", registry.push, registry.pull))
    }

    #[test]
    fn what_the_stack_names_is_used_and_else_what_the_cluster_announces_where_nodes_are_out_of_reach()
     {
        let announced = announced();
        let some = Some(&announced);
        for (named, reached, announced, expected) in [
            (None, true, None, None),
            (None, false, None, None),
            (None, true, some, None),
            (
                None,
                false,
                some,
                Some("localhost:5001 registry:5000 cluster"),
            ),
            (
                Some("r.example/me"),
                true,
                None,
                Some("r.example/me r.example/me stack"),
            ),
            (
                Some("r.example/me"),
                true,
                some,
                Some("r.example/me r.example/me stack"),
            ),
            (
                Some("localhost:5001"),
                true,
                some,
                Some("localhost:5001 registry:5000 stack"),
            ),
            (
                Some("registry:5000/me"),
                false,
                some,
                Some("localhost:5001/me registry:5000/me stack"),
            ),
        ] {
            assert_eq!(
                names(named, reached, announced).as_deref(),
                expected,
                "{named:?}"
            );
        }
    }

    #[test]
    fn what_is_lacking_is_said() {
        let said = |announced| {
            let failure = no_way("prod", &announced);
            format!("{}\n{}", failure.line(), failure.remedy.unwrap_or_default())
        };
        insta::assert_snapshot!(said(Ok(None)), @"
        images cannot be brought into the cluster prod: its nodes are no containers of this Docker, and stack.yaml names no registry: the cluster announces none
        name one in stack.yaml that Docker may push to and the nodes can pull from: `cluster: { registry: host:port }`
        ");
        let inside = Announced {
            host: None,
            help: Some("https://example.org/registry".to_owned()),
            ..announced()
        };
        insta::assert_snapshot!(said(Ok(Some(inside))), @"
        images cannot be brought into the cluster prod: its nodes are no containers of this Docker, and stack.yaml names no registry: the cluster announces one that is not reached from here
        name one in stack.yaml that Docker may push to and the nodes can pull from: `cluster: { registry: host:port }`; what the cluster announces is explained at https://example.org/registry
        ");
        insta::assert_snapshot!(said(Err(Failure::environment("it may not be asked"))), @"
        images cannot be brought into the cluster prod: its nodes are no containers of this Docker, and stack.yaml names no registry: it may not be asked
        name one in stack.yaml that Docker may push to and the nodes can pull from: `cluster: { registry: host:port }`
        ");
    }

    #[test]
    fn the_way_is_said_with_its_reason() {
        let announced = announced();
        let line = |named, announced| choose(named, false, announced).unwrap().line();
        insta::assert_snapshot!(line(Some("r.example/me"), None), @"images are pushed to r.example/me, as `cluster.registry` says");
        insta::assert_snapshot!(line(None, Some(&announced)), @"images are pushed to localhost:5001, which the cluster announces, since its nodes are not reached from Docker; the nodes call it registry:5000");
    }
}
