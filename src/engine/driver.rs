//! Does what the machine decides: one task that owns the state, and one task an effect that is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::apply::{Conflicts, Progress};
use crate::build::Planner;
use crate::error::{Failure, Kind};
use crate::event::{Level, Phase, ServiceStatus, Status, Timing};
use crate::forward::ForwardChange;
use crate::ready::{self, Readiness};
use crate::stack::{self, Stack};
use crate::state::State;
use crate::sync::Said;
use crate::view::Views;
use crate::watch::{Change, Watcher};

use super::bus::Bus;
use super::live::{Live, Looked, Then};
use super::machine::{Effect, Input, Machine, Row, Stage};
use super::old_pod::OldPod;
use super::prepare::{self, Prepared};
use super::rest::Rest;
use super::stages::{self, Built};
use super::world::World;
use super::{hooks, rows, settle};

/// What clients ask of the driver; the fields are those of the request.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are the request's, and are described there"
)]
pub enum Command {
    /// See [`crate::daemon::protocol::Request::Up`].
    Up {
        services: BTreeSet<String>,
        watch: bool,
        force: bool,
        profile: Option<String>,
        reply: Reply,
    },
    /// End what is under way; what is applied stays.
    Halt,
    /// See [`crate::daemon::protocol::Request::Down`].
    Down { volumes: bool, reply: Reply },
    /// See [`crate::daemon::protocol::Request::Restart`].
    Restart {
        services: BTreeSet<String>,
        reply: Reply,
    },
    /// See [`crate::daemon::protocol::Request::Sync`].
    Sync { service: String, reply: Reply },
    /// See [`crate::daemon::protocol::Request::Watch`].
    Watch { on: bool, reply: Reply },
}

/// Told when a command has been carried out, with what went wrong.
pub type Reply = oneshot::Sender<Option<Failure>>;

/// The server's end of the driver. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    /// What happens.
    pub bus: Bus,
    /// What is asked.
    pub commands: mpsc::Sender<Command>,
    world: watch::Receiver<Option<Arc<World>>>,
    end: CancellationToken,
}

impl Handle {
    /// The stack as it is.
    pub fn status(&self) -> Status {
        self.bus.status()
    }

    /// What the engine works with, if the cluster was reached since the daemon started.
    pub fn world(&self) -> Option<Arc<World>> {
        self.world.borrow().clone()
    }

    /// Ends the daemon; the cluster is left as it is.
    pub fn end(&self) {
        self.end.cancel();
    }
}

/// What tasks report back.
enum Report {
    /// An effect has ended.
    Input(Box<Input>),
    /// A prepare has ended well.
    Prepared {
        run: u64,
        prepared: Arc<Prepared>,
        world: Arc<World>,
    },
    /// A workload was applied.
    Applied {
        service: String,
        generation: u64,
        target: ready::Target,
        prepared: Arc<Prepared>,
    },
    /// A stage took this long.
    Took {
        service: String,
        stage: &'static str,
        time: Duration,
    },
    /// What a stage is at.
    Says {
        service: String,
        generation: u64,
        line: String,
    },
    /// A file changed while its image was built.
    Changed,
    /// The image that a service was to keep is not there any more.
    Gone(String),
    /// A few build contexts were looked at.
    Looked(Looked),
    /// What became of files that were to go into containers.
    Synced(Said),
    /// A service's forwards have changed.
    Forwards(ForwardChange),
    /// All that was asked for has come to an end, like this.
    Ended(Option<Failure>),
}

/// Starts the driver of the stack in `file`. It ends when `end` is cancelled or the stack is down.
pub fn start(file: PathBuf, state: State, end: CancellationToken) -> (Handle, JoinHandle<()>) {
    let name = file
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let bus = Bus::new(Status {
        stack: name,
        cluster: None,
        services: Vec::new(),
        watching: false,
        failure: None,
    });
    let (commands, asked) = mpsc::channel(16);
    let (reports, reported) = mpsc::unbounded_channel();
    let (connect, world) = watch::channel(None);
    let handle = Handle {
        bus: bus.clone(),
        commands,
        world,
        end: end.clone(),
    };
    let driver = Driver {
        planner: Arc::new(Mutex::new(Planner::load(&state.digests()))),
        live: Live::new(state.clone()),
        rest: Rest::default(),
        file,
        profile: None,
        state,
        bus,
        machine: Machine::default(),
        world: None,
        views: None,
        current: None,
        stages: BTreeMap::new(),
        preparing: CancellationToken::new(),
        applied: BTreeMap::new(),
        replaced: BTreeSet::new(),
        extra: BTreeMap::new(),
        waiting: Vec::new(),
        watching: None,
        began: (Instant::now(), Utc::now()),
        said_unreachable: false,
        hooks_due: false,
        said: None,
        conflicts: Conflicts::Refuse,
        connect,
        reports,
        end,
    };
    (handle, tokio::spawn(driver.run(asked, reported)))
}

struct Driver {
    file: PathBuf,
    profile: Option<String>,
    state: State,
    bus: Bus,
    machine: Machine,
    planner: Arc<Mutex<Planner>>,
    live: Live,
    rest: Rest,
    world: Option<Arc<World>>,
    /// What the cluster says; this receiver knows what the driver has seen of it.
    views: Option<Views>,
    /// What the machine works on.
    current: Option<Arc<Prepared>>,
    /// Ends a service's live stage.
    stages: BTreeMap<String, CancellationToken>,
    /// Ends the live prepare.
    preparing: CancellationToken,
    /// What was applied for each service, and what the machine was last told of it.
    applied: BTreeMap<String, (ready::Target, Option<Readiness>)>,
    /// Pods of older versions that were told to go, by uid.
    replaced: BTreeSet<String>,
    extra: BTreeMap<String, Extra>,
    waiting: Vec<Reply>,
    watching: Option<Watcher>,
    /// One moment on both clocks.
    began: (Instant, DateTime<Utc>),
    said_unreachable: bool,
    hooks_due: bool,
    /// The notes on what is applied that were said since the last `up`.
    said: Option<Vec<String>>,
    conflicts: Conflicts,
    connect: watch::Sender<Option<Arc<World>>>,
    reports: mpsc::UnboundedSender<Report>,
    end: CancellationToken,
}

/// What a row shows beside the machine's word.
#[derive(Default)]
struct Extra {
    generation: u64,
    line: Option<String>,
    timings: Vec<Timing>,
    starting: Option<Instant>,
}

impl Driver {
    async fn run(
        mut self,
        mut asked: mpsc::Receiver<Command>,
        mut reported: mpsc::UnboundedReceiver<Report>,
    ) {
        loop {
            let deadline = self.machine.next_deadline();
            tokio::select! {
                () = self.end.cancelled() => break,
                Some(command) = asked.recv() => {
                    if self.command(command).await {
                        self.end.cancel();
                    }
                }
                Some(report) = reported.recv() => {
                    self.report(report).await;
                    // Many lines of build output make one row.
                    while let Ok(report) = reported.try_recv() {
                        self.report(report).await;
                    }
                }
                () = changed(&mut self.views) => self.look(),
                () = at(deadline) => self.give(Input::Tick),
                change = Watcher::changed(&mut self.watching) => self.files_changed(change),
            }
            self.show();
        }
        self.rest.end();
        self.preparing.cancel();
        self.stages.values().for_each(CancellationToken::cancel);
    }

    /// Carries a command out, or begins to; whether the daemon is to end.
    async fn command(&mut self, command: Command) -> bool {
        match command {
            Command::Up {
                services,
                watch,
                force,
                profile,
                reply,
            } => {
                self.profile = profile;
                self.waiting.push(reply);
                self.hooks_due = true;
                self.said = None;
                self.rest.asked();
                self.watch(watch);
                self.conflicts = if force {
                    Conflicts::Take
                } else {
                    Conflicts::Refuse
                };
                self.give(Input::Up(services));
            }
            Command::Halt => {
                self.preparing.cancel();
                self.give(Input::Halt);
            }
            Command::Watch { on, reply } => {
                self.watch(on);
                if on {
                    // What changed meanwhile.
                    self.give(Input::Changed);
                }
                let _ = reply.send(None);
            }
            Command::Restart { services, reply } => self.restart(services, reply),
            Command::Sync { service, reply } => self.sync(&service, reply),
            Command::Down { volumes, reply } => return self.down(volumes, reply).await,
        }
        false
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Input(input) => self.give(*input),
            Report::Prepared {
                run,
                prepared,
                world,
            } => self.prepared(run, prepared, world).await,
            Report::Applied {
                service,
                generation,
                target,
                prepared,
            } => {
                if let Some(world) = &self.world {
                    self.live.applied(&prepared, &service, world);
                }
                self.applied.insert(service.clone(), (target, None));
                self.extra.entry(service.clone()).or_default().starting = Some(Instant::now());
                let done = Input::Done {
                    service,
                    generation,
                    stage: Stage::Apply,
                    result: Ok(()),
                };
                self.give(done);
                self.look();
            }
            Report::Took {
                service,
                stage,
                time,
            } => self.took(&service, stage, time),
            Report::Says {
                service,
                generation,
                line,
            } => {
                let extra = self.extra.entry(service).or_default();
                if generation >= extra.generation {
                    (extra.generation, extra.line) = (generation, Some(line));
                }
            }
            Report::Changed => self.give(Input::Changed),
            Report::Gone(service) => {
                self.live.drop_base(&service);
                self.give(Input::Changed);
            }
            Report::Looked(looked) => self.looked(looked),
            Report::Synced(said) => self.synced(said),
            Report::Forwards(change) => {
                if let Some(warning) = change.warning {
                    self.bus
                        .note(Level::Warning, Some(&change.service), warning);
                }
            }
            Report::Ended(failure) => self
                .waiting
                .drain(..)
                .for_each(|reply| drop(reply.send(failure.clone()))),
        }
    }

    fn give(&mut self, input: Input) {
        for effect in self.machine.handle(input, Instant::now()) {
            tracing::debug!(?effect);
            match effect {
                Effect::Prepare { run } => self.prepare(run),
                Effect::Groundwork { run } => self.groundwork(run),
                Effect::Run {
                    service,
                    generation,
                    stage,
                } => self.stage(service, generation, stage),
                Effect::Cancel { service } => {
                    if let Some(cancel) = self.stages.remove(&service) {
                        cancel.cancel();
                    }
                }
                Effect::Prune { run } => self.prune(run),
                Effect::Settled => self.settled(),
            }
        }
    }

    fn prepare(&mut self, run: u64) {
        self.rest.end();
        self.preparing.cancel();
        self.preparing = CancellationToken::new();
        let (file, profile, state, bus) = (
            self.file.clone(),
            self.profile.clone(),
            self.state.clone(),
            self.bus.clone(),
        );
        let (planner, world, reports) = (
            Arc::clone(&self.planner),
            self.world.clone(),
            self.reports.clone(),
        );
        let hooks_due = std::mem::take(&mut self.hooks_due);
        let bases = self.live.bases();
        let work = async move {
            let stack = tokio::task::spawn_blocking(move || stack::read(&file, profile.as_deref()));
            let stack = Arc::new(
                stack
                    .await
                    .map_err(|error| Failure::failed("cannot read stack.yaml").because(error))??,
            );
            if hooks_due {
                hooks::run(&stack, &stack.hooks.before_build, "beforeBuild").await?;
            }
            let (forwards, synced) = (reports.clone(), reports.clone());
            let connect = async {
                match world {
                    Some(world) => {
                        if hooks_due {
                            world.look_around().await;
                        }
                        Ok(world)
                    }
                    None => {
                        let changed = move |change| drop(forwards.send(Report::Forwards(change)));
                        let said = move |said| drop(synced.send(Report::Synced(said)));
                        World::connect(&stack, &state, &bus, Box::new(changed), Box::new(said))
                            .await
                            .map(Arc::new)
                    }
                }
            };
            let (world, mut prepared) = tokio::try_join!(
                connect,
                prepare::prepare(Arc::clone(&stack), planner, &state, Some(bases))
            )?;
            prepared.settle_in(&world.facts(), &world.cluster.choice)?;
            Ok((world, Arc::new(prepared)))
        };
        let (cancel, reports) = (self.preparing.clone(), self.reports.clone());
        tokio::spawn(async move {
            let Some(result) = cancel.run_until_cancelled(work).await else {
                return;
            };
            let _ = reports.send(match result {
                Ok((world, prepared)) => Report::Prepared {
                    run,
                    prepared,
                    world,
                },
                Err(failure) => Report::Input(Box::new(Input::Prepared {
                    run,
                    result: Err(failure),
                })),
            });
        });
    }

    async fn prepared(&mut self, run: u64, prepared: Arc<Prepared>, world: Arc<World>) {
        if self.world.is_none() {
            self.connect.send_replace(Some(Arc::clone(&world)));
            self.views = Some(world.views.clone());
            self.world = Some(Arc::clone(&world));
        }
        self.current = Some(Arc::clone(&prepared));
        let notes = &prepared.rendered.notes;
        if self.said.as_ref() != Some(notes) {
            notes
                .iter()
                .for_each(|note| self.bus.note(Level::Warning, None, note));
            self.said = Some(notes.clone());
        }
        if let Some(watcher) = &mut self.watching {
            watcher.follow(&prepared);
        }
        self.live.prepared(&prepared, &world);
        self.give(Input::Prepared {
            run,
            result: Ok(prepared.targets()),
        });
        self.forward(&prepared.stack, &world).await;
    }

    /// Listens before anything is ready: whoever connects waits instead of being refused.
    async fn forward(&self, stack: &Stack, world: &World) {
        let each = |service: &stack::Service| {
            let name = service.name.clone();
            service
                .forwards
                .iter()
                .map(move |forward| (name.clone(), forward.clone()))
                .collect::<Vec<_>>()
        };
        for outcome in world
            .forwards
            .set(stack.services.iter().flat_map(each).collect())
            .await
        {
            if let Some(failure) = outcome.failure {
                self.bus
                    .note(Level::Warning, Some(&outcome.service), failure.line());
            }
        }
    }

    fn groundwork(&self, run: u64) {
        let Some((world, prepared)) = self.world.clone().zip(self.current.clone()) else {
            return;
        };
        let (reports, bus, conflicts) = (self.reports.clone(), self.bus.clone(), self.conflicts);
        tokio::spawn(async move {
            let result = stages::groundwork(&world, &prepared, &bus, conflicts).await;
            let _ = reports.send(Report::Input(Box::new(Input::Grounded { run, result })));
        });
    }

    fn stage(&mut self, service: String, generation: u64, stage: Stage) {
        let Some((world, prepared)) = self.world.clone().zip(self.current.clone()) else {
            return;
        };
        let Some(id) = prepared.stack.find(&service) else {
            return;
        };
        let cancel = CancellationToken::new();
        self.stages.insert(service.clone(), cancel.clone());
        let reports = self.reports.clone();
        let say = {
            let (service, reports) = (service.clone(), reports.clone());
            move |line: String| {
                drop(reports.send(Report::Says {
                    service: service.clone(),
                    generation,
                    line,
                }))
            }
        };
        let context = stages::Context {
            world,
            prepared,
            state: self.state.clone(),
            bus: self.bus.clone(),
            conflicts: self.conflicts,
            service: id,
            cancel,
            say: Box::new(say),
        };
        tokio::spawn(async move {
            let began = Instant::now();
            let report = run_stage(&context, service.clone(), generation, stage).await;
            if context.cancel.is_cancelled() {
                return;
            }
            let _ = reports.send(Report::Took {
                service,
                stage: stage.name(),
                time: began.elapsed(),
            });
            let _ = reports.send(report);
        });
    }

    fn prune(&self, run: u64) {
        let Some((world, prepared)) = self.world.clone().zip(self.current.clone()) else {
            return;
        };
        let (reports, bus) = (self.reports.clone(), self.bus.clone());
        tokio::spawn(async move {
            let result = world.applier.prune(&prepared.rendered).await.map(|gone| {
                gone.notes
                    .iter()
                    .for_each(|note| bus.note(Level::Warning, None, note));
                gone.deleted.iter().for_each(|object| {
                    bus.note(
                        Level::Info,
                        None,
                        format!("removed {object}: the stack no longer has it"),
                    )
                });
            });
            let _ = reports.send(Report::Input(Box::new(Input::Pruned { run, result })));
        });
    }

    /// Tells whoever waits how it came out; what failed is looked into first.
    fn settled(&mut self) {
        let (rows, failure) = (self.machine.rows(), self.machine.failure().cloned());
        if let Some(failure) = failure.as_ref().filter(|_| self.waiting.is_empty()) {
            self.say_failure(failure);
        }
        let (world, reports, current) = (
            self.world.clone(),
            self.reports.clone(),
            self.current.clone(),
        );
        let (leave, state, bus) = (
            self.rest.begin(Instant::now()),
            self.state.clone(),
            self.bus.clone(),
        );
        tokio::spawn(async move {
            let mut end = settle::outcome(failure, &rows, world.as_deref()).await;
            if let (None, Some(current)) = (&end, &current) {
                end = hooks::run(
                    &current.stack,
                    &current.stack.hooks.after_ready,
                    "afterReady",
                )
                .await
                .err();
            }
            let well = end.is_none();
            let _ = reports.send(Report::Ended(end));
            if let (true, Some(world), Some(current)) = (well, world, current) {
                leave.take(&world, &current, &state, &bus).await;
            }
        });
    }

    /// Nobody waits, as after an edit: it is said to whoever looks.
    fn say_failure(&self, failure: &Failure) {
        if failure.kind == Kind::Interrupted {
            return;
        }
        // The first mistake of a file, with its place; `status` has them all.
        let mistake = failure
            .detail
            .first()
            .filter(|_| failure.kind == Kind::Config);
        self.bus.note(
            Level::Error,
            None,
            mistake.cloned().unwrap_or_else(|| failure.line()),
        );
    }

    fn restart(&mut self, services: BTreeSet<String>, reply: Reply) {
        let Some(world) = self.world.clone() else {
            let _ = reply.send(Some(super::world::not_connected()));
            return;
        };
        let reports = self.reports.clone();
        self.waiting.push(reply);
        tokio::spawn(async move {
            for service in services {
                if let Err(failure) = world.applier.restart(&service).await {
                    let _ = reports.send(Report::Ended(Some(failure)));
                    return;
                }
            }
            // Applied anew, so that what is to become ready is the new pods.
            let _ = reports.send(Report::Input(Box::new(Input::Up(BTreeSet::new()))));
        });
    }

    async fn down(&mut self, volumes: bool, reply: Reply) -> bool {
        self.watching = None;
        self.rest.end();
        self.preparing.cancel();
        self.give(Input::Halt);
        self.views = None;
        self.live.clear();
        self.connect.send_replace(None);
        let removed = match self.world.take() {
            Some(world) => {
                let _ = world.forwards.set(Vec::new()).await;
                let bus = self.bus.clone();
                let say = move |progress: Progress| super::remove::say(&bus, &progress);
                world
                    .applier
                    .remove(volumes, &say)
                    .await
                    .map(|removed| removed.notes)
            }
            None => match stack::read(&self.file, self.profile.as_deref()) {
                Ok(stack) => super::remove::without_daemon(&stack, &self.state, volumes).await,
                Err(failure) => Err(failure),
            },
        };
        let failure = match removed {
            Ok(lines) => {
                lines
                    .into_iter()
                    .for_each(|line| self.bus.note(Level::Info, None, line));
                None
            }
            Err(failure) => Some(failure),
        };
        let end = failure.is_none();
        let stopped = Failure::new(Kind::Interrupted, "stopped by `llmdev down`");
        self.waiting
            .drain(..)
            .for_each(|reply| drop(reply.send(Some(stopped.clone()))));
        let _ = reply.send(failure);
        end
    }

    fn watch(&mut self, on: bool) {
        if !on {
            self.watching = None;
        } else if self.watching.is_none() {
            let mut watcher = Watcher::new(&self.file, self.bus.clone());
            if let Some(current) = &self.current {
                watcher.follow(current);
            }
            self.watching = Some(watcher);
        }
    }

    /// What costs little is done at once; all else waits until no more changes.
    fn files_changed(&mut self, change: Change) {
        let looks = self
            .current
            .as_ref()
            .filter(|_| !self.machine.is_preparing());
        let look = looks.and_then(|current| self.live.look(&change, current, &self.planner));
        match look {
            Some(look) => {
                let reports = self.reports.clone();
                tokio::task::spawn_blocking(move || drop(reports.send(Report::Looked(look()))));
            }
            None => self.read_again(change),
        }
    }

    fn looked(&mut self, looked: Looked) {
        let Some(world) = self.world.clone().filter(|_| !self.machine.is_preparing()) else {
            return;
        };
        let rows = self.machine.rows();
        let ready = |service: &str, image: &str| {
            let row = rows.iter().find(|row| row.name == service);
            row.is_some_and(|row| row.applied && row.image.as_deref() == Some(image))
        };
        let watching = &mut self.watching;
        let follow = |plan: &crate::build::ImagePlan| {
            if let Some(watcher) = watching {
                watcher.follow_context(&plan.context);
            }
        };
        if let Then::Prepare(change) = self.live.looked(looked, &world, ready, follow) {
            self.read_again(change);
        }
    }

    fn read_again(&mut self, change: Change) {
        match &self.watching {
            Some(watcher) if !change.settled => watcher.later(change),
            _ => {
                self.live.since(change.since);
                self.give(Input::Changed);
            }
        }
    }

    fn synced(&mut self, said: Said) {
        match said {
            Said::Synced {
                service,
                line,
                time,
            } => {
                self.bus.note(Level::Info, Some(&service), line);
                self.took(&service, "sync", time);
            }
            Said::Output { service, line } => self.bus.note(Level::Info, Some(&service), line),
            Said::Refused { service, dest, why } => {
                if self.live.refuse(&service, dest) {
                    let line = format!("cannot be synced, so that its image is built: {why}");
                    self.bus.note(Level::Warning, Some(&service), line);
                    self.give(Input::Changed);
                }
            }
        }
    }

    fn sync(&self, service: &str, reply: Reply) {
        let (Some(world), Some(current)) = (&self.world, &self.current) else {
            let _ = reply.send(Some(super::world::not_connected()));
            return;
        };
        match self.live.all_of(&current.stack, service) {
            Some(wanted) => world.keeper.anew(Arc::new(wanted), reply),
            None => {
                let failure = Failure::usage(format!("{service} has nothing that is synced"))
                    .remedy("`sync` of the service in stack.yaml says what is; llmdev up SERVICE builds it");
                let _ = reply.send(Some(failure));
            }
        }
    }

    /// Tells the machine what the cluster says of each service that is applied, where that is news.
    fn look(&mut self) {
        let Some(views) = &mut self.views else { return };
        let view = Arc::clone(&views.borrow_and_update());
        self.say_reachable(view.unreachable.as_deref());
        let now = k8s_openapi::jiff::Timestamp::now();
        let (mut news, mut old_pods) = (Vec::new(), Vec::new());
        for (service, (target, told)) in &mut self.applied {
            let mut readiness = ready::readiness(&view, target, now);
            if matches!(readiness, Readiness::Failed(_))
                && let Some(old) = OldPod::of(&view, target, now)
            {
                readiness = Readiness::waiting(old.reason());
                old_pods.push((service.clone(), old));
            }
            if told.as_ref() != Some(&readiness) {
                *told = Some(readiness.clone());
                news.push((service.clone(), readiness));
            }
        }
        for (service, old) in old_pods {
            self.replace(service, old);
        }
        for (service, readiness) in news {
            if readiness == Readiness::Ready {
                let began = self
                    .extra
                    .get_mut(&service)
                    .and_then(|extra| extra.starting.take());
                if let Some(began) = began {
                    self.took(&service, "start", began.elapsed());
                }
            }
            self.give(Input::Readiness { service, readiness });
        }
    }

    /// Deletes a pod that is in its successor's way, once.
    fn replace(&mut self, service: String, old: OldPod) {
        let Some(world) = self.world.clone() else {
            return;
        };
        if !self.replaced.insert(old.uid.clone()) {
            return;
        }
        let bus = self.bus.clone();
        tokio::spawn(async move {
            match old.delete(world.cluster.client.clone()).await {
                Ok(()) => bus.note(Level::Warning, Some(&service), old.note()),
                Err(error) => {
                    let failure = Failure::failed(old.reason()).because(error);
                    bus.note(Level::Error, Some(&service), failure.line());
                }
            }
        });
    }

    fn say_reachable(&mut self, unreachable: Option<&str>) {
        match unreachable {
            Some(why) if !self.said_unreachable => {
                self.bus.note(
                    Level::Warning,
                    None,
                    format!("the cluster does not answer ({why}); trying again"),
                );
            }
            None if self.said_unreachable => {
                self.bus
                    .note(Level::Info, None, "the cluster answers again")
            }
            _ => {}
        }
        self.said_unreachable = unreachable.is_some();
    }

    fn took(&mut self, service: &str, stage: &str, time: Duration) {
        let timings = &mut self.extra.entry(service.to_owned()).or_default().timings;
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match timings.iter_mut().find(|one| one.stage == stage) {
            Some(timing) => timing.ms = ms,
            None => timings.push(Timing {
                stage: stage.to_owned(),
                ms,
            }),
        }
    }

    /// Tells subscribers of every row that has changed.
    fn show(&self) {
        let Some(current) = &self.current else { return };
        let rows: Vec<_> = self
            .machine
            .rows()
            .into_iter()
            .map(|row| self.row(row))
            .collect();
        let before = self.bus.status();
        let same = before
            .services
            .iter()
            .map(|one| &one.name)
            .eq(rows.iter().map(|one| &one.name));
        let cluster = self
            .world
            .as_ref()
            .map(|world| world.cluster.choice.context.clone());
        let watching = self.watching.is_some();
        let failure = self.machine.failure();
        let failure = failure.filter(|one| one.kind != Kind::Interrupted).cloned();
        let same = same && before.watching == watching && before.failure == failure;
        if same && before.cluster == cluster {
            rows.into_iter().for_each(|row| self.bus.service(row));
        } else {
            self.bus.snapshot(Status {
                stack: current.stack.name.clone(),
                cluster,
                services: rows,
                watching,
                failure,
            });
        }
    }

    fn row(&self, row: Row) -> ServiceStatus {
        let mut status = rows::blank(&row.name);
        let extra = self.extra.get(&row.name);
        status.phase = row.phase;
        status.since = self.began.1 + row.since.saturating_duration_since(self.began.0);
        status.timings = extra.map(|extra| extra.timings.clone()).unwrap_or_default();
        status.failure = row.failure;
        status.image = row.image;
        status.reason = match row.phase {
            Phase::Building => extra.and_then(|extra| extra.line.clone()),
            _ => row.reason,
        };
        if let Some(world) = &self.world {
            let view = world.views.borrow();
            status.pods = rows::pods(&view, &row.name);
            status.ready = ready::serving(&view, &row.name) || row.phase == Phase::Ready;
            status.forwards = world
                .forwards
                .status()
                .remove(&row.name)
                .unwrap_or_default();
        }
        status
    }
}

async fn run_stage(
    context: &stages::Context,
    service: String,
    generation: u64,
    stage: Stage,
) -> Report {
    let done = |result| {
        Report::Input(Box::new(Input::Done {
            service: service.clone(),
            generation,
            stage,
            result,
        }))
    };
    match stage {
        Stage::Build => match stages::build(context).await {
            Ok(Built::Yes) => done(Ok(())),
            Ok(Built::Changed) => Report::Changed,
            Ok(Built::Gone) => Report::Gone(service.clone()),
            Err(failure) => done(Err(failure)),
        },
        Stage::Load => done(stages::load(context).await),
        Stage::Apply => match stages::apply(context).await {
            Ok(target) => Report::Applied {
                service,
                generation,
                target,
                prepared: Arc::clone(&context.prepared),
            },
            Err(failure) => done(Err(failure)),
        },
    }
}

async fn changed(views: &mut Option<Views>) {
    match views {
        Some(views) => {
            if views.changed().await.is_err() {
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
