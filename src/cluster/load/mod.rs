//! The loader: images from Docker into the nodes, only what they lack.
//!
//! What a node has is told by its unpacked layers, which containerd names by chain ID: kind and minikube throw the
//! blobs away once they are unpacked. An import that leaves such layers out ([`oci`]) takes as long as its new layers.
//! Out of Docker there are two ways: [`save`] always writes whole images, `push` sends to the daemon's own
//! [`intake`] what that says it lacks, but Docker has to compress a layer the first time. So an image with much that
//! Docker never pushed goes the first way, and [`Loader::warm`] lets Docker learn it when there is time.

pub mod holds;
pub mod image;
pub mod import;
pub mod memory;
pub mod oci;
pub mod save;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bollard::Docker;
use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use self::holds::Holds;
use self::image::Image;
use self::import::{Attempt, Import};
use self::memory::Memory;
use self::oci::Descriptor;
use self::save::Passed;
use super::node::{Node, interrupted};
use crate::error::{Failure, Result};

/// Brings images from one Docker into the nodes of one cluster.
pub struct Loader {
    docker: Docker,
    nodes: Vec<Node>,
    memory: Mutex<Memory>,
    /// What the nodes held when they were last asked, in the order of `nodes`.
    seen: Mutex<Option<Vec<Holds>>>,
}

/// What a load did.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadReport {
    /// References that every node had already.
    pub present: Vec<String>,
    /// References that were sent.
    pub loaded: Vec<String>,
    /// The way that was taken; none when nothing was sent.
    pub way: Option<Way>,
    /// Names of the nodes that were sent to.
    pub nodes: Vec<String>,
    /// Bytes sent to each node.
    pub bytes: u64,
    /// Layers sent to each node.
    pub sent: usize,
    /// Layers that the nodes had already.
    pub skipped: usize,
    /// Whether it took a second try with all layers, and why.
    pub retried: Option<String>,
    /// Wall time.
    pub took: Duration,
}

/// How images came out of Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Pushed to the intake.
    Push,
    /// Saved as a whole, and filtered.
    Save {
        /// Why not pushed.
        why: String,
    },
}

/// What is to be sent, and what of it can be left out.
struct Plan {
    images: Vec<Image>,
    /// Diff IDs of the layers that some node lacks somewhere in the images.
    needed: HashSet<String>,
}

impl Plan {
    fn new(images: Vec<Image>, holds: &[Holds]) -> Plan {
        let lacking = |chain: &String| holds.iter().any(|node| !node.chains.contains(chain));
        let needed = images
            .iter()
            .flat_map(|image| image.diff_ids.iter().zip(&image.chains))
            .filter(|(_, chain)| lacking(chain))
            .map(|(diff_id, _)| diff_id.clone())
            .collect();
        Plan { images, needed }
    }

    fn everything(images: Vec<Image>) -> Plan {
        Plan::new(images, &[Holds::default()])
    }
}

struct Sent {
    way: Way,
    passed: Passed,
    bytes: u64,
}

impl Loader {
    /// A loader into these nodes. `folder` is the stack's state folder, where it remembers what Docker pushed.
    ///
    /// Nodes that are stopped are left out.
    pub fn new(docker: &Docker, nodes: &[Node], folder: &Path) -> Loader {
        Loader {
            docker: docker.clone(),
            nodes: nodes.iter().filter(|node| node.running).cloned().collect(),
            memory: Mutex::new(Memory::open(folder)),
            seen: Mutex::new(None),
        }
    }

    /// Loads images that Docker has into all nodes, and verifies that they arrived.
    ///
    /// Cancelled, it leaves no image that cannot start.
    pub async fn load(
        &self,
        references: &[String],
        cancel: &CancellationToken,
    ) -> Result<LoadReport> {
        tokio::select! {
            report = self.load_all(references, cancel) => report,
            () = cancel.cancelled() => Err(interrupted()),
        }
    }

    /// For each node, which of the references it has not got, or not in the version that Docker has.
    pub async fn missing(
        &self,
        references: &[String],
        cancel: &CancellationToken,
    ) -> Result<Vec<(String, Vec<String>)>> {
        let (images, holds) = futures::try_join!(self.inspect(references), self.ask(cancel))?;
        let lacks = |node: &Holds| {
            images
                .iter()
                .filter(|image| !self.has(node, image))
                .map(|i| i.reference.clone())
                .collect()
        };
        Ok(self
            .nodes
            .iter()
            .zip(&holds)
            .map(|(node, held)| (node.name.clone(), lacks(held)))
            .collect())
    }

    async fn load_all(
        &self,
        references: &[String],
        cancel: &CancellationToken,
    ) -> Result<LoadReport> {
        let began = Instant::now();
        let images = self.inspect(references).await?;
        let seen = lock(&self.seen).clone();
        // What was seen earlier is good enough to send by, since it is verified; not to say that nothing is missing.
        let holds = match seen {
            Some(holds) if images.iter().all(|i| !self.everywhere(&holds, i)) => holds,
            _ => self.ask(cancel).await?,
        };
        let (present, lacking): (Vec<Image>, Vec<Image>) = images
            .into_iter()
            .partition(|image| self.everywhere(&holds, image));
        let mut report = LoadReport {
            present: present.into_iter().map(|image| image.reference).collect(),
            loaded: lacking
                .iter()
                .map(|image| image.reference.clone())
                .collect(),
            way: None,
            nodes: self.nodes.iter().map(|node| node.name.clone()).collect(),
            bytes: 0,
            sent: 0,
            skipped: 0,
            retried: None,
            took: Duration::ZERO,
        };
        if !lacking.is_empty() {
            let sent = match self
                .send(&Plan::new(lacking.clone(), &holds), Attempt::First)
                .await
            {
                Ok(sent) => sent,
                Err(failure) => {
                    report.retried = Some(failure.line());
                    *lock(&self.seen) = None;
                    self.send(&Plan::everything(lacking), Attempt::Second)
                        .await?
                }
            };
            report.way = Some(sent.way);
            (report.sent, report.skipped) = (sent.passed.sent, sent.passed.skipped);
            report.bytes = sent.bytes;
        }
        report.took = began.elapsed();
        Ok(report)
    }

    async fn inspect(&self, references: &[String]) -> Result<Vec<Image>> {
        let mut wanted: Vec<&String> = references.iter().collect();
        wanted.sort();
        wanted.dedup();
        try_join_all(
            wanted
                .into_iter()
                .map(|reference| Image::inspect(&self.docker, reference)),
        )
        .await
    }

    async fn ask(&self, cancel: &CancellationToken) -> Result<Vec<Holds>> {
        if self.nodes.is_empty() {
            return Err(Failure::environment("no node of the cluster runs")
                .remedy("start the cluster, then try again"));
        }
        let all = self
            .nodes
            .iter()
            .map(|node| Holds::ask(&self.docker, node, cancel));
        let holds = try_join_all(all).await?;
        *lock(&self.seen) = Some(holds.clone());
        Ok(holds)
    }

    fn has(&self, node: &Holds, image: &Image) -> bool {
        node.has(image, lock(&self.memory).manifest(&image.id))
    }

    fn everywhere(&self, holds: &[Holds], image: &Image) -> bool {
        holds.iter().all(|node| self.has(node, image))
    }

    async fn send(&self, plan: &Plan, attempt: Attempt) -> Result<Sent> {
        let mut import = Import::start(&self.docker, &self.nodes, attempt).await?;
        let present = |diff_id: &str| !plan.needed.contains(diff_id);
        let diff_id = |blob: &str| lock(&self.memory).blob(blob).map(|b| b.diff_id.clone());
        let skip = save::Skip {
            present: &present,
            diff_id: &diff_id,
        };
        let passed = save::pass(&self.docker, &plan.images, &skip, &mut import).await?;
        let way = Way::Save {
            why: "nothing was pushed yet".to_owned(),
        };
        let bytes = self.finish(plan, import).await?;
        Ok(Sent { way, passed, bytes })
    }

    /// Ends the import and verifies it: each node must resolve each reference to the manifest that was meant, and have
    /// the image's layers unpacked.
    async fn finish(&self, plan: &Plan, import: Import) -> Result<u64> {
        let bytes = import.bytes;
        let (holds, placed) = import.finish().await?;
        let meant: HashMap<&String, &Descriptor> = placed.iter().map(|(n, d)| (n, d)).collect();
        for (node, held) in self.nodes.iter().zip(&holds) {
            for image in &plan.images {
                arrived(node, held, image, meant.get(&image.name).copied())?;
            }
        }
        let mut memory = lock(&self.memory);
        for image in &plan.images {
            if let Some(manifest) = meant.get(&image.name) {
                memory.arrived(&image.id, &manifest.digest);
            }
        }
        memory.save()?;
        drop(memory);
        *lock(&self.seen) = Some(holds);
        Ok(bytes)
    }
}

fn arrived(node: &Node, held: &Holds, image: &Image, meant: Option<&Descriptor>) -> Result<()> {
    let failed = |why: &str| {
        Failure::failed(format!(
            "image {} did not arrive in node {}",
            image.reference, node.name
        ))
        .cause(why)
    };
    let tagged = held.tags.get(&image.name);
    if tagged.is_none() || tagged != meant.map(|manifest| &manifest.digest) {
        return Err(failed("the node has another image of that name, or none"));
    }
    if image.top().is_some_and(|top| !held.chains.contains(top)) {
        return Err(failed("its layers are not all unpacked"));
    }
    Ok(())
}

/// Nothing here leaves shared state half changed, so a panic elsewhere does no harm to it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
