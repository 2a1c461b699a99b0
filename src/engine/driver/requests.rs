//! What clients ask for, beyond `up`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Driver, Reply, Report};
use crate::apply::Progress;
use crate::engine::machine::Input;
use crate::engine::{remove, world};
use crate::error::{Failure, Kind};
use crate::event::Level;
use crate::stack;
use crate::watch::Watcher;

impl Driver {
    pub(super) fn restart(&mut self, services: BTreeSet<String>, reply: Reply) {
        let Some(world) = self.world.clone() else {
            let _ = reply.send(Some(world::not_connected()));
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

    pub(super) async fn down(&mut self, volumes: bool, reply: Reply) -> bool {
        self.watch(false);
        self.rest.end();
        self.preparing.cancel();
        self.give(Input::Halt);
        self.views = None;
        self.live.clear();
        self.connect.send_replace(None);
        let removed = match self.world.take() {
            Some(world) => {
                world.forwards.set(Vec::new()).await;
                let bus = self.bus.clone();
                let say = move |progress: Progress| remove::say(&bus, &progress);
                world
                    .applier
                    .remove(volumes, &say)
                    .await
                    .map(|removed| removed.notes)
            }
            None => match stack::read(&self.file, self.profile.as_deref()) {
                Ok(stack) => remove::without_daemon(&stack, &self.state, volumes).await,
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

    pub(super) fn watch(&mut self, on: bool) {
        if on != self.watching.is_some() {
            self.heard.listen(on);
        }
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

    pub(super) fn sync(&self, service: &str, reply: Reply) {
        let (Some(world), Some(current)) = (&self.world, &self.current) else {
            let _ = reply.send(Some(world::not_connected()));
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
}
