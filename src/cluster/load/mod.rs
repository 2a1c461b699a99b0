//! The loader: images from Docker into the nodes, only what they lack.
//!
//! What a node has is told by its unpacked layers, which containerd names by chain ID: kind and minikube throw the
//! blobs away once they are unpacked. An import that leaves such layers out ([`oci`]) takes as long as its new layers.
//! Out of Docker there are two ways: [`save`] always writes whole images, [`push`] sends to the daemon's own
//! [`intake`] what that says it lacks, but Docker has to compress a layer the first time. So an image with much that
//! Docker never pushed goes the first way, and [`Loader::warm`] lets Docker learn it when there is time. Nodes whose
//! [`Program`] takes whole images only get them the first way always.

pub mod holds;
pub mod image;
pub mod import;
pub mod intake;
pub mod layers;
pub mod memory;
pub mod oci;
mod pipe;
pub mod program;
pub mod prune;
pub mod push;
pub mod save;
mod store;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bollard::Docker;
use futures::future::{join_all, try_join_all};
use tokio::sync::{MappedMutexGuard, MutexGuard};
use tokio_util::sync::CancellationToken;

use self::holds::Holds;
use self::image::Image;
use self::import::{Attempt, Import};
use self::intake::{Intake, Keep, Received};
use self::memory::Memory;
use self::program::Program;
use self::push::{Pushed, Unpushed};
use self::save::Passed;
use super::agent::{Agent, Agents};
use super::node::{Node, interrupted};
use crate::error::{Failure, Result};

/// Brings images from one Docker into the nodes of one cluster.
pub struct Loader {
    docker: Docker,
    nodes: Vec<Node>,
    program: Program,
    agents: Option<Arc<Agents>>,
    memory: Mutex<Memory>,
    /// What the nodes held when they were last asked, in the order of `nodes`.
    seen: Mutex<Option<Vec<Holds>>>,
    /// When that question was begun; held while the nodes are asked.
    asked: tokio::sync::Mutex<Option<Instant>>,
    folder: PathBuf,
    intake: tokio::sync::Mutex<Option<Intake>>,
    /// Why nothing can be pushed, once that was seen.
    no_push: Mutex<Option<String>>,
    /// Images with layers that Docker never pushed, one a repository.
    unknown: Mutex<Vec<Image>>,
    /// Ends the warming that is under way.
    warming: Mutex<CancellationToken>,
}

/// Docker compresses some 20 MiB a second; what takes longer than `docker save` is not pushed.
const COMPRESSED_IN_NO_TIME: u64 = 16 << 20;

/// At that speed 10 GiB. What does not come to an end then goes on with the next rest.
const WARM_WITHIN: Duration = Duration::from_secs(600);

/// An agent that is in the node already starts in a tenth of that; without it, `ctr` takes about as long.
const AGENT_WITHIN: Duration = Duration::from_secs(2);

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
            program: Program::Ctr,
            agents: None,
            memory: Mutex::new(Memory::open(folder)),
            seen: Mutex::new(None),
            asked: tokio::sync::Mutex::new(None),
            folder: folder.to_owned(),
            intake: tokio::sync::Mutex::new(None),
            no_push: Mutex::new(None),
            unknown: Mutex::new(Vec::new()),
            warming: Mutex::new(CancellationToken::new()),
        }
    }

    /// Into nodes whose images another program than `ctr` has.
    pub fn by(mut self, program: Program) -> Loader {
        self.program = program;
        self.no_push = Mutex::new(program.only_whole());
        self
    }

    /// Uses agents, by which containerd can be asked directly. It does not wait long for one to start.
    pub fn with_agents(mut self, agents: Arc<Agents>) -> Loader {
        self.agents = Some(agents);
        self
    }

    async fn agent(&self, node: &Node) -> Option<Arc<Agent>> {
        let agents = self
            .agents
            .as_ref()
            .filter(|_| self.program == Program::Ctr)?;
        let started = agents.on(&node.name);
        tokio::time::timeout(AGENT_WITHIN, started).await.ok()?.ok()
    }

    async fn import(&self, attempt: Attempt) -> Result<Import> {
        let agents = join_all(self.nodes.iter().map(|node| self.agent(node))).await;
        let nodes = self.nodes.iter().zip(agents).collect();
        Import::start(&self.docker, nodes, self.program, attempt).await
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

    /// The references that some node can resolve, as containerd spells them; none when the nodes do not say.
    pub async fn references(&self) -> Option<Vec<String>> {
        let holds = self.ask(&CancellationToken::new()).await.ok()?;
        Some(
            holds
                .into_iter()
                .flat_map(|node| node.tags.into_keys())
                .collect(),
        )
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
        // Loaded by an earlier daemon, say.
        self.note_unknown(&present);
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
                // Nothing was left out that a second try could send.
                Err(failure) if self.program.only_whole().is_some() => return Err(failure),
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
        // All services ask at once, and `ctr` takes long to start: who waited while another asked takes its answer.
        let came = Instant::now();
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|begun| begun >= came)
            && let Some(holds) = lock(&self.seen).clone()
        {
            return Ok(holds);
        }
        let begun = Instant::now();
        let agents = join_all(self.nodes.iter().map(|node| self.agent(node))).await;
        let all = self
            .nodes
            .iter()
            .zip(agents)
            .map(|(node, agent)| Holds::ask(&self.docker, node, agent, self.program, cancel));
        let holds = try_join_all(all).await?;
        *lock(&self.seen) = Some(holds.clone());
        *asked = Some(begun);
        Ok(holds)
    }

    fn has(&self, node: &Holds, image: &Image) -> bool {
        node.has(image, lock(&self.memory).manifest(&image.id))
    }

    fn everywhere(&self, holds: &[Holds], image: &Image) -> bool {
        holds.iter().all(|node| self.has(node, image))
    }

    /// Sends by the way that is fast for these images. A second attempt has no layer left out, and relies on nothing.
    async fn send(&self, plan: &Plan, attempt: Attempt) -> Result<Sent> {
        let why = match attempt {
            Attempt::First => self.why_not_push(plan).await?,
            Attempt::Second => Some("the first try failed".to_owned()),
        };
        let Some(why) = why else {
            return match self.send_pushed(plan).await {
                Ok(sent) => Ok(sent),
                Err(Unpushed::Failed(failure)) => Err(failure),
                Err(Unpushed::Unreachable(why)) => {
                    let why = format!("Docker cannot reach 127.0.0.1 of this machine ({why})");
                    *lock(&self.no_push) = Some(why.clone());
                    self.send_saved(plan, attempt, why).await
                }
            };
        };
        self.send_saved(plan, attempt, why).await
    }

    /// Why nothing can be pushed out of Docker, for good, so that every load takes the slower way; none: not that we
    /// know.
    pub fn cannot_push(&self) -> Option<String> {
        lock(&self.no_push).clone()
    }

    async fn send_saved(&self, plan: &Plan, attempt: Attempt, why: String) -> Result<Sent> {
        let mut import = self.import(attempt).await?;
        let present = |diff_id: &str| !plan.needed.contains(diff_id);
        let diff_id = |blob: &str| lock(&self.memory).blob(blob).map(|b| b.diff_id.clone());
        let skip = save::Skip {
            present: &present,
            diff_id: &diff_id,
        };
        let passed = save::pass(&self.docker, &plan.images, &skip, &mut import).await?;
        let bytes = self.finish(plan, import).await?;
        self.note_unknown(&plan.images);
        Ok(Sent {
            way: Way::Save { why },
            passed,
            bytes,
        })
    }

    async fn send_pushed(&self, plan: &Plan) -> Result<Sent, Unpushed> {
        lock(&self.warming).cancel();
        let intake = self.intake().await?;
        // Where it is `ctr`, that needs as long to start as Docker to push.
        let starting = self.import(Attempt::First);
        let pushing = async {
            let mut pushed = Vec::with_capacity(plan.images.len());
            for image in &plan.images {
                let known = self.known(image, |diff_id| !plan.needed.contains(diff_id));
                pushed.push(push::push(&self.docker, &intake, image, known, Keep::All).await?);
            }
            Ok(pushed)
        };
        let starting = async { starting.await.map_err(Unpushed::Failed) };
        let (mut import, pushed) = futures::try_join!(starting, pushing)?;
        drop(intake);
        let mut passed = Passed::default();
        for (image, pushed) in plan.images.iter().zip(pushed) {
            self.learn(image, &pushed);
            let one = pushed
                .pass(image, &mut import)
                .await
                .map_err(Unpushed::Failed)?;
            passed.sent += one.sent;
            passed.skipped += one.skipped;
        }
        let bytes = self.finish(plan, import).await.map_err(Unpushed::Failed)?;
        Ok(Sent {
            way: Way::Push,
            passed,
            bytes,
        })
    }

    /// Why a push would be slow or impossible; none: push.
    async fn why_not_push(&self, plan: &Plan) -> Result<Option<String>> {
        if let Some(why) = lock(&self.no_push).clone() {
            return Ok(Some(why));
        }
        let known = |diff_id: &String| lock(&self.memory).has_pushed(diff_id);
        let mut unknown = 0;
        for image in &plan.images {
            if !image.diff_ids.iter().all(known) {
                unknown += image.size_without(&image.steps(&self.docker).await?, known);
            }
        }
        let much = format!("Docker would have to compress {} MiB first", unknown >> 20);
        Ok((unknown > COMPRESSED_IN_NO_TIME).then_some(much))
    }

    /// Keeps those of the images in mind that have layers that Docker is yet to learn, and no older versions of them.
    fn note_unknown(&self, images: &[Image]) {
        if lock(&self.no_push).is_some() {
            return;
        }
        let memory = lock(&self.memory);
        let known = |diff_id: &String| memory.has_pushed(diff_id);
        let mut unknown = lock(&self.unknown);
        unknown.retain(|image| !images.iter().any(|new| same_repository(new, image)));
        let new = images
            .iter()
            .filter(|image| !image.diff_ids.iter().all(known));
        unknown.extend(new.cloned());
    }

    /// Lets Docker learn the layers of images that went the slow way, so that the next load is fast. Bytes that came.
    ///
    /// It costs a core for some seconds per 100 MiB, once a layer, so call it when nothing else is to do. A load that
    /// comes in between ends it. Layers that came by then need not come again, so the next call goes on from there; the
    /// smallest image is first, so that even a short time brings one to its end.
    pub async fn warm(&self, cancel: &CancellationToken) -> Result<u64> {
        let token = cancel.child_token();
        *lock(&self.warming) = token.clone();
        let mut ended = pin!(tokio::time::timeout(WARM_WITHIN, token.cancelled()));
        let mut bytes = 0;
        loop {
            let smallest = lock(&self.unknown)
                .iter()
                .min_by_key(|image| image.size)
                .cloned();
            let Some(image) = smallest else {
                return Ok(bytes);
            };
            let pushed = match self.intake().await {
                Ok(intake) => tokio::select! {
                    biased;
                    _ = &mut ended => {
                        bytes += self.keep_what_came(&intake.take())?;
                        return Ok(bytes);
                    }
                    pushed = self.push_to_learn(&intake, &image) => pushed,
                },
                Err(unpushed) => Err(unpushed),
            };
            lock(&self.unknown).retain(|other| *other != image);
            match pushed {
                Ok(pushed) => {
                    bytes += pushed.bytes();
                    self.learn(&image, &pushed);
                }
                Err(Unpushed::Unreachable(why)) => {
                    *lock(&self.no_push) = Some(format!(
                        "Docker cannot reach 127.0.0.1 of this machine ({why})"
                    ));
                    return Ok(bytes);
                }
                // Gone since, say; the next load of it goes the slow way again.
                Err(Unpushed::Failed(failure)) => tracing::debug!(%failure, "not warmed"),
            }
            lock(&self.memory).save()?;
        }
    }

    /// What came once need not come again, even if it is not known yet what layer it is.
    async fn push_to_learn(&self, intake: &Intake, image: &Image) -> Result<Pushed, Unpushed> {
        let mut known = self.known(image, |_| true);
        let came = |(digest, size): (&String, &u64)| (digest.clone(), *size);
        known.extend(lock(&self.memory).came().map(came));
        push::push(&self.docker, intake, image, known, Keep::Sizes).await
    }

    /// Of a push that was ended; its manifest, which tells what layers these are, comes with a later one.
    fn keep_what_came(&self, received: &Received) -> Result<u64> {
        let mut memory = lock(&self.memory);
        let mut bytes = 0;
        for (digest, size) in received.sizes() {
            memory.has_come(digest.clone(), size);
            bytes += size;
        }
        memory.save()?;
        Ok(bytes)
    }

    /// The intake, ours alone until the guard is dropped.
    async fn intake(&self) -> Result<MappedMutexGuard<'_, Intake>, Unpushed> {
        let mut intake = self.intake.lock().await;
        if intake.is_none() {
            let listen = async {
                let (secret, port) = {
                    let mut memory = lock(&self.memory);
                    (memory.secret()?, memory.port())
                };
                std::fs::create_dir_all(&self.folder).map_err(|error| {
                    Failure::environment(format!("cannot make {}", self.folder.display()))
                        .because(error)
                })?;
                let new = Intake::listen(port, &secret, "images", &self.folder).await?;
                let mut memory = lock(&self.memory);
                memory.set_port(new.address().port());
                memory.save()?;
                Ok(new)
            };
            *intake = Some(listen.await.map_err(Unpushed::Failed)?);
        }
        MutexGuard::try_map(intake, Option::as_mut)
            .map_err(|_| Unpushed::Failed(Failure::failed("the intake does not listen")))
    }

    /// Blobs of an image that Docker need not push, with their sizes.
    fn known(&self, image: &Image, present: impl Fn(&String) -> bool) -> HashMap<String, u64> {
        let memory = lock(&self.memory);
        let of_image = memory
            .blobs()
            .filter(|(_, blob)| image.diff_ids.contains(&blob.diff_id) && present(&blob.diff_id));
        of_image
            .map(|(digest, blob)| (digest.clone(), blob.size))
            .collect()
    }

    fn learn(&self, image: &Image, pushed: &Pushed) {
        let mut memory = lock(&self.memory);
        for (digest, learnt) in pushed.learnt(image) {
            memory.learn(digest, learnt);
        }
    }

    /// Ends the import and verifies it: each node must resolve each reference to the digest that was meant, and have the
    /// image's layers.
    async fn finish(&self, plan: &Plan, import: Import) -> Result<u64> {
        let bytes = import.bytes;
        let (holds, placed) = import.finish().await?;
        let meant: HashMap<&String, &String> = placed.iter().map(|(n, d)| (n, d)).collect();
        for (node, held) in self.nodes.iter().zip(&holds) {
            for image in &plan.images {
                arrived(node, held, image, meant.get(&image.name).copied())?;
            }
        }
        let mut memory = lock(&self.memory);
        for image in &plan.images {
            if let Some(digest) = meant.get(&image.name) {
                memory.arrived(&image.id, digest);
            }
        }
        memory.save()?;
        drop(memory);
        *lock(&self.seen) = Some(holds);
        Ok(bytes)
    }
}

fn arrived(node: &Node, held: &Holds, image: &Image, meant: Option<&String>) -> Result<()> {
    let failed = |why: &str| {
        Failure::failed(format!(
            "image {} did not arrive in node {}",
            image.reference, node.name
        ))
        .cause(why)
    };
    let tagged = held.tags.get(&image.name);
    if tagged.is_none() || tagged != meant {
        return Err(failed("the node has another image of that name, or none"));
    }
    if !held.has_layers(image) {
        return Err(failed("its layers are not all unpacked"));
    }
    Ok(())
}

/// Whether two images are versions of one.
fn same_repository(a: &Image, b: &Image) -> bool {
    let repository = |image: &Image| image.name.rsplit_once(':').map(|(name, _)| name.to_owned());
    repository(a) == repository(b)
}

/// Nothing here leaves shared state half changed, so a panic elsewhere does no harm to it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
