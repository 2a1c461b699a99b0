//! Without an agent in the node: commands in the container, through the API server.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::agent::FileChange;
use crate::error::{Failure, Result};
use kube::ResourceExt;

/// How long output may still come after the connection's end.
const LAST_OUTPUT: std::time::Duration = std::time::Duration::from_millis(200);
/// Output that is kept of a command.
const KEPT: u64 = 64 * 1024;

/// How a command in a container ended.
#[derive(Debug)]
pub struct Ran {
    /// Whether with 0.
    pub well: bool,
    /// What it printed, both streams.
    pub output: String,
}

/// Where a command runs.
pub struct Place<'a> {
    /// For the API server.
    pub client: &'a kube::Client,
    /// The pod.
    pub pod: &'a Pod,
    /// The container's name.
    pub container: &'a str,
}

impl Place<'_> {
    /// Runs a command with an input.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub async fn exec(&self, command: &[String], input: &[u8]) -> Result<Ran> {
        let failed = || {
            Failure::failed(format!(
                "cannot run `{}` in {}",
                command.join(" "),
                self.pod.name_any()
            ))
        };
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let options = AttachParams::default()
            .container(self.container)
            .stdin(!input.is_empty())
            .stdout(true)
            .stderr(true);
        let mut running = pods
            .exec(&self.pod.name_any(), command, &options)
            .await
            .map_err(|error| failed().because(error))?;
        let stdin = running.stdin();
        let write = async {
            if let Some(mut stdin) = stdin {
                // A command that ends early says why itself.
                let _ = stdin.write_all(input).await;
                let _ = stdin.shutdown().await;
            }
        };
        let (stdout, stderr) = (running.stdout(), running.stderr());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read_out = async {
            if let Some(stdout) = stdout {
                let _ = stdout.take(KEPT).read_to_end(&mut out).await;
            }
        };
        let read_err = async {
            if let Some(stderr) = stderr {
                let _ = stderr.take(KEPT).read_to_end(&mut err).await;
            }
        };
        let status = running.take_status();
        {
            let streams = async { tokio::join!(write, read_out, read_err) };
            let ended = running.join();
            tokio::pin!(streams, ended);
            // A connection that is cut leaves the streams open for ever.
            tokio::select! {
                _ = &mut streams => {}
                _ = &mut ended => drop(tokio::time::timeout(LAST_OUTPUT, streams).await),
            }
        }
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let well = status
            .as_ref()
            .is_some_and(|status| status.status.as_deref() == Some("Success"));
        out.extend(err);
        let mut output = String::from_utf8_lossy(&out).into_owned();
        if !well && output.trim().is_empty() {
            let said = status.and_then(|status| status.message);
            output = said.unwrap_or_else(|| "it cannot be run there".to_owned());
        }
        Ok(Ran { well, output })
    }

    /// Puts and deletes files with the container's own `tar` and `rm`.
    ///
    /// # Errors
    /// When it has none, or they say no.
    pub async fn put(&self, files: &[FileChange]) -> Result<()> {
        let gone: Vec<&str> = files
            .iter()
            .filter(|file| file.content.is_none())
            .map(|file| file.path.as_str())
            .collect();
        if !gone.is_empty() {
            let command: Vec<String> = ["rm", "-f", "--"]
                .into_iter()
                .chain(gone)
                .map(str::to_owned)
                .collect();
            self.must("rm", &command, &[]).await?;
        }
        let archive =
            archive(files).map_err(|error| Failure::failed("cannot pack files").because(error))?;
        match archive {
            Some(archive) => {
                let command: Vec<String> = ["tar", "-xf", "-", "-C", "/"].map(str::to_owned).into();
                self.must("tar", &command, &archive).await
            }
            None => Ok(()),
        }
    }

    async fn must(&self, program: &str, command: &[String], input: &[u8]) -> Result<()> {
        let ran = self.exec(command, input).await?;
        match ran.well {
            true => Ok(()),
            false => Err(
                Failure::failed(format!("`{program}` in the container does not do it"))
                    .cause(ran.output.trim().to_owned()),
            ),
        }
    }
}

fn archive(files: &[FileChange]) -> std::io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut any = false;
    for file in files {
        let Some(content) = &file.content else {
            continue;
        };
        any = true;
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(file.mode);
        archive.append_data(&mut header, file.path.trim_start_matches('/'), &content[..])?;
    }
    any.then(|| archive.into_inner()).transpose()
}
