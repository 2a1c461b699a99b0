//! Into a node by the `ctr` in it: a tar stream in the OCI layout.

use std::pin::Pin;

use bollard::Docker;
use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;

use super::holds::{self, Holds};
use super::import::Attempt;
use super::oci::{self, Descriptor};
use crate::cluster::node::{Node, Output};
use crate::error::{Failure, Result};

/// An import that is under way. Dropped, `ctr` ends as well, and leaves no image behind.
pub struct Ctr {
    node: Node,
    stdin: Pin<Box<dyn AsyncWrite + Send>>,
    end: Option<AbortOnDropHandle<Result<Output>>>,
    placed: Vec<(String, Descriptor)>,
}

/// `ctr` ends with the import; what the node holds then is asked by the same command.
fn script(attempt: Attempt) -> String {
    let options = match attempt {
        Attempt::First => "",
        Attempt::Second => {
            "$(ctr -n k8s.io images import --help | grep -q -e '--local' && echo --local) --all-platforms"
        }
    };
    holds::script(&format!(
        "ctr -n k8s.io images import {options} --snapshotter \"$s\" - >&2 || exit 2"
    ))
}

impl Ctr {
    /// Starts `ctr` in the node, so that it is up when the first bytes are.
    pub async fn start(docker: &Docker, node: &Node, attempt: Attempt) -> Result<Ctr> {
        let mut running = node.start(docker, &["sh", "-c", &script(attempt)]).await?;
        let stdin = std::mem::replace(&mut running.stdin, Box::pin(tokio::io::sink()));
        Ok(Ctr {
            node: node.clone(),
            stdin,
            end: Some(AbortOnDropHandle::new(tokio::spawn(running.wait()))),
            placed: Vec::new(),
        })
    }

    pub async fn open(&mut self, path: &str, size: u64) -> Result<()> {
        self.write(oci::tar_header(path, size)).await
    }

    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match self.stdin.write_all(&bytes).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.why_broken().await),
        }
    }

    pub async fn close(&mut self, size: u64) -> Result<()> {
        self.write(oci::tar_padding(size)).await
    }

    pub async fn place(&mut self, name: &str, manifest: Descriptor, bytes: Bytes) -> Result<()> {
        self.file(&oci::blob_path(&manifest.digest), bytes).await?;
        self.placed.push((name.to_owned(), manifest));
        Ok(())
    }

    async fn file(&mut self, path: &str, content: Bytes) -> Result<()> {
        let size = content.len() as u64;
        self.open(path, size).await?;
        self.write(content).await?;
        self.close(size).await
    }

    pub async fn finish(mut self) -> Result<Holds> {
        let index = oci::index(std::mem::take(&mut self.placed));
        self.file("index.json", index.into()).await?;
        self.file(oci::LAYOUT.0, Bytes::from_static(oci::LAYOUT.1))
            .await?;
        self.write(oci::tar_end()).await?;
        // An error here is one of a `ctr` that ended; it says why.
        let _ = self.stdin.flush().await;
        let _ = self.stdin.shutdown().await;
        self.ended().await
    }

    /// A node whose `ctr` no longer reads says why when it ends.
    async fn why_broken(&mut self) -> Failure {
        self.stdin = Box::pin(tokio::io::sink());
        match self.ended().await {
            Err(failure) => failure,
            Ok(_) => Failure::failed(format!(
                "containerd in node {} stopped reading the images",
                self.node.name
            )),
        }
    }

    async fn ended(&mut self) -> Result<Holds> {
        let broke_off =
            || Failure::failed(format!("the import into node {} broke off", self.node.name));
        let end = self.end.take().ok_or_else(broke_off)?;
        let output = end.await.map_err(|error| broke_off().because(error))??;
        if output.code == 0 {
            return Ok(Holds::parse(&String::from_utf8_lossy(&output.stdout)));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let lines = said.lines().filter(|line| !line.contains("level=warning"));
        Err(super::import::refused(&self.node, lines))
    }
}
