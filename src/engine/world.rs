//! What the engine works with: Docker, the cluster, its nodes, and the forwards; connected once, kept until `down`.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::apply::Applier;
use crate::build::Docker;
use crate::cluster::agent::Agents;
use crate::cluster::load::Loader;
use crate::cluster::node::Node;
use crate::cluster::registry::{self, Announced, Registry};
use crate::cluster::room::Facts;
use crate::cluster::supply::{Supply, Way};
use crate::cluster::{self, Cluster};
use crate::error::{Failure, Result};
use crate::event::Level;
use crate::forward::{Dialer, ForwardChange, Forwards, TcpDial};
use crate::owner::Owner;
use crate::stack::{ClusterSpec, Stack};
use crate::state::State;
use crate::sync::{Keeper, Means, Said};
use crate::view::{self, Scope, Views};

use super::bus::Bus;

/// Builds beside each other: more only take the processor from each other.
const BUILDS: usize = 3;

/// The connections of one stack.
pub struct World {
    /// The engine that images are built in.
    pub docker: Docker,
    /// Where the stack runs.
    pub cluster: Cluster,
    /// Applies and removes objects.
    pub applier: Applier,
    /// What the cluster says.
    pub views: Views,
    /// The local ports.
    pub forwards: Forwards,
    /// Gets images into the nodes; none where Docker does not reach them.
    pub loader: Option<Loader>,
    /// Do in the nodes what is faster there; none where Docker does not reach them.
    pub agents: Option<Arc<Agents>>,
    /// How images that are built get to the nodes without a registry.
    way: Way,
    /// Gets files into containers.
    pub keeper: Keeper,
    /// Read while images are built and loaded, written while old ones are removed.
    pub images: tokio::sync::RwLock<()>,
    /// Whether it was said since the last `up` which way images take.
    said_way: AtomicBool,
    /// What was said since the last `up` of kinds that the cluster does not know.
    said_unknown: Mutex<Option<String>>,
    /// A build that waits for its turn.
    pub turns: Semaphore,
    /// Held by whoever builds a reference, so that no two build the same.
    building: tokio::sync::Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// What the cluster had when it was last asked.
    facts: Mutex<Arc<Facts>>,
    /// What it then said of a registry.
    announced: Mutex<Result<Option<Announced>>>,
    owner: Owner,
    _end: tokio_util::sync::DropGuard,
}

impl World {
    /// Connects to all of it.
    ///
    /// # Errors
    /// When Docker or the cluster is not there or may not be used.
    pub async fn connect(
        stack: &Stack,
        state: &State,
        bus: &Bus,
        changed: Changed,
        said: Box<dyn Fn(Said) + Send + Sync>,
    ) -> Result<Self> {
        let say = |line: String| bus.note(Level::Info, None, line);
        let (host, cluster) = tokio::try_join!(
            Docker::connect(),
            cluster::connect(&stack.cluster, &stack.name, &say)
        )?;
        let owner = Owner::of(stack);
        let end = CancellationToken::new();
        let line = cluster.line.clone();
        let attended = end.clone();
        tokio::spawn(async move { attended.run_until_cancelled(line.attend()).await });
        let client = cluster.client.clone();
        let scope = Scope::AllNamespaces(stack.namespace.clone());
        let views = view::observe(client.clone(), &owner, scope, end.clone());
        let applier = Applier::new(client.clone(), owner.clone(), &stack.namespace, &state.dir);
        let (facts, announced, supply) = tokio::join!(
            Facts::ask(&client, &owner),
            Announced::ask(&client),
            Supply::of(&cluster, &host)
        );
        let supply = supply?;
        let (loader, agents, dialer) = match &supply.nodes {
            Some(nodes) => {
                let agents = Arc::new(agents(host.api(), nodes)?);
                start_agents(&agents, nodes, &end);
                let loader = supply.loader(&state.dir);
                let loader = loader.map(|loader| loader.with_agents(Arc::clone(&agents)));
                let dialer = Dialer::Near(near(Arc::clone(&agents)), client.clone());
                (loader, Some(agents), dialer)
            }
            None => (None, None, Dialer::Api(client.clone())),
        };
        let means = Means {
            client,
            agents: agents.clone(),
        };
        let keeper = Keeper::start(means, views.clone(), state.synced(), said);
        let forwards = Forwards::new(keeper.views.clone(), dialer, changed, end.clone());
        Ok(World {
            docker: supply.docker,
            cluster,
            applier,
            views,
            forwards,
            loader,
            agents,
            way: supply.way,
            keeper,
            images: tokio::sync::RwLock::default(),
            said_way: AtomicBool::new(false),
            said_unknown: Mutex::default(),
            turns: Semaphore::new(BUILDS),
            building: tokio::sync::Mutex::default(),
            facts: Mutex::new(Arc::new(facts)),
            announced: Mutex::new(announced),
            owner,
            _end: end.drop_guard(),
        })
    }

    /// The registry that a stack's images go through, if they do.
    pub fn registry(&self, spec: &ClusterSpec) -> Option<Registry> {
        let announced = lock(&self.announced);
        let announced = announced.as_ref().ok().and_then(Option::as_ref);
        registry::choose(spec.registry.as_deref(), self.is_reached(), announced)
    }

    /// Whether images that are built get to the nodes without a registry.
    pub fn is_reached(&self) -> bool {
        !matches!(self.way, Way::Closed(_))
    }

    /// Why images cannot get into the cluster, where there is no registry either.
    pub fn no_way(&self) -> Failure {
        match &self.way {
            Way::Closed(Some(why)) => why.clone(),
            _ => registry::no_way(&self.cluster.choice.context, &lock(&self.announced)),
        }
    }

    /// Whether it is time to say which way images take: once an `up`.
    pub fn says_way(&self) -> bool {
        !self.said_way.swap(true, Ordering::Relaxed)
    }

    /// The note on kinds that the cluster does not know, unless it was said since the last `up`.
    pub fn unsaid(&self, unknown: Option<String>) -> Option<String> {
        let mut said = lock(&self.said_unknown);
        let news = unknown.clone().filter(|_| *said != unknown);
        *said = unknown;
        news
    }

    /// Asks the cluster anew what it has.
    pub async fn look_around(&self) {
        self.said_way.store(false, Ordering::Relaxed);
        *lock(&self.said_unknown) = None;
        let client = &self.cluster.client;
        let (facts, announced) =
            tokio::join!(Facts::ask(client, &self.owner), Announced::ask(client));
        *lock(&self.facts) = Arc::new(facts);
        *lock(&self.announced) = announced;
    }

    /// What the cluster had when it was last asked.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&lock(&self.facts))
    }

    /// Waits until nobody else builds a reference, and keeps others from it until the guard is dropped.
    pub async fn building(&self, reference: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = Arc::clone(
            self.building
                .lock()
                .await
                .entry(reference.to_owned())
                .or_default(),
        );
        lock.lock_owned().await
    }
}

/// The part of llmdev that runs inside the nodes.
fn agents(docker: &bollard::Docker, nodes: &[Node]) -> Result<Agents> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::environment("cannot tell where this program is").because(error)
    })?;
    Ok(Agents::new(docker, nodes, program))
}

/// Starts the agents, so that whoever needs one first finds it there. Each says itself why it does not start when it is
/// asked for.
fn start_agents(agents: &Arc<Agents>, nodes: &[Node], end: &CancellationToken) {
    for node in nodes.iter().filter(|node| node.running) {
        let (agents, end, name) = (Arc::clone(agents), end.clone(), node.name.clone());
        tokio::spawn(async move {
            if let Some(Err(failure)) = end.run_until_cancelled(agents.on(&name)).await {
                tracing::debug!(%failure, node = name, "no agent");
            }
        });
    }
}

/// Forwards through the agents, which need neither the API server nor the kubelet on the way.
fn near(agents: Arc<Agents>) -> TcpDial {
    Arc::new(
        move |pod: Arc<Pod>, port| -> BoxFuture<'static, io::Result<TcpStream>> {
            let agents = Arc::clone(&agents);
            Box::pin(async move {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                let agent = agents
                    .on(node.unwrap_or_default())
                    .await
                    .map_err(io::Error::other)?;
                agent
                    .dial(pod.metadata.uid.as_deref().unwrap_or_default(), port)
                    .await
            })
        },
    )
}

/// What is told when a service's forwards have changed.
pub type Changed = Box<dyn Fn(ForwardChange) + Send + Sync>;

/// What went wrong where only one thing can have: the world was not there yet.
pub fn not_connected() -> Failure {
    Failure::environment("there is no connection to the cluster yet").remedy("llmdev up")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
