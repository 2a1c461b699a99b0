//! What the cluster says, told to the machine; and what the machine says, told to whoever looks.

use std::sync::Arc;
use std::time::Duration;

use super::Driver;
use crate::engine::machine::{Input, Row};
use crate::engine::old_pod::OldPod;
use crate::engine::rows;
use crate::error::{Failure, Kind};
use crate::event::{Level, Phase, ServiceStatus, Status, Timing};
use crate::ready;
use crate::ready::Readiness;
use crate::view::View;

impl Driver {
    /// Tells the machine what the cluster says of each service that is applied, where that is news.
    pub(super) fn look(&mut self) {
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
                    self.started(&service, &view, began.elapsed());
                }
            }
            self.give(Input::Readiness { service, readiness });
        }
    }

    /// A service that was applied so long ago has become ready.
    fn started(&mut self, service: &str, view: &View, time: Duration) {
        let stack = self.current.as_ref().map(|current| &current.stack);
        let id = stack.and_then(|stack| stack.find(service));
        let fast = stack
            .zip(id)
            .is_some_and(|(stack, id)| stack.service(id).fast_rollout);
        // Kubernetes may have made the pod before it answered.
        let applying = self.took_last(service, "apply");
        let applied = k8s_openapi::jiff::Timestamp::now() - (time + applying);
        let held = self
            .applied
            .get(service)
            .and_then(|(target, _)| ready::held(view, target, applied))
            .map(|held| match fast {
                true => held,
                false => format!("{held}; `dev: {{fastRollout: true}}` shortens that"),
            });
        self.took(service, "start", time).held = held;
    }

    /// Deletes a pod that is in its successor's way, once.
    pub(super) fn replace(&mut self, service: String, old: OldPod) {
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

    pub(super) fn say_reachable(&mut self, unreachable: Option<&str>) {
        match unreachable {
            Some(why) if self.unreachable.is_none() => {
                self.bus.note(
                    Level::Warning,
                    None,
                    format!("the cluster does not answer ({why}); trying again"),
                );
            }
            None if self.unreachable.is_some() => {
                self.bus
                    .note(Level::Info, None, "the cluster answers again")
            }
            _ => {}
        }
        self.unreachable = unreachable.map(str::to_owned);
    }

    fn took_last(&self, service: &str, stage: &str) -> Duration {
        let extra = self.extra.get(service).into_iter();
        let mut timings = extra.flat_map(|extra| &extra.timings);
        let last = timings.find(|timing| timing.stage == stage);
        Duration::from_millis(last.map_or(0, |timing| timing.ms))
    }

    pub(super) fn took(&mut self, service: &str, stage: &str, time: Duration) -> &mut Timing {
        let timings = &mut self.extra.entry(service.to_owned()).or_default().timings;
        let timing = Timing {
            stage: stage.to_owned(),
            ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            held: None,
        };
        let known = timings.iter().position(|one| one.stage == stage);
        match known {
            Some(at) => timings[at] = timing,
            None => timings.push(timing),
        }
        let at = known.unwrap_or(timings.len() - 1);
        &mut timings[at]
    }

    /// Tells subscribers of every row that has changed.
    pub(super) fn show(&self) {
        let failure = self.machine.failure();
        let failure = failure.filter(|one| one.kind != Kind::Interrupted).cloned();
        let watching = self.watching.is_some();
        let Some(current) = &self.current else {
            // Nothing was read yet, or the cluster was not reached.
            let status = self.bus.status();
            return self.bus.snapshot(Status {
                watching,
                failure,
                ..status
            });
        };
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
        let same = same && before.watching == watching && before.failure == failure;
        let same = same && before.unreachable == self.unreachable;
        if same && before.cluster == cluster {
            rows.into_iter().for_each(|row| self.bus.service(row));
        } else {
            self.bus.snapshot(Status {
                stack: current.stack.name.clone(),
                cluster,
                services: rows,
                watching,
                unreachable: self.unreachable.clone(),
                failure,
            });
        }
    }

    pub(super) fn row(&self, row: Row) -> ServiceStatus {
        let mut status = rows::blank(&row.name);
        let extra = self.extra.get(&row.name);
        status.phase = row.phase;
        status.since = self.began.1 + row.since.saturating_duration_since(self.began.0);
        status.timings = extra.map(|extra| extra.timings.clone()).unwrap_or_default();
        status.failure = row.failure;
        status.image = row.image;
        status.reason = row.reason;
        status.waits_for = row.waits_for;
        if let Some(world) = &self.world {
            let view = world.views.borrow();
            status.pods = rows::pods(&view, &row.name);
            status.ready = ready::serving(&view, &row.name) || row.phase == Phase::Ready;
            let newest = self.applied.get(&row.name).filter(|_| row.current);
            let older = match newest {
                Some((target, _)) => ready::older_serves(&view, target),
                None => ready::serving(&view, &row.name),
            };
            status.older = older && row.phase != Phase::Ready;
            status.forwards = world
                .forwards
                .status()
                .remove(&row.name)
                .unwrap_or_default();
        }
        status
    }
}
