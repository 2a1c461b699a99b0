//! Old images that llmdev made for a stack, in Docker and in the nodes: which are not needed any more, and taking
//! those away.

mod choose;
mod disk;
mod docker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::cluster::load::Loader;
use crate::cluster::load::prune::NodeImage;
use crate::error::Result;
use crate::stack::{ServiceId, Stack};
use crate::state::State;
use crate::sync::base::Base;
use crate::{build, ui};

pub use disk::{FULL_PERCENT, LEAST_FREE, fullest, used_percent};

/// How many images a service keeps unless something else is said.
pub const KEEP: usize = 3;

/// What is to stay.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The stack's name.
    pub stack: String,
    /// The registry that its images are pulled from, if they are.
    pub registry: Option<String>,
    /// The newest images of each service, so many.
    pub keep: usize,
    /// References that stay whatever their age.
    pub needed: BTreeSet<String>,
    /// Say only what would go.
    pub dry_run: bool,
}

/// An image that went, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gone {
    /// The reference.
    pub image: String,
    /// Where it was: `Docker`, or nodes' names.
    pub places: Vec<String>,
}

/// What went from one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sum {
    /// References.
    pub images: usize,
    /// Bytes of the layers that went with them; none where that is not known.
    pub bytes: Option<u64>,
}

impl Default for Sum {
    fn default() -> Self {
        Sum {
            images: 0,
            bytes: Some(0),
        }
    }
}

/// What a prune did, or would do, as `llmdev prune -o json` prints it. Stable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Nothing was taken away.
    pub dry_run: bool,
    /// By name.
    pub removed: Vec<Gone>,
    /// In Docker.
    pub docker: Sum,
    /// Bytes of layers that Docker keeps for its build cache all the same.
    pub cached: u64,
    /// In all nodes together.
    pub nodes: Sum,
}

/// The references that a stack's files lead to now, and those that its containers were synced upon.
pub fn needed(
    plans: &BTreeMap<ServiceId, Arc<build::ImagePlan>>,
    stack: &Stack,
    state: &State,
) -> BTreeSet<String> {
    let planned = plans.values().map(|plan| plan.reference.clone());
    let services = stack.services.iter();
    let bases = services.filter_map(|service| Base::load(&state.bases().join(&service.name)));
    planned.chain(bases.map(|base| base.reference)).collect()
}

/// Takes old images away. Without a loader, those in Docker only.
///
/// An image stays that any container of Docker or of a node uses, in both. Cancelled between two images, it has taken
/// away what it has.
///
/// # Errors
/// When Docker or a node cannot be asked.
pub async fn prune(
    docker: &build::Docker,
    loader: Option<&Loader>,
    wish: &Wish,
    cancel: &CancellationToken,
) -> Result<Pruned> {
    let registries = [None, wish.registry.as_deref()];
    let prefixes = registries.map(|registry| build::plan::prefix(registry, &wish.stack));
    let in_nodes = async {
        match loader {
            Some(loader) => loader.list_below(&prefixes, cancel).await,
            None => Ok(Vec::new()),
        }
    };
    let in_docker = docker::list(docker.api(), &wish.stack, &prefixes);
    let (in_docker, in_nodes) = futures::try_join!(in_docker, in_nodes)?;
    let of_docker = in_docker.iter().map(|image| choose::Found {
        reference: &image.reference,
        created: image.created,
        used: image.used,
    });
    let of_nodes = in_nodes.iter().map(|image| choose::Found {
        reference: &image.reference,
        created: image.created,
        used: image.used,
    });
    let old = choose::old(of_docker.chain(of_nodes), wish.keep, &wish.needed);
    let mut pruned = Pruned {
        dry_run: wish.dry_run,
        ..Pruned::default()
    };
    let mut removed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let in_docker: Vec<_> = in_docker
        .into_iter()
        .filter(|i| old.contains(&i.reference))
        .collect();
    if !in_docker.is_empty() {
        let gone = docker::remove(docker.api(), &in_docker, wish.dry_run, cancel).await?;
        pruned.docker = Sum {
            images: gone.references.len(),
            bytes: Some(gone.bytes),
        };
        pruned.cached = gone.cached;
        for reference in gone.references {
            removed
                .entry(reference)
                .or_default()
                .push("Docker".to_owned());
        }
    }
    let in_nodes: Vec<NodeImage> = in_nodes
        .into_iter()
        .filter(|i| old.contains(&i.reference))
        .collect();
    if let Some(loader) = loader.filter(|_| !in_nodes.is_empty()) {
        let gone = loader.prune(&in_nodes, wish.dry_run, cancel).await?;
        pruned.nodes = Sum {
            images: gone.images.len(),
            bytes: gone.bytes,
        };
        for image in gone.images {
            removed.entry(image.reference).or_default().push(image.node);
        }
    }
    pruned.removed = removed
        .into_iter()
        .map(|(image, places)| Gone { image, places })
        .collect();
    Ok(pruned)
}

impl Pruned {
    /// What was done, in one line.
    pub fn line(&self) -> String {
        if self.removed.is_empty() {
            return "no old images to remove".to_owned();
        }
        let place = |sum: &Sum, place: &str, cached: u64| {
            let freed = if self.dry_run { "to be freed" } else { "freed" };
            let cache = match cached {
                0 => String::new(),
                bytes => format!(
                    "; its build cache keeps {} until `docker builder prune`",
                    ui::size(bytes)
                ),
            };
            let room = sum.bytes.map_or_else(String::new, |bytes| {
                format!(" ({} {freed}{cache})", ui::size(bytes))
            });
            (sum.images > 0).then(|| format!("{} from {place}{room}", sum.images))
        };
        let places = [
            place(&self.docker, "Docker", self.cached),
            place(&self.nodes, "the nodes", 0),
        ];
        let places: Vec<_> = places.into_iter().flatten().collect();
        let would = if self.dry_run {
            "would remove"
        } else {
            "removed"
        };
        format!("{would} old images: {}", places.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_one_line() {
        let gone = |image: &str| Gone {
            image: image.to_owned(),
            places: vec![],
        };
        let mut pruned = Pruned {
            removed: vec![gone("a"), gone("b")],
            docker: Sum {
                images: 2,
                bytes: Some(0),
            },
            cached: 3 << 30,
            nodes: Sum {
                images: 1,
                bytes: Some(5 << 20),
            },
            ..Pruned::default()
        };
        insta::assert_snapshot!(pruned.line(), @"removed old images: 2 from Docker (0 B freed; its build cache keeps 3.0 GiB until `docker builder prune`), 1 from the nodes (5 MiB freed)");
        pruned.nodes.bytes = None;
        insta::assert_snapshot!(pruned.line(), @"removed old images: 2 from Docker (0 B freed; its build cache keeps 3.0 GiB until `docker builder prune`), 1 from the nodes");
        (pruned.dry_run, pruned.cached, pruned.nodes) = (true, 0, Sum::default());
        insta::assert_snapshot!(pruned.line(), @"would remove old images: 2 from Docker (0 B to be freed)");
        assert_eq!(Pruned::default().line(), "no old images to remove");
    }
}
