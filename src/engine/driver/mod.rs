//! Does what the machine decides: one task that owns the state, and one task an effect that is under way.

mod changes;
mod effects;
mod looks;
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::apply::Conflicts;
use crate::build::Planner;
use crate::build::heard::Heard;
use crate::error::Failure;
use crate::event::{Level, Status, Timing};
use crate::forward::ForwardChange;
use crate::ready::{self, Readiness};
use crate::stack::{self, Stack};
use crate::state::State;
use crate::sync::Said;
use crate::view::Views;
use crate::watch::Watcher;

use super::bus::Bus;
use super::live::{Live, Looked};
use super::machine::{Effect, Input, Machine, Stage};
use super::prepare::Prepared;
use super::rest::Rest;
use super::world::World;

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
        unreachable: None,
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
    let planner = Planner::load(&state.digests());
    let driver = Driver {
        heard: planner.heard(),
        planner: Arc::new(Mutex::new(planner)),
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
        connection: Arc::default(),
        applied: BTreeMap::new(),
        replaced: BTreeSet::new(),
        extra: BTreeMap::new(),
        waiting: Vec::new(),
        watching: None,
        began: (Instant::now(), Utc::now()),
        unreachable: None,
        hooks_due: false,
        look_due: false,
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
    /// Where the planner hears of changes.
    heard: Arc<Heard>,
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
    /// Held by whoever connects to the cluster, so that nobody starts it twice.
    connection: Arc<tokio::sync::Mutex<()>>,
    /// What was applied for each service, and what the machine was last told of it.
    applied: BTreeMap<String, (ready::Target, Option<Readiness>)>,
    /// Pods of older versions that were told to go, by uid.
    replaced: BTreeSet<String>,
    extra: BTreeMap<String, Extra>,
    waiting: Vec<Reply>,
    watching: Option<Watcher>,
    /// One moment on both clocks.
    began: (Instant, DateTime<Utc>),
    unreachable: Option<String>,
    hooks_due: bool,
    /// Somebody asked for `up` since the cluster was looked at.
    look_due: bool,
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
                (self.hooks_due, self.look_due) = (true, true);
                self.said = None;
                self.rest.asked();
                self.watch(watch);
                // Whoever asks gets an answer from the files themselves.
                self.heard.hear([]);
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
            } => {
                self.took(&service, stage, time);
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

    async fn prepared(&mut self, run: u64, prepared: Arc<Prepared>, world: Arc<World>) {
        if self.world.is_none() {
            self.connect.send_replace(Some(Arc::clone(&world)));
            self.views = Some(world.views.clone());
            self.world = Some(Arc::clone(&world));
        }
        self.look_due = false;
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
        // What is wrong with one is announced with its change.
        let wanted = stack.services.iter().flat_map(each).collect();
        world.forwards.set(wanted).await;
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
