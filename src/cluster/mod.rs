//! Which cluster: found or created, checked to be local, and how to reach it.

pub mod agent;
pub mod containerd;
pub mod create;
mod created;
pub mod detect;
mod door;
pub mod line;
pub mod load;
pub mod minikube;
pub mod node;
pub mod registry;
pub mod room;
pub mod runtime;
pub mod supply;

use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};

use self::line::Line;
use crate::error::{Failure, Result};
use crate::stack::{ClusterSpec, Provider};

/// How long the API server may take to answer the first question.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// How long a cluster that was started just now may take to answer for good.
const SETTLED: Duration = Duration::from_secs(90);
/// Between two questions to it.
const PAUSE: Duration = Duration::from_millis(250);

/// A closed set: it decides how images get in, and what `down --cluster` may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flavor {
    /// A kind cluster of this name.
    Kind(String),
    /// A minikube profile of this name.
    Minikube(String),
    /// Anything else; its nodes can't be reached but through the API.
    Other,
}

/// The cluster that a stack is to run on, before anybody knows whether it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The kubeconfig context.
    pub context: String,
    /// What sort of cluster it is.
    pub flavor: Flavor,
    /// Whether the kubeconfig has the context. It has none for a cluster that is yet to be created, or for a minikube
    /// profile that is stopped.
    pub known: bool,
}

/// A cluster that answers.
#[derive(Clone)]
pub struct Cluster {
    /// What was chosen.
    pub choice: Choice,
    /// A client for its API server.
    pub client: kube::Client,
    /// What the client's requests go over.
    pub line: Line,
}

impl Cluster {
    fn on(line: Line, choice: Choice) -> Self {
        Cluster {
            choice,
            client: line.client(),
            line,
        }
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("choice", &self.choice)
            .finish_non_exhaustive()
    }
}

/// Finds the cluster of a stack, creates it if it is not there and may be created, and connects to it.
/// `say` gets a line for people before anything that takes long.
///
/// # Errors
/// When there is none, when it is not local and not named outright, or when it does not answer.
pub async fn connect(
    spec: &ClusterSpec,
    stack: &str,
    say: &(dyn Fn(String) + Sync),
) -> Result<Cluster> {
    let choice = detect::choose(spec, stack, &kubeconfig())?;
    let choice = create::ensure(spec, choice, say).await?;
    let cluster = Cluster::on(line_to(&choice.context).await?, choice);
    match (answers(&cluster).await, &cluster.choice.flavor) {
        (Ok(()), _) => Ok(cluster),
        // `minikube stop` takes the context away, but a restart of the machine, a pause and a new address do not.
        (Err(_), Flavor::Minikube(profile)) => {
            start(&cluster, spec, profile, say).await?;
            Ok(cluster)
        }
        (Err(failure), _) => Err(failure),
    }
}

/// Connects to the cluster of a stack as it is, and creates or starts nothing.
///
/// # Errors
/// As [`connect`].
pub async fn connect_existing(spec: &ClusterSpec, stack: &str) -> Result<Cluster> {
    let choice = detect::choose(spec, stack, &kubeconfig())?;
    if !choice.known {
        return Err(not_there(&choice));
    }
    let cluster = Cluster::on(line_to(&choice.context).await?, choice);
    answers(&cluster).await?;
    Ok(cluster)
}

/// Starts a minikube profile that was stopped since it was connected to.
///
/// # Errors
/// When it does not start. Of other clusters that do not answer, others have to tell.
pub async fn wake(
    cluster: &Cluster,
    spec: &ClusterSpec,
    say: &(dyn Fn(String) + Sync),
) -> Result<()> {
    let Flavor::Minikube(profile) = &cluster.choice.flavor else {
        return Ok(());
    };
    if answers(cluster).await.is_ok() {
        return Ok(());
    }
    start(cluster, spec, profile, say).await
}

/// Starts a minikube profile, and goes on where its API server is then.
async fn start(
    cluster: &Cluster,
    spec: &ClusterSpec,
    profile: &str,
    say: &(dyn Fn(String) + Sync),
) -> Result<()> {
    minikube::ensure(spec, profile, &cluster.choice, say).await?;
    cluster.line.renew().await?;
    answers_soon(cluster).await
}

/// What the user's kubeconfig says; empty when there is none.
pub fn kubeconfig() -> Kubeconfig {
    Kubeconfig::read().unwrap_or_default()
}

/// Each connection is made by the kubeconfig as it is then: a cluster that was stopped may come back at another address.
async fn line_to(context: &str) -> Result<Line> {
    let (context, local) = (context.to_owned(), detect::is_local(&kubeconfig(), context));
    Line::new(move || client_of(context.clone(), local)).await
}

/// A client for a context; with `local`, for one that is local and for no other.
async fn client_of(context: String, local: bool) -> Result<kube::Client> {
    let unusable = |cause: String| {
        Failure::environment(format!("the kubeconfig's context {context} cannot be used"))
            .cause(cause)
            .remedy(format!("kubectl --context {context} version"))
    };
    let file = Kubeconfig::read().map_err(|error| unusable(error.to_string()))?;
    if local && !detect::is_local(&file, &context) {
        return Err(unusable("it is not local any more".to_owned()));
    }
    let options = KubeConfigOptions {
        context: Some(context.clone()),
        ..Default::default()
    };
    let mut config = kube::Config::from_custom_kubeconfig(file, &options)
        .await
        .map_err(|error| unusable(error.to_string()))?;
    // Watches are quiet for minutes; the API server ends them itself.
    config.read_timeout = None;
    kube::Client::try_from(config).map_err(|error| unusable(error.to_string()))
}

async fn answers(cluster: &Cluster) -> Result<()> {
    let Cluster { choice, client, .. } = cluster;
    let dead = |cause: String| {
        let remedy = match &choice.flavor {
            Flavor::Kind(name) => format!(
                "docker ps -a --filter label=io.x-k8s.kind.cluster={name} shows its nodes; \
                 `kind delete cluster --name {name}` and `llmdev up` make it anew"
            ),
            Flavor::Minikube(profile) => format!("minikube status -p {profile}"),
            Flavor::Other => format!("kubectl --context {} get nodes", choice.context),
        };
        Failure::environment(format!("the cluster {} does not answer", choice.context))
            .cause(cause)
            .remedy(remedy)
    };
    match tokio::time::timeout(FIRST_ANSWER, client.apiserver_version()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(dead(Failure::failed("").because(error).causes.join(": "))),
        Err(_) => Err(dead(format!(
            "no answer within {} s",
            FIRST_ANSWER.as_secs()
        ))),
    }
}

/// Of a cluster that was started just now, whose API server may begin anew once more.
async fn answers_soon(cluster: &Cluster) -> Result<()> {
    let deadline = Instant::now() + SETTLED;
    loop {
        match answers(cluster).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

fn not_there(choice: &Choice) -> Failure {
    let failure = match &choice.flavor {
        Flavor::Kind(name) => Failure::environment(format!("there is no kind cluster {name}"))
            .remedy(format!("`cluster: {{ create: true }}` in stack.yaml, or `kind create cluster --name {name}`")),
        Flavor::Minikube(profile) => Failure::environment(format!("minikube has no running profile {profile}"))
            .remedy(format!("`cluster: {{ create: true }}` in stack.yaml, or `minikube start -p {profile}`")),
        Flavor::Other => Failure::environment(format!("the kubeconfig has no context {}", choice.context))
            .remedy("`kubectl config get-contexts` lists them"),
    };
    failure.cause("nothing was changed")
}

impl Choice {
    fn kind(name: &str, known: bool) -> Self {
        Choice {
            context: format!("kind-{name}"),
            flavor: Flavor::Kind(name.to_owned()),
            known,
        }
    }

    fn minikube(profile: &str, known: bool) -> Self {
        Choice {
            context: profile.to_owned(),
            flavor: Flavor::Minikube(profile.to_owned()),
            known,
        }
    }
}

/// The provider as `stack.yaml` names it.
impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Provider::Kind => "kind",
            Provider::Minikube => "minikube",
            Provider::Context => "context",
        })
    }
}
