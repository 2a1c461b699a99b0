//! Where images are built for a cluster, and how they get from there to its nodes.

use std::path::Path;

use super::load::Loader;
use super::load::program::Program;
use super::minikube::Address;
use super::node::{self, Node};
use super::runtime::Runtime;
use super::{Choice, Cluster, Flavor};
use crate::build::Docker;
use crate::error::{Failure, Result};
use crate::stack::ClusterSpec;

/// The way of images.
#[derive(Debug)]
pub struct Supply {
    /// The engine that builds them.
    pub docker: Docker,
    /// The nodes, where they are containers of this machine's engine. None: nothing is known of any.
    pub nodes: Option<Vec<Node>>,
    /// From the engine to the nodes.
    pub way: Way,
}

/// How images get from the engine that builds them to the nodes.
#[derive(Debug)]
pub enum Way {
    /// They are there: the node runs containers with that very engine.
    None,
    /// They are loaded into [`Supply::nodes`], by this program in them.
    Load(Program),
    /// They do not: the nodes are no containers of that engine, or there is another reason.
    Closed(Option<Failure>),
}

impl Supply {
    /// That of a cluster that answers. `docker` is this machine's engine.
    ///
    /// # Errors
    /// When the nodes cannot be asked, or their engine does not answer.
    pub async fn of(cluster: &Cluster, docker: &Docker) -> Result<Supply> {
        let Flavor::Minikube(profile) = &cluster.choice.flavor else {
            return Supply::by_flavor(&cluster.choice, docker).await;
        };
        let supply = Supply::by_flavor(&cluster.choice, docker);
        let (supply, runtime) = futures::try_join!(supply, Runtime::of(&cluster.client))?;
        let engine = match runtime {
            Runtime::Docker => Address::of(profile).await?,
            _ => None,
        };
        if let Some(engine) = engine {
            let (docker, way) = (engine.connect().await?, Way::None);
            return Ok(Supply {
                docker,
                way,
                ..supply
            });
        }
        let way = match Program::of(&runtime) {
            Some(program) if supply.nodes.is_some() => Way::Load(program),
            _ => Way::Closed(Some(unreached(&cluster.choice, profile, &runtime))),
        };
        Ok(Supply { way, ..supply })
    }

    /// That of a stack's cluster as it is now. One that does not run has this machine's engine.
    ///
    /// # Errors
    /// When Docker does not answer, or a minikube profile does not that should.
    pub async fn as_it_is(spec: &ClusterSpec, stack: &str) -> Result<Supply> {
        let docker = Docker::connect().await?;
        let choice = super::detect::choose(spec, stack, &super::kubeconfig())?;
        if choice.known && matches!(choice.flavor, Flavor::Minikube(_)) {
            let cluster = super::connect_existing(spec, stack).await?;
            return Supply::of(&cluster, &docker).await;
        }
        Supply::by_flavor(&choice, &docker).await
    }

    /// What needs no answer from the cluster.
    async fn by_flavor(choice: &Choice, docker: &Docker) -> Result<Supply> {
        let nodes = node::of(docker.api(), &choice.flavor).await?;
        let nodes = nodes.filter(|nodes| !nodes.is_empty());
        let way = match nodes {
            Some(_) => Way::Load(Program::Ctr),
            None => Way::Closed(None),
        };
        let docker = docker.clone();
        Ok(Supply { docker, nodes, way })
    }

    /// What loads images into the nodes, where they have to be. `folder` is the stack's state folder.
    pub fn loader(&self, folder: &Path) -> Option<Loader> {
        match (&self.way, &self.nodes) {
            (Way::Load(program), Some(nodes)) => {
                Some(Loader::new(self.docker.api(), nodes, folder).by(*program))
            }
            _ => None,
        }
    }
}

fn closed(choice: &Choice) -> Failure {
    // Not of the environment, which is tried again: it stays so.
    Failure::failed(format!(
        "images cannot be brought into the nodes of {}",
        choice.context
    ))
}

/// A profile that images cannot be loaded into.
fn unreached(choice: &Choice, profile: &str, runtime: &Runtime) -> Failure {
    let failure = match runtime {
        Runtime::Other(name) => closed(choice).cause(format!(
            "they run containers with {name}, into which llmdev does not load"
        )),
        _ => closed(choice).cause(
            "they are no containers of this Docker: the profile has another driver, or another Docker runs it",
        ),
    };
    failure.remedy(format!(
        "a profile of the driver docker: `minikube delete -p {profile}`, then `cluster: {{ driver: docker }}` in \
         stack.yaml"
    ))
}
