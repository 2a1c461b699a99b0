//! The containers that are a cluster's nodes, and running commands in them.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::ListContainersOptionsBuilder;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use std::pin::Pin;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::Flavor;
use crate::error::{Failure, Kind, Result};

/// One node of a cluster whose nodes are containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name that Kubernetes has for it, which is the container's name as well.
    pub name: String,
    /// The container's id.
    pub container: String,
    /// Its address in the network of the container engine; none when it is stopped.
    pub address: Option<IpAddr>,
    /// Whether it runs.
    pub running: bool,
}

const KIND_CLUSTER: &str = "io.x-k8s.kind.cluster";
const KIND_ROLE: &str = "io.x-k8s.kind.role";
const MINIKUBE: &str = "created_by.minikube.sigs.k8s.io";
const MINIKUBE_MACHINE: &str = "name.minikube.sigs.k8s.io";

/// The nodes of a cluster, stopped ones too, sorted by name. None: they are no containers of this Docker, as far as is
/// known.
pub async fn of(docker: &Docker, flavor: &Flavor) -> Result<Option<Vec<Node>>> {
    match flavor {
        Flavor::Kind(name) => of_kind(docker, name).await.map(Some),
        Flavor::Minikube(profile) => of_minikube(docker, profile).await.map(Some),
        Flavor::Other => Ok(None),
    }
}

/// The nodes of a kind cluster, stopped ones too, sorted by name. None: there is no such cluster.
pub async fn of_kind(docker: &Docker, cluster: &str) -> Result<Vec<Node>> {
    let label = format!("{KIND_CLUSTER}={cluster}");
    let found = containers(docker, &label).await?;
    Ok(sorted(found.iter().filter(|c| {
        label_of(c, KIND_ROLE) != "external-load-balancer"
    })))
}

/// The nodes of a minikube profile that runs in containers, stopped ones too, sorted by name.
pub async fn of_minikube(docker: &Docker, profile: &str) -> Result<Vec<Node>> {
    let found = containers(docker, &format!("{MINIKUBE}=true")).await?;
    Ok(sorted(found.iter().filter(|c| {
        is_machine_of(label_of(c, MINIKUBE_MACHINE), profile)
    })))
}

/// minikube calls the first machine like the profile, and the others `<profile>-m02` and so on.
fn is_machine_of(machine: &str, profile: &str) -> bool {
    let Some(rest) = machine.strip_prefix(profile) else {
        return false;
    };
    let Some(number) = rest.strip_prefix("-m") else {
        return rest.is_empty();
    };
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

async fn containers(docker: &Docker, label: &str) -> Result<Vec<ContainerSummary>> {
    let filters = HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    docker
        .list_containers(Some(options))
        .await
        .map_err(|error| {
            Failure::environment("cannot list the cluster's nodes")
                .because(error)
                .remedy("is Docker running, and may you use it? `docker ps` tells")
        })
}

fn label_of<'a>(container: &'a ContainerSummary, label: &str) -> &'a str {
    container
        .labels
        .as_ref()
        .and_then(|labels| labels.get(label))
        .map_or("", String::as_str)
}

fn sorted<'a>(containers: impl Iterator<Item = &'a ContainerSummary>) -> Vec<Node> {
    let mut nodes: Vec<Node> = containers.filter_map(node).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

fn node(container: &ContainerSummary) -> Option<Node> {
    let name = container
        .names
        .as_ref()?
        .first()?
        .trim_start_matches('/')
        .to_owned();
    let networks = container
        .network_settings
        .as_ref()
        .and_then(|all| all.networks.as_ref());
    let address = networks
        .into_iter()
        .flat_map(|networks| networks.values())
        .find_map(|network| network.ip_address.as_ref()?.parse().ok());
    let running = container.state == Some(ContainerSummaryStateEnum::RUNNING);
    Some(Node {
        name,
        container: container.id.clone()?,
        address,
        running,
    })
}

/// What a command in a node said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// The exit code.
    pub code: i64,
}

/// A command that was started in a node, with its streams.
pub struct Running {
    /// Its standard input; shut it down to end it.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its standard output and error, in pieces.
    pub output: Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>,
    id: String,
    docker: Docker,
    node: String,
}

/// More than any command here says; what is over is cut off.
const OUTPUT_LIMIT: usize = 32 << 20;

impl Node {
    /// Starts a command as root in the node.
    ///
    /// The command sees the end of its input when [`Running`] is dropped; nothing else ends it.
    pub async fn start<S: AsRef<str>>(&self, docker: &Docker, argv: &[S]) -> Result<Running> {
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.iter().map(|word| word.as_ref().to_owned()).collect()),
            ..Default::default()
        };
        let failed = |error| self.failure(error);
        let id = docker
            .create_exec(&self.container, options)
            .await
            .map_err(failed)?
            .id;
        let options = StartExecOptions {
            output_capacity: Some(1 << 16),
            ..Default::default()
        };
        match docker
            .start_exec(&id, Some(options))
            .await
            .map_err(failed)?
        {
            StartExecResults::Attached { output, input } => Ok(Running {
                stdin: input,
                output,
                id,
                docker: docker.clone(),
                node: self.name.clone(),
            }),
            StartExecResults::Detached => Err(Failure::failed(format!(
                "cannot run a command in node {}",
                self.name
            ))),
        }
    }

    /// Runs a command in the node, gives it `input`, and waits for its end.
    ///
    /// Fails when Docker cannot run it; a code other than 0 is not a failure here.
    pub async fn exec<S: AsRef<str>>(
        &self,
        docker: &Docker,
        argv: &[S],
        input: impl Stream<Item = Bytes> + Send,
        cancel: &CancellationToken,
    ) -> Result<Output> {
        let work = async {
            let mut running = self.start(docker, argv).await?;
            let mut stdin = std::mem::replace(&mut running.stdin, Box::pin(tokio::io::sink()));
            let feed = async {
                futures::pin_mut!(input);
                while let Some(piece) = input.next().await {
                    // A command that ends early says why on its standard error.
                    if stdin.write_all(&piece).await.is_err() {
                        return;
                    }
                }
                let _ = stdin.shutdown().await;
            };
            let (output, ()) = futures::join!(running.wait(), feed);
            output
        };
        tokio::select! {
            output = work => output,
            () = cancel.cancelled() => Err(interrupted()),
        }
    }

    /// The node as it is now: another start may have given it another address.
    pub async fn refreshed(&self, docker: &Docker) -> Result<Node> {
        let found = docker
            .inspect_container(&self.container, None)
            .await
            .map_err(|error| {
                Failure::environment(format!("cannot find node {}", self.name)).because(error)
            })?;
        let networks = found
            .network_settings
            .and_then(|settings| settings.networks);
        let addresses = networks.into_iter().flat_map(HashMap::into_values);
        Ok(Node {
            address: addresses
                .filter_map(|network| network.ip_address?.parse().ok())
                .next(),
            running: found
                .state
                .and_then(|state| state.running)
                .unwrap_or_default(),
            ..self.clone()
        })
    }

    fn failure(&self, error: bollard::errors::Error) -> Failure {
        let failure = Failure::environment(format!("cannot run a command in node {}", self.name))
            .because(error);
        if self.running {
            failure
        } else {
            failure.remedy("start the cluster: its node is stopped")
        }
    }
}

impl Running {
    /// Waits for the end of the command, and collects what it says.
    pub async fn wait(mut self) -> Result<Output> {
        let mut said = Output::default();
        let lost = |error, node: &str| {
            Failure::environment(format!("lost the connection to a command in node {node}"))
                .because(error)
        };
        while let Some(piece) = self.output.next().await {
            let (to, message) = match piece.map_err(|error| lost(error, &self.node))? {
                LogOutput::StdErr { message } => (&mut said.stderr, message),
                LogOutput::StdOut { message }
                | LogOutput::StdIn { message }
                | LogOutput::Console { message } => (&mut said.stdout, message),
            };
            if to.len() < OUTPUT_LIMIT {
                to.extend_from_slice(&message);
            }
        }
        let end = self.docker.inspect_exec(&self.id).await;
        let end = end.map_err(|error| lost(error, &self.node))?;
        said.code = end.exit_code.unwrap_or(-1);
        Ok(said)
    }
}

/// What a cancelled operation answers.
pub(crate) fn interrupted() -> Failure {
    Failure::new(Kind::Interrupted, "interrupted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_of_a_profile() {
        for (machine, profile, expected) in [
            ("minikube", "minikube", true),
            ("minikube-m02", "minikube", true),
            ("minikube-m", "minikube", false),
            ("minikube-mine", "minikube", false),
            ("minikube2", "minikube", false),
            ("other", "minikube", false),
        ] {
            assert_eq!(
                is_machine_of(machine, profile),
                expected,
                "{machine} of {profile}"
            );
        }
    }
}
