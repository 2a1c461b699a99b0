//! One stream of images into the containerd of all nodes at once.

use bollard::Docker;
use bytes::{Bytes, BytesMut};
use futures::future::{join_all, try_join_all};
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;

use super::holds::{ASK, Holds};
use super::oci::{self, Descriptor};
use crate::cluster::agent::Agent;
use crate::cluster::node::{Node, Output};
use crate::error::{Failure, Result};

/// Which of containerd's ways in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// As the node's `ctr` does by itself.
    First,
    /// The other code in `ctr`, where it has two, and whatever platform the image is for.
    Second,
}

/// `ctr` ends with the import; what the node holds then is asked by the same command.
fn script(attempt: Attempt) -> String {
    let options = match attempt {
        Attempt::First => "",
        Attempt::Second => {
            "$(ctr -n k8s.io images import --help | grep -q -e '--local' && echo --local) --all-platforms"
        }
    };
    ASK.replacen(
        "echo \"snapshotter $s\"",
        &format!("ctr -n k8s.io images import {options} --snapshotter \"$s\" - >&2 || exit 2\necho \"snapshotter $s\""),
        1,
    )
}

struct Target {
    node: Node,
    stdin: Pin<Box<dyn AsyncWrite + Send>>,
    end: AbortOnDropHandle<Result<Output>>,
}

/// An import that is under way. Dropped, it ends in the nodes as well, and leaves no image behind.
///
/// Where all nodes have agents, a small import goes through them as one request, without Docker's exec.
pub struct Import {
    docker: Docker,
    nodes: Vec<Node>,
    agents: Vec<Arc<Agent>>,
    script: String,
    /// What is written before it is clear that it is not small.
    held: BytesMut,
    /// None yet while `held` is filled.
    targets: Vec<Target>,
    placed: Vec<(String, Descriptor)>,
    /// Bytes written to each node so far.
    pub bytes: u64,
}

/// What goes through agents at most.
const SMALL: usize = 2 << 20;

impl Import {
    /// Begins. Without agents, it starts `ctr` in each node, so that it is up when the first bytes are.
    pub async fn start(
        docker: &Docker,
        nodes: &[Node],
        agents: Option<Vec<Arc<Agent>>>,
        attempt: Attempt,
    ) -> Result<Import> {
        let mut import = Import {
            docker: docker.clone(),
            nodes: nodes.to_vec(),
            agents: agents.unwrap_or_default(),
            script: script(attempt),
            held: BytesMut::new(),
            targets: Vec::new(),
            placed: Vec::new(),
            bytes: 0,
        };
        if import.agents.is_empty() {
            import.stream().await?;
        }
        Ok(import)
    }

    /// Starts `ctr` in each node, and writes what is held.
    async fn stream(&mut self) -> Result<()> {
        let start = |node: &Node| {
            let node = node.clone();
            let (docker, script) = (&self.docker, self.script.as_str());
            async move {
                let mut running = node.start(docker, &["sh", "-c", script]).await?;
                let stdin = std::mem::replace(&mut running.stdin, Box::pin(tokio::io::sink()));
                let end = AbortOnDropHandle::new(tokio::spawn(running.wait()));
                Ok::<_, Failure>(Target { node, stdin, end })
            }
        };
        let targets = try_join_all(self.nodes.iter().map(start)).await?;
        self.targets = targets;
        let held = std::mem::take(&mut self.held).freeze();
        self.write_all(&held).await
    }

    /// Begins a file; exactly `size` bytes must be [`write`](Self::write)n before [`close`](Self::close).
    pub async fn open(&mut self, path: &str, size: u64) -> Result<()> {
        self.write(oci::tar_header(path, size)).await
    }

    /// Writes to all nodes; the slowest one sets the pace.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes += bytes.len() as u64;
        if !self.targets.is_empty() {
            return self.write_all(&bytes).await;
        }
        self.held.extend_from_slice(&bytes);
        if self.held.len() > SMALL {
            self.stream().await
        } else {
            Ok(())
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        let writes = self
            .targets
            .iter_mut()
            .map(|target| target.stdin.write_all(bytes));
        let broken = join_all(writes).await.iter().any(std::io::Result::is_err);
        if broken {
            Err(self.why_broken().await)
        } else {
            Ok(())
        }
    }

    /// Ends a file of that size.
    pub async fn close(&mut self, size: u64) -> Result<()> {
        self.write(oci::tar_padding(size)).await
    }

    /// A whole file.
    pub async fn file(&mut self, path: &str, content: impl Into<Bytes>) -> Result<()> {
        let content = content.into();
        let size = content.len() as u64;
        self.open(path, size).await?;
        self.write(content).await?;
        self.close(size).await
    }

    /// Says that a reference shall point to a manifest, whose blob was or will be written.
    pub fn place(&mut self, name: &str, manifest: Descriptor) {
        self.placed.push((name.to_owned(), manifest));
    }

    /// Ends the stream; the answer is what each node holds after it, and which digests were meant.
    pub async fn finish(mut self) -> Result<(Vec<Holds>, Vec<(String, Descriptor)>)> {
        let index = oci::index(self.placed.clone());
        self.file("index.json", index).await?;
        self.file(oci::LAYOUT.0, oci::LAYOUT.1).await?;
        self.write(oci::tar_end()).await?;
        if self.targets.is_empty() {
            if let Some(outputs) = self.through_agents().await {
                let ends = self
                    .nodes
                    .iter()
                    .zip(outputs)
                    .map(|(node, output)| held(node, &output));
                return Ok((ends.collect::<Result<_>>()?, self.placed));
            }
            self.stream().await?;
        }
        let ends = self.targets.into_iter().map(|mut target| async move {
            // An error here is one of a `ctr` that ended; it says why.
            let _ = target.stdin.flush().await;
            let _ = target.stdin.shutdown().await;
            ended(&target.node, target.end).await
        });
        Ok((try_join_all(ends).await?, self.placed))
    }

    /// None when an agent is gone.
    async fn through_agents(&mut self) -> Option<Vec<Output>> {
        let argv = ["sh", "-c", self.script.as_str()];
        try_join_all(self.agents.iter().map(|agent| agent.run(&argv, &self.held)))
            .await
            .ok()
    }

    /// A node whose `ctr` no longer reads says why when it ends.
    async fn why_broken(&mut self) -> Failure {
        for target in self.targets.drain(..) {
            drop(target.stdin);
            if let Err(failure) = ended(&target.node, target.end).await {
                return failure;
            }
        }
        Failure::failed("a node's containerd stopped reading the images")
    }
}

async fn ended(node: &Node, end: AbortOnDropHandle<Result<Output>>) -> Result<Holds> {
    let output = end.await.map_err(|error| {
        Failure::failed(format!("the import into node {} broke off", node.name)).because(error)
    })??;
    held(node, &output)
}

/// What the node holds after an import that went well.
fn held(node: &Node, output: &Output) -> Result<Holds> {
    if output.code == 0 {
        return Ok(Holds::parse(&String::from_utf8_lossy(&output.stdout)));
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let failure = Failure::failed(format!("node {} did not take the images", node.name)).detail(
        said.lines()
            .filter(|line| !line.contains("level=warning"))
            .map(str::trim_end),
    );
    Err(if said.contains("no space left") {
        failure.remedy("the node's disk is full: `llmdev prune` makes room")
    } else {
        failure
    })
}
