//! What is done when all is ready and nobody waits: room is made on a full disk, and Docker learns new layers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::cluster::load::Loader;
use crate::error::Result;
use crate::event::Level;
use crate::prune::{self, KEEP, Wish};
use crate::state::State;

use super::bus::Bus;
use super::prepare::Prepared;
use super::world::World;

/// How often disks are looked at while one edit follows the other.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// Docker compresses some 20 MiB a second: 10 GiB. What takes longer is never learnt.
const WARM_WITHIN: Duration = Duration::from_secs(600);

/// The driver's part: begins it, and ends it when there is something else to do.
#[derive(Default)]
pub struct Rest {
    /// Ends what is under way.
    end: CancellationToken,
    looked: Option<Instant>,
}

/// One time of rest.
pub struct Leave {
    end: CancellationToken,
    look: bool,
}

impl Rest {
    /// Somebody asked for `up`: the disks are looked at however short ago they were.
    pub fn asked(&mut self) {
        self.looked = None;
    }

    /// There is something else to do.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// All has settled.
    pub fn begin(&mut self, now: Instant) -> Leave {
        self.end.cancel();
        self.end = CancellationToken::new();
        let look = self
            .looked
            .is_none_or(|before| now.saturating_duration_since(before) >= LOOK_AGAIN);
        if look {
            self.looked = Some(now);
        }
        Leave {
            end: self.end.clone(),
            look,
        }
    }
}

impl Leave {
    /// Takes the time. Nothing of it is needed, so what fails is only logged.
    pub async fn take(self, world: &World, prepared: &Prepared, state: &State, bus: &Bus) {
        let Some(loader) = &world.loader else { return };
        if self.look {
            match make_room(world, loader, prepared, state, &self.end).await {
                Ok(Some(line)) => bus.note(Level::Info, None, line),
                Ok(None) => {}
                Err(failure) => tracing::debug!(%failure, "no room was made"),
            }
        }
        match tokio::time::timeout(WARM_WITHIN, loader.warm(&self.end)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::debug!(%failure, "Docker was not warmed"),
            Err(_) => tracing::debug!("Docker takes too long to learn its layers"),
        }
    }
}

/// Prunes if a node's disk is full; what was done.
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
    // What has begun meanwhile goes first.
    let Ok(_alone) = world.images.try_write() else {
        return Ok(None);
    };
    if cancel.is_cancelled() {
        return Ok(None);
    }
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
        assert!(rest.begin(now).look);
        let leave = rest.begin(now + Duration::from_secs(299));
        assert!(!leave.look);
        assert!(rest.begin(now + Duration::from_secs(300)).look);
        assert!(leave.end.is_cancelled(), "one rest at a time");
        rest.asked();
        let leave = rest.begin(now + Duration::from_secs(301));
        assert!(leave.look && !leave.end.is_cancelled());
        rest.end();
        assert!(leave.end.is_cancelled());
    }
}
