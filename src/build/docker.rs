//! One Docker engine, of any version from 20.10 on and with either image store.

use std::path::Path;
use std::time::Duration;

use bollard::ClientVersion;
use bollard::errors::Error;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper::header::HOST;
use tokio_util::sync::CancellationToken;

use crate::error::{Failure, Kind, Result};

use super::endpoint::{Endpoint, Settings};
use super::explain;
use super::plan::ImagePlan;
use super::secrets::Secrets;
use super::session;
use super::solve::{self, Solved};

/// A Docker engine. Cheap to clone; builds may run side by side.
#[derive(Debug, Clone)]
pub struct Docker {
    api: bollard::Docker,
    endpoint: Endpoint,
}

/// How a build ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The image is there under the plan's reference; its id.
    Built(String),
    /// A file was not what the plan says when it was read: plan again, and build that. Nothing was tagged.
    Changed(std::path::PathBuf),
}

/// Seconds that a request other than a build may take.
const TIMEOUT: u64 = 120;

/// An engine that takes longer is asked in the other way.
const PING_WITHIN: Duration = Duration::from_secs(5);

/// The engine's API version as `/_ping` says it, at once: for `/version` an engine runs its helpers, which takes 10 ms.
async fn pinged(mut sender: SendRequest<Empty<Bytes>>) -> Option<ClientVersion> {
    let ping = Request::get("/_ping").header(HOST, "docker");
    let answer = sender.send_request(ping.body(Empty::new()).ok()?).await;
    let answer = answer.ok()?;
    let (major, minor) = answer
        .headers()
        .get("api-version")?
        .to_str()
        .ok()?
        .split_once('.')?;
    Some(ClientVersion {
        major_version: major.parse().ok()?,
        minor_version: minor.parse().ok()?,
    })
}

impl Docker {
    /// The engine that the `docker` command would use: `DOCKER_HOST`, else the current Docker context, else the
    /// socket of this machine. Fails with [`Kind::Environment`] and a remedy.
    pub async fn connect() -> Result<Docker> {
        Self::connect_endpoint(Settings::of_process().endpoint()?).await
    }

    /// The engine at `host:port` (a `tcp://` before it is allowed), with `ca.pem`, `cert.pem` and `key.pem` of a folder.
    pub async fn connect_tls(host: &str, cert_dir: &Path) -> Result<Docker> {
        let address = host.trim_start_matches("tcp://").trim_end_matches('/');
        Self::connect_endpoint(Endpoint::Tls(address.to_owned(), cert_dir.to_owned())).await
    }

    /// The engine at a socket of this machine.
    pub async fn connect_unix(socket: &Path) -> Result<Docker> {
        Self::connect_endpoint(Endpoint::Unix(socket.to_owned())).await
    }

    async fn connect_endpoint(endpoint: Endpoint) -> Result<Docker> {
        // bollard would hide why it can't connect.
        let (sender, _connection) = session::connect(&endpoint).await?;
        let theirs = tokio::time::timeout(PING_WITHIN, pinged(sender)).await;
        let theirs = theirs.ok().flatten();
        let newest = bollard::API_DEFAULT_VERSION;
        let version = theirs.as_ref().filter(|it| *it < newest).unwrap_or(newest);
        let api = match &endpoint {
            Endpoint::Unix(path) => {
                bollard::Docker::connect_with_unix(&path.to_string_lossy(), TIMEOUT, version)
            }
            Endpoint::Tcp(address) => bollard::Docker::connect_with_http(address, TIMEOUT, version),
            Endpoint::Tls(address, certs) => {
                let [key, cert, ca] =
                    ["key.pem", "cert.pem", "ca.pem"].map(|name| certs.join(name));
                bollard::Docker::connect_with_ssl(address, &key, &cert, &ca, TIMEOUT, version)
            }
        };
        let silent = |error: Error| {
            Failure::environment(format!("Docker at {endpoint} does not answer")).because(error)
        };
        let mut api = api.map_err(silent)?;
        if theirs.is_none() {
            api = api.negotiate_version().await.map_err(silent)?;
        }
        Ok(Docker { api, endpoint })
    }

    /// For all that is not a build.
    pub fn api(&self) -> &bollard::Docker {
        &self.api
    }

    /// The id of an image, if the engine has it.
    pub async fn image_id(&self, reference: &str) -> Result<Option<String>> {
        match self.api.inspect_image(reference).await {
            Ok(image) => Ok(image.id),
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => Ok(None),
            Err(error) => Err(
                Failure::environment(format!("cannot ask Docker for {reference}")).because(error),
            ),
        }
    }

    /// Builds an image under its reference. `lines` gets the output as it comes, a line at a time, without secrets.
    ///
    /// Cancelling, or dropping the future, ends the build in Docker. Fails with [`Kind::Failed`] when the build does,
    /// the first line of detail being `DOCKERFILE:LINE: error: …`, and with [`Kind::Interrupted`] when cancelled.
    pub async fn build(
        &self,
        plan: &ImagePlan,
        lines: &mut (dyn FnMut(&str) + Send),
        cancel: &CancellationToken,
    ) -> Result<Outcome> {
        let secrets = Secrets::read(plan)?;
        let work = async {
            match solve::solve(
                &self.endpoint,
                &self.api.client_version(),
                plan,
                secrets,
                lines,
            )
            .await?
            {
                Solved::Done => {}
                Solved::Changed(path) => return Ok(Outcome::Changed(path)),
                Solved::Failed(trouble) => return Err(explain::explain(plan, &trouble)),
            }
            let id = self.image_id(&plan.reference).await?;
            id.map(Outcome::Built).ok_or_else(|| {
                Failure::failed(format!(
                    "Docker built {} and does not have it",
                    plan.reference
                ))
                .remedy("something removed the image meanwhile, such as a prune; build again")
            })
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Failure::new(Kind::Interrupted, format!("building {} was stopped", plan.name))),
            done = work => done,
        }
    }
}
