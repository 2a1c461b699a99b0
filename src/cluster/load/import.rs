//! One stream of images into the containerd of all nodes at once.

use bollard::Docker;
use bytes::Bytes;
use futures::future::try_join_all;
use std::pin::Pin;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;

use super::holds::{ASK, Holds};
use super::oci::{self, Descriptor};
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
pub struct Import {
    targets: Vec<Target>,
    placed: Vec<(String, Descriptor)>,
    /// Bytes written to each node so far.
    pub bytes: u64,
}

impl Import {
    /// Starts `ctr` in each node, so that it is up when the first bytes are.
    pub async fn start(docker: &Docker, nodes: &[Node], attempt: Attempt) -> Result<Import> {
        let script = script(attempt);
        let start = |node: &Node| {
            let node = node.clone();
            let script = &script;
            async move {
                let mut running = node.start(docker, &["sh", "-c", script]).await?;
                let stdin = std::mem::replace(&mut running.stdin, Box::pin(tokio::io::sink()));
                let end = AbortOnDropHandle::new(tokio::spawn(running.wait()));
                Ok::<_, Failure>(Target { node, stdin, end })
            }
        };
        let targets = try_join_all(nodes.iter().map(start)).await?;
        Ok(Import {
            targets,
            placed: Vec::new(),
            bytes: 0,
        })
    }

    /// Begins a file; exactly `size` bytes must be [`write`](Self::write)n before [`close`](Self::close).
    pub async fn open(&mut self, path: &str, size: u64) -> Result<()> {
        self.write(oci::tar_header(path, size)).await
    }

    /// Writes to all nodes; the slowest one sets the pace.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes += bytes.len() as u64;
        let broken = futures::future::join_all(
            self.targets
                .iter_mut()
                .map(|target| target.stdin.write_all(&bytes)),
        )
        .await
        .iter()
        .any(std::io::Result::is_err);
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
        let ends = self.targets.into_iter().map(|mut target| async move {
            // An error here is one of a `ctr` that ended; it says why.
            let _ = target.stdin.flush().await;
            let _ = target.stdin.shutdown().await;
            ended(&target.node, target.end).await
        });
        Ok((try_join_all(ends).await?, self.placed))
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
