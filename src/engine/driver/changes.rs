//! Changed files: what goes into running containers, and what makes all be read again.

use super::{Driver, Report};
use crate::engine::live::{Looked, Then};
use crate::engine::machine::Input;
use crate::event::Level;
use crate::sync::Said;
use crate::watch::Change;

impl Driver {
    /// What costs little is done at once; all else waits until no more changes.
    pub(super) fn files_changed(&mut self, change: Change) {
        self.heard.hear(&change.paths);
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

    pub(super) fn looked(&mut self, looked: Looked) {
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

    pub(super) fn read_again(&mut self, change: Change) {
        match &self.watching {
            Some(watcher) if !change.settled => watcher.later(change),
            _ => {
                self.live.since(change.since);
                self.give(Input::Changed);
            }
        }
    }

    pub(super) fn synced(&mut self, said: Said) {
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
}
