//! The stages of a service's pipeline, as they are carried out.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::apply::{self, Applied, Conflicts};
use crate::build::{ImagePlan, Outcome, credentials};
use crate::cluster::load::{LoadReport, Loader, Way};
use crate::cluster::registry::Registry;
use crate::error::{Failure, Kind, Result};
use crate::event::Level;
use crate::ready;
use crate::stack::ServiceId;
use crate::state::State;

use super::bus::Bus;
use super::prepare::Prepared;
use super::world::World;

/// What a stage needs.
pub struct Context {
    pub world: Arc<World>,
    pub prepared: Arc<Prepared>,
    pub state: State,
    pub bus: Bus,
    pub conflicts: Conflicts,
    pub service: ServiceId,
    pub cancel: CancellationToken,
    /// Gets what the stage is at, in a few words.
    pub say: Box<dyn Fn(String) + Send + Sync>,
}

/// What the build stage came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Built {
    /// The image is in Docker.
    Yes,
    /// A file changed while it was read: all has to be prepared anew.
    Changed,
    /// The image that the service was to keep is not there any more.
    Gone,
}

/// Builds the service's image and those that it requires, unless Docker has them.
///
/// # Errors
/// When a build fails, or its image could not get into the cluster.
pub async fn build(context: &Context) -> Result<Built> {
    let _kept = context.world.images.read().await;
    if context.prepared.plans.contains_key(&context.service)
        && context.prepared.registry.is_none()
        && !context.world.is_reached()
    {
        return Err(context.world.no_way());
    }
    match context.prepared.plans.get(&context.service) {
        Some(plan) if context.prepared.synced.contains_key(&context.service) => {
            // The files are newer than the image: it cannot be built from them.
            let there = context
                .world
                .docker
                .image_id(&plan.reference)
                .await?
                .is_some();
            Ok(if there { Built::Yes } else { Built::Gone })
        }
        Some(plan) => build_one(context, Arc::clone(plan)).await,
        None => Ok(Built::Yes),
    }
}

fn build_one(context: &Context, plan: Arc<ImagePlan>) -> BoxFuture<'_, Result<Built>> {
    Box::pin(async move {
        for required in plan.spec.requires.values() {
            let plan = Arc::clone(&context.prepared.plans[required]);
            match build_one(context, plan).await? {
                Built::Yes => {}
                other => return Ok(other),
            }
        }
        let world = &context.world;
        let _alone = world.building(&plan.reference).await;
        if world.docker.image_id(&plan.reference).await?.is_some() {
            return Ok(Built::Yes);
        }
        let _turn = world
            .turns
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let mut log = BuildLog::create(&context.state, &plan.name)?;
        let mut lines = |line: &str| {
            log.line(line);
            (context.say)(line.to_owned());
        };
        let built = world.docker.build(&plan, &mut lines, &context.cancel).await;
        match built.map_err(|failure| with_a_way_on(failure, &plan.name))? {
            Outcome::Built(_) => Ok(Built::Yes),
            Outcome::Changed(_) => Ok(Built::Changed),
        }
    })
}

/// A Dockerfile that fails says itself what is wrong with it; here is the rest of its output.
fn with_a_way_on(mut failure: Failure, service: &str) -> Failure {
    if failure.kind == Kind::Failed && failure.remedy.is_none() {
        failure.remedy = Some(format!(
            "`llmdev logs --build {service}` has all the build said"
        ));
    }
    failure
}

/// A build's output, kept for `llmdev logs --build`.
struct BuildLog(fs::File);

impl BuildLog {
    fn create(state: &State, service: &str) -> Result<Self> {
        let path = state.build_log(service);
        let made = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::File::create(&path));
        made.map(BuildLog).map_err(|error| {
            Failure::environment(format!("cannot write {}", path.display())).because(error)
        })
    }

    fn line(&mut self, line: &str) {
        // The build matters more than its log.
        let _ = writeln!(self.0, "{line}");
    }
}

/// Gets the service's images into the nodes: its own, and those from upstream that Docker has. Where there is a
/// registry, its own goes there, and the nodes pull what they need.
///
/// # Errors
/// When its own image cannot be brought in.
pub async fn load(context: &Context) -> Result<()> {
    let world = &context.world;
    let _kept = world.images.read().await;
    if let Some(registry) = &context.prepared.registry {
        return push(context, registry).await;
    }
    let Some(loader) = &world.loader else {
        return Ok(());
    };
    let mut images: Vec<String> = context
        .prepared
        .plans
        .get(&context.service)
        .map(|plan| plan.reference.clone())
        .into_iter()
        .collect();
    for image in context.prepared.upstream(context.service) {
        // What Docker has not got is left to the node to pull.
        if world.docker.image_id(&image).await?.is_some() {
            images.push(image);
        }
    }
    if !images.is_empty() {
        let report = loader.load(&images, &context.cancel).await?;
        say_way(context, loader, &report);
    }
    Ok(())
}

async fn push(context: &Context, registry: &Registry) -> Result<()> {
    let Some(plan) = context.prepared.plans.get(&context.service) else {
        return Ok(());
    };
    let login = credentials::for_push(registry.host()).await;
    let docker = context.world.docker.api();
    registry
        .push(docker, &plan.reference, login, &context.cancel)
        .await?;
    if context.world.says_way() {
        context.bus.note(Level::Info, None, registry.line());
    }
    Ok(())
}

/// Says once why images take the slower way, where that will not change by itself.
fn say_way(context: &Context, loader: &Loader, report: &LoadReport) {
    let Some(why) = loader.cannot_push() else {
        return;
    };
    if matches!(report.way, Some(Way::Save { .. })) && context.world.says_way() {
        let line = format!("images are loaded by `docker save`, which is slower: {why}");
        context.bus.note(Level::Info, None, line);
    }
}

/// Applies the service's workloads; what is to become ready.
///
/// # Errors
/// When the API server refuses one.
pub async fn apply(context: &Context) -> Result<ready::Target> {
    let objects = context.prepared.gated(context.service);
    let outcome = context
        .world
        .applier
        .apply(&objects, context.conflicts)
        .await?;
    say(&context.bus, &outcome);
    let services = context
        .prepared
        .services(context.service)
        .into_iter()
        .map(|object| ready::TargetObject {
            kind: object.kind.clone(),
            namespace: object
                .namespace
                .clone()
                .unwrap_or_else(|| context.prepared.stack.namespace.clone()),
            name: object.name.clone(),
            ..ready::TargetObject::default()
        });
    Ok(ready::Target {
        service: context.prepared.stack.service(context.service).name.clone(),
        objects: outcome
            .applied
            .into_iter()
            .map(to_be_ready)
            .chain(services)
            .collect(),
    })
}

fn to_be_ready(applied: Applied) -> ready::TargetObject {
    ready::TargetObject {
        kind: applied.target.kind,
        namespace: applied.target.namespace.unwrap_or_default(),
        name: applied.target.name,
        uid: Some(applied.uid),
        generation: applied.generation,
    }
}

/// Applies all that waits for nothing, after a look at whether the cluster knows what it is asked for.
///
/// # Errors
/// As [`apply::Applier::groundwork`]; kinds that the cluster does not know, where the stack is strict or a service
/// needs them.
pub async fn groundwork(
    world: &World,
    prepared: &Prepared,
    bus: &Bus,
    conflicts: Conflicts,
) -> Result<()> {
    let all: Vec<_> = prepared.rendered.objects.iter().collect();
    let unknown = world.applier.unknown(&all).await?;
    prepared.admit(&unknown)?;
    if let Some(note) = world.unsaid(apply::unknown_note(&unknown)) {
        bus.note(Level::Warning, None, note);
    }
    let objects = prepared.groundwork();
    let outcome = world.applier.groundwork(&objects, conflicts).await?;
    say(bus, &outcome);
    Ok(())
}

/// Says what was done beyond plain applying.
fn say(bus: &Bus, outcome: &apply::Outcome) {
    for note in &outcome.notes {
        bus.note(Level::Warning, None, note.clone());
    }
}
