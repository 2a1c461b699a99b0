//! What the machine decides, done: each effect is a task that reports back.

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Driver, Report};
use crate::cluster::node::interrupted;
use crate::cluster::{self, registry};
use crate::engine::machine::{Input, Stage};
use crate::engine::stages::Built;
use crate::engine::world::World;
use crate::engine::{hooks, prepare, settle, stages};
use crate::error::{Failure, Kind, Result};
use crate::event::Level;
use crate::stack::{self, Stack};

impl Driver {
    pub(super) fn prepare(&mut self, run: u64) {
        self.rest.end();
        self.preparing.cancel();
        self.preparing = CancellationToken::new();
        let (file, profile, state) = (self.file.clone(), self.profile.clone(), self.state.clone());
        let (planner, known) = (Arc::clone(&self.planner), self.world.clone());
        // A change may cut this preparation short: another one looks at the cluster then, but runs no hook twice.
        let (hooks_due, look_due) = (std::mem::take(&mut self.hooks_due), self.look_due);
        let connect = self.connecting();
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
            let prepare = |registry| {
                let (stack, planner) = (Arc::clone(&stack), Arc::clone(&planner));
                prepare::prepare(stack, planner, &state, Some(bases.clone()), registry)
            };
            let likely = match known {
                Some(world) => world.registry(&stack.cluster),
                None => registry::choose(stack.cluster.registry.as_deref(), true, None),
            };
            let connect = connect(Arc::clone(&stack), look_due);
            let (world, mut prepared) = tokio::try_join!(connect, prepare(likely))?;
            // Only the cluster knows what it announces, and images have that name.
            let registry = world.registry(&stack.cluster);
            if prepared.registry != registry {
                prepared = prepare(registry).await?;
            }
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

    /// Connects to the cluster, which may have to be made or started before. That is not given up when a file changes or
    /// a run is stopped, for half of a cluster helps nobody: who comes meanwhile waits for it.
    fn connecting(
        &self,
    ) -> impl FnOnce(Arc<Stack>, bool) -> BoxFuture<'static, Result<Arc<World>>> + use<> {
        let (world, state, bus) = (self.world.clone(), self.state.clone(), self.bus.clone());
        let (forwards, synced) = (self.reports.clone(), self.reports.clone());
        let (turn, cancel) = (Arc::clone(&self.connection), self.preparing.clone());
        move |stack, asked| {
            let work = async move {
                let turn = cancel.run_until_cancelled(turn.lock_owned()).await;
                let _turn = turn.ok_or_else(interrupted)?;
                if let Some(world) = world {
                    if asked {
                        let say = |line: String| bus.note(Level::Info, None, line);
                        cluster::wake(&world.cluster, &stack.cluster, &say).await?;
                        world.look_around().await;
                    }
                    return Ok(world);
                }
                let changed = move |change| drop(forwards.send(Report::Forwards(change)));
                let said = move |said| drop(synced.send(Report::Synced(said)));
                World::connect(&stack, &state, &bus, Box::new(changed), Box::new(said))
                    .await
                    .map(Arc::new)
            };
            let work = tokio::spawn(work);
            let failed = |error| Failure::failed("cannot connect to the cluster").because(error);
            Box::pin(async move { work.await.map_err(failed)? })
        }
    }

    pub(super) fn groundwork(&self, run: u64) {
        let Some((world, prepared)) = self.world.clone().zip(self.current.clone()) else {
            return;
        };
        let (reports, bus, conflicts) = (self.reports.clone(), self.bus.clone(), self.conflicts);
        tokio::spawn(async move {
            let result = stages::groundwork(&world, &prepared, &bus, conflicts).await;
            let _ = reports.send(Report::Input(Box::new(Input::Grounded { run, result })));
        });
    }

    pub(super) fn stage(&mut self, service: String, generation: u64, stage: Stage) {
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
                let says = Input::Says {
                    service: service.clone(),
                    generation,
                    line,
                };
                drop(reports.send(Report::Input(Box::new(says))))
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

    pub(super) fn prune(&self, run: u64) {
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
    pub(super) fn settled(&mut self) {
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
    pub(super) fn say_failure(&self, failure: &Failure) {
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
