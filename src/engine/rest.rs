//! What is done when all is ready and nobody waits: room is made on a full disk, and Docker learns new layers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::cluster::load::Loader;
use crate::cluster::node::interrupted;
use crate::error::Result;
use crate::event::Level;
use crate::prune::{self, KEEP, Wish};
use crate::state::State;

use super::bus::Bus;
use super::prepare::Prepared;
use super::world::World;

/// How often disks are looked at while one edit follows the other.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// On a busy machine a look at a node may fail, and the next rest may be far.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// Whoever saved saves again.
const QUIET: Duration = Duration::from_secs(10);

/// Whoever waited for `up` begins to use the stack, whose programs are busy themselves at first.
const QUIET_AFTER_UP: Duration = Duration::from_secs(30);

/// The driver's part: begins it, and ends it when there is something else to do.
#[derive(Default)]
pub struct Rest {
    /// Ends what is under way.
    end: CancellationToken,
    looked: Looked,
    /// Somebody asked for `up`, and all is yet to settle.
    asked: bool,
    /// Docker learns nothing before.
    not_before: Option<Instant>,
}

/// When all disks were last looked at, to the end: a look that was cut short does not count.
type Looked = Arc<Mutex<Option<Instant>>>;

/// One time of rest.
pub struct Leave {
    end: CancellationToken,
    /// To be noted in, where disks are to be looked at.
    look: Option<Looked>,
    /// Docker learns nothing before.
    not_before: Instant,
}

impl Rest {
    /// Somebody asked for `up`: the disks are looked at however short ago they were, and Docker learns later.
    pub fn asked(&mut self) {
        self.asked = true;
        *self.looked.lock().unwrap() = None;
    }

    /// There is something else to do.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// All has settled.
    pub fn begin(&mut self, now: Instant) -> Leave {
        self.end.cancel();
        self.end = CancellationToken::new();
        let recent = |before| now.saturating_duration_since(before) < LOOK_AGAIN;
        let look = !self.looked.lock().unwrap().is_some_and(recent);
        if std::mem::take(&mut self.asked) {
            self.not_before = Some(now + QUIET_AFTER_UP);
        }
        Leave {
            end: self.end.clone(),
            look: look.then(|| Arc::clone(&self.looked)),
            not_before: self.not_before.unwrap_or(now).max(now + QUIET),
        }
    }
}

impl Leave {
    /// Takes the time. Nothing of it is needed, so what fails is only logged.
    pub async fn take(self, world: &World, prepared: &Prepared, state: &State, bus: &Bus) {
        let Some(loader) = &world.loader else { return };
        if let Some(looked) = &self.look {
            let look = || make_room(world, loader, prepared, state, &self.end);
            self.look(looked, look, bus).await;
        }
        let quiet = self.not_before.saturating_duration_since(Instant::now());
        if !self.lasts(quiet).await {
            return;
        }
        while machine_is_busy() {
            if !self.lasts(QUIET).await {
                return;
            }
        }
        match loader.warm(&self.end).await {
            Ok(bytes) => tracing::debug!(bytes, "what Docker knows of its layers has grown"),
            Err(failure) => tracing::debug!(%failure, "Docker was not warmed"),
        }
    }

    /// Looks at the disks, again where a look fails.
    async fn look<F>(&self, looked: &Looked, look: impl Fn() -> F, bus: &Bus)
    where
        F: Future<Output = Result<Option<String>>>,
    {
        for _ in 0..TRIES {
            match look().await {
                Ok(line) => {
                    *looked.lock().unwrap() = Some(Instant::now());
                    if let Some(line) = line {
                        bus.note(Level::Info, None, line);
                    }
                    return;
                }
                Err(failure) => tracing::debug!(%failure, "no room was made"),
            }
            if !self.lasts(PAUSE).await {
                return;
            }
        }
    }

    /// Whether it goes on for so long.
    async fn lasts(&self, time: Duration) -> bool {
        let slept = self.end.run_until_cancelled(tokio::time::sleep(time));
        slept.await.is_some()
    }
}

/// Learning takes a core for seconds, which is in the way of whatever else runs here.
fn machine_is_busy() -> bool {
    // Elsewhere than on Linux Docker is in a machine of its own.
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    std::thread::available_parallelism().is_ok_and(|processors| is_busy(&load, processors.get()))
}

/// Whether programs waited for a processor in the last minute, as `/proc/loadavg` says.
fn is_busy(load: &str, processors: usize) -> bool {
    let average = load.split(' ').next().and_then(|it| it.parse::<f64>().ok());
    average.is_some_and(|average| average > processors as f64)
}

/// Prunes if a node's disk is full; what was done. It is interrupted by whatever begins meanwhile, for that goes first.
async fn make_room(
    world: &World,
    loader: &Loader,
    prepared: &Prepared,
    state: &State,
    cancel: &CancellationToken,
) -> Result<Option<String>> {
    let disks = loader.disks(cancel).await?;
    let Some(disk) = prune::fullest(&disks) else {
        return Ok(None);
    };
    let Ok(_alone) = world.images.try_write() else {
        return Err(interrupted());
    };
    let mut needed: BTreeSet<String> = prune::needed(&prepared.plans, &prepared.stack, state);
    needed.extend(
        prepared
            .synced
            .values()
            .map(|synced| synced.plan.reference.clone()),
    );
    let wish = Wish {
        stack: prepared.stack.name.clone(),
        registry: prepared.registry.as_ref().map(|it| it.pull.clone()),
        keep: KEEP,
        needed,
        dry_run: false,
    };
    let pruned = prune::prune(&world.docker, Some(loader), &wish, cancel).await?;
    if pruned.removed.is_empty() && cancel.is_cancelled() {
        return Err(interrupted());
    }
    let line = format!("{}: {}", full(disk), pruned.line());
    Ok((!pruned.removed.is_empty()).then_some(line))
}

fn full(disk: &crate::cluster::load::prune::Disk) -> String {
    format!(
        "the disk of node {} is {} % full",
        disk.node,
        prune::used_percent(disk)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_looked_at_when_asked_and_then_seldom() {
        let (mut rest, now) = (Rest::default(), Instant::now());
        let first = rest.begin(now);
        let cut_short = rest.begin(now);
        assert!(first.end.is_cancelled(), "one rest at a time");
        let looked = cut_short.look.expect("the first was cut short");
        *looked.lock().unwrap() = Some(now);
        let mut looks = |seconds| {
            rest.begin(now + Duration::from_secs(seconds))
                .look
                .is_some()
        };
        assert!(!looks(299) && looks(300));
        rest.asked();
        let leave = rest.begin(now + Duration::from_secs(1));
        assert!(leave.look.is_some() && !leave.end.is_cancelled());
        rest.end();
        assert!(leave.end.is_cancelled());
    }

    #[test]
    fn a_machine_is_busy_when_programs_wait_for_a_processor() {
        assert!(is_busy("2.01 1.50 0.90 3/812 4242", 2));
        assert!(!is_busy("2.00 7.50 9.90 1/812 4242", 2));
        assert!(!is_busy("", 2), "there is no such file");
    }

    #[test]
    fn docker_learns_when_it_has_been_quiet_and_longer_after_up() {
        let (mut rest, now) = (Rest::default(), Instant::now());
        let waits = |rest: &mut Rest, seconds| {
            let begun = now + Duration::from_secs(seconds);
            (rest.begin(begun).not_before - begun).as_secs()
        };
        assert_eq!(waits(&mut rest, 0), 10);
        rest.asked();
        assert_eq!(waits(&mut rest, 100), 30);
        assert_eq!(waits(&mut rest, 115), 15, "an edit soon after up");
        assert_eq!(waits(&mut rest, 200), 10, "an edit");
    }
}
