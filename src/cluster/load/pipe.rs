//! Into a node by a program in it: a tar stream, in the OCI layout for `ctr`, as Docker's archive for the others.

use std::pin::Pin;

use bollard::Docker;
use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;

use super::holds::Holds;
use super::import::{Attempt, Written};
use super::oci;
use super::program::Program;
use crate::cluster::node::{Node, Output};
use crate::error::{Failure, Result};

/// An import that is under way. Dropped, the program sees its input end too early, and leaves no image behind.
pub struct Pipe {
    program: Program,
    node: Node,
    stdin: Pin<Box<dyn AsyncWrite + Send>>,
    end: Option<AbortOnDropHandle<Result<Output>>>,
    placed: Vec<(String, Written)>,
}

/// An image in `manifest.json` of Docker's archives.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed<'a> {
    config: String,
    repo_tags: [&'a str; 1],
    layers: &'a [String],
}

impl Pipe {
    /// Starts the program in the node, so that it is up when the first bytes are. It ends with the import; what the
    /// node holds then is asked by the same command.
    pub async fn start(
        docker: &Docker,
        node: &Node,
        program: Program,
        attempt: Attempt,
    ) -> Result<Pipe> {
        let argv = ["sh", "-c", &program.load(attempt)];
        let mut running = node.start(docker, &argv).await?;
        let stdin = std::mem::replace(&mut running.stdin, Box::pin(tokio::io::sink()));
        Ok(Pipe {
            program,
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

    pub async fn place(&mut self, name: &str, image: Written) -> Result<()> {
        if self.program == Program::Ctr {
            let path = oci::blob_path(&image.manifest.digest);
            self.file(&path, image.bytes.clone()).await?;
        }
        self.placed.push((name.to_owned(), image));
        Ok(())
    }

    async fn file(&mut self, path: &str, content: Bytes) -> Result<()> {
        let size = content.len() as u64;
        self.open(path, size).await?;
        self.write(content).await?;
        self.close(size).await
    }

    pub async fn finish(mut self) -> Result<Holds> {
        let placed = std::mem::take(&mut self.placed);
        match self.program {
            Program::Ctr => {
                let index = oci::index(placed.into_iter().map(|(name, it)| (name, it.manifest)));
                self.file("index.json", index.into()).await?;
                self.file(oci::LAYOUT.0, Bytes::from_static(oci::LAYOUT.1))
                    .await?;
            }
            // Docker's own archives leave `docker.io` out of names, and podman then calls them `localhost/…`.
            Program::Podman | Program::Docker => {
                let listed: Vec<Listed> = placed.iter().map(Listed::of).collect();
                let listed = serde_json::to_vec(&listed).unwrap_or_default();
                self.file("manifest.json", listed.into()).await?;
            }
        }
        self.write(oci::tar_end()).await?;
        // An error here is one of a program that ended; it says why.
        let _ = self.stdin.flush().await;
        let _ = self.stdin.shutdown().await;
        self.ended().await
    }

    /// A program that no longer reads says why when it ends.
    async fn why_broken(&mut self) -> Failure {
        self.stdin = Box::pin(tokio::io::sink());
        match self.ended().await {
            Err(failure) => failure,
            Ok(_) => Failure::failed(format!(
                "{} in node {} stopped reading the images",
                self.program.name(),
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
            let said = String::from_utf8_lossy(&output.stdout);
            return Ok(self.program.parse(&said));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let lines = said.lines().filter(|line| !line.contains("level=warning"));
        Err(super::import::refused(&self.node, lines))
    }
}

impl<'a> Listed<'a> {
    fn of((name, image): &'a (String, Written)) -> Self {
        Listed {
            config: oci::blob_path(&image.config),
            repo_tags: [name],
            layers: &image.layers,
        }
    }
}
