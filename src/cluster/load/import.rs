//! One stream of images into all nodes at once.

use std::sync::Arc;

use bollard::Docker;
use bytes::Bytes;
use futures::future::try_join_all;

use super::holds::Holds;
use super::image::Image;
use super::oci::Descriptor;
use super::pipe::Pipe;
use super::program::Program;
use super::store::Store;
use crate::cluster::agent::Agent;
use crate::cluster::node::Node;
use crate::error::{Failure, Result};

/// Which of containerd's ways in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Its API, where an agent leads to it, else as the node's `ctr` does by itself.
    First,
    /// The other code in `ctr`, where it has two, and whatever platform the image is for.
    Second,
}

/// What an image came to in the stream, once its config and the layers that the nodes lack are there.
#[derive(Debug, Clone)]
pub struct Written {
    /// What names its manifest.
    pub manifest: Descriptor,
    /// The manifest.
    pub bytes: Bytes,
    /// The digest of its config.
    pub config: String,
    /// The paths of its layers, lowest first.
    pub layers: Vec<String>,
}

enum Target {
    Store(Store),
    Pipe(Pipe),
}

impl Target {
    async fn start(
        docker: &Docker,
        node: &Node,
        agent: Option<Arc<Agent>>,
        program: Program,
        attempt: Attempt,
    ) -> Result<Target> {
        let containerd = match agent.filter(|_| attempt == Attempt::First) {
            Some(agent) => agent.containerd().await,
            None => None,
        };
        match containerd {
            Some(containerd) => Store::start(node, &containerd).await.map(Target::Store),
            None => Pipe::start(docker, node, program, attempt)
                .await
                .map(Target::Pipe),
        }
    }

    async fn open(&mut self, path: &str, size: u64) -> Result<()> {
        match self {
            Target::Store(store) => {
                store.open(path, size);
                Ok(())
            }
            Target::Pipe(pipe) => pipe.open(path, size).await,
        }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match self {
            Target::Store(store) => {
                store.write(bytes).await;
                Ok(())
            }
            Target::Pipe(pipe) => pipe.write(bytes).await,
        }
    }

    async fn close(&mut self, size: u64) -> Result<()> {
        match self {
            Target::Store(store) => store.close().await,
            Target::Pipe(pipe) => pipe.close(size).await,
        }
    }

    async fn place(&mut self, image: &Image, written: Written) -> Result<()> {
        match self {
            Target::Store(store) => {
                store.place(image, written.manifest, written.bytes);
                Ok(())
            }
            Target::Pipe(pipe) => pipe.place(&image.name, written).await,
        }
    }

    async fn finish(self) -> Result<Holds> {
        match self {
            Target::Store(store) => store.finish().await,
            Target::Pipe(pipe) => pipe.finish().await,
        }
    }
}

/// An import that is under way. Dropped, it ends in the nodes as well, and leaves no image behind.
pub struct Import {
    targets: Vec<Target>,
    program: Program,
    placed: Vec<(String, String)>,
    /// Bytes written to each node so far.
    pub bytes: u64,
}

impl Import {
    /// Begins in each of the nodes, which may have an agent, and have the program.
    pub async fn start(
        docker: &Docker,
        nodes: Vec<(&Node, Option<Arc<Agent>>)>,
        program: Program,
        attempt: Attempt,
    ) -> Result<Import> {
        let started = nodes
            .into_iter()
            .map(|(node, agent)| Target::start(docker, node, agent, program, attempt));
        Ok(Import {
            targets: try_join_all(started).await?,
            program,
            placed: Vec::new(),
            bytes: 0,
        })
    }

    /// Begins a blob; exactly `size` bytes must be [`write`](Self::write)n before [`close`](Self::close).
    pub async fn open(&mut self, path: &str, size: u64) -> Result<()> {
        let opened = self
            .targets
            .iter_mut()
            .map(|target| target.open(path, size));
        try_join_all(opened).await.map(|_| ())
    }

    /// Writes to all nodes; the slowest one sets the pace.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes += bytes.len() as u64;
        let written = self
            .targets
            .iter_mut()
            .map(|target| target.write(bytes.clone()));
        try_join_all(written).await.map(|_| ())
    }

    /// Ends a blob of that size.
    pub async fn close(&mut self, size: u64) -> Result<()> {
        let closed = self.targets.iter_mut().map(|target| target.close(size));
        try_join_all(closed).await.map(|_| ())
    }

    /// A whole blob.
    pub async fn file(&mut self, path: &str, content: Bytes) -> Result<()> {
        let size = content.len() as u64;
        self.open(path, size).await?;
        self.write(content).await?;
        self.close(size).await
    }

    /// Says that an image's reference shall point to what was written of it.
    pub async fn place(&mut self, image: &Image, written: Written) -> Result<()> {
        self.bytes += written.bytes.len() as u64;
        let placed = self
            .targets
            .iter_mut()
            .map(|target| target.place(image, written.clone()));
        try_join_all(placed).await?;
        let digest = match self.program {
            Program::Ctr => written.manifest.digest,
            Program::Podman | Program::Docker => written.config,
        };
        self.placed.push((image.name.clone(), digest));
        Ok(())
    }

    /// Ends it; the answer is what each node holds after it, and which digest was meant for each reference.
    pub async fn finish(self) -> Result<(Vec<Holds>, Vec<(String, String)>)> {
        let ends = self.targets.into_iter().map(Target::finish);
        Ok((try_join_all(ends).await?, self.placed))
    }
}

/// A node did not take the images, and said why.
pub(super) fn refused<'a>(node: &Node, said: impl Iterator<Item = &'a str>) -> Failure {
    let lines: Vec<&str> = said.map(str::trim_end).collect();
    let full = lines.iter().any(|line| line.contains("no space left"));
    let failure =
        Failure::failed(format!("node {} did not take the images", node.name)).detail(lines);
    if full {
        failure.remedy("the node's disk is full: `llmdev prune` makes room")
    } else {
        failure
    }
}
