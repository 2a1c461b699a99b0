//! A BuildKit session: a connection over which BuildKit calls back for files, secrets and logins.
//!
//! bollard's own session knows no secrets and no files, and outlives its build; this one ends when it is dropped.

use bollard::ClientVersion;
use bollard::grpc::build::health::health_check_response::ServingStatus;
use bollard::grpc::build::health::health_server::{Health, HealthServer};
use bollard::grpc::build::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use bollard::grpc::build::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard::grpc::build::moby::filesync::v1::auth_server::AuthServer;
use bollard::grpc::build::moby::filesync::v1::file_sync_server::FileSyncServer;
use bytes::Bytes;
use futures::stream::BoxStream;
use http_body_util::Empty;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http2;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::service::Routes;

use crate::error::{Failure, Result};

use super::credentials::Credentials;
use super::endpoint::{Endpoint, Settings};
use super::filesync::FileSync;
use super::secrets::Secrets;

/// A session; dropping it ends it.
pub struct Session {
    /// What the build request names it by.
    pub id: String,
    _serving: AbortOnDropHandle<()>,
}

/// What the session can be asked; BuildKit calls nothing that is not announced.
const METHODS: [&str; 4] = [
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/grpc.health.v1.Health/Check",
];

/// h2 takes a connection for an attack when small messages of more than half this window, each counted with 256 bytes,
/// wait to be read. BuildKit asks for each file by itself, and for all of them at once; what waits is bounded by the
/// stream's window, of 1 MiB, so this is never reached.
const WINDOW: u32 = 64 << 20;

impl Session {
    /// Opens one. `shared_key` names what BuildKit may keep of the files for the next session of the same key.
    pub async fn open(
        endpoint: &Endpoint,
        version: &ClientVersion,
        shared_key: &str,
        files: FileSync,
        secrets: Secrets,
    ) -> Result<Session> {
        let failed = |why: String| {
            Failure::environment("cannot open a build session with Docker").cause(why)
        };
        let id = random_id();
        let mut request = Request::post(format!("/v{version}/session"))
            .header("Host", "docker")
            .header("Connection", "Upgrade")
            .header("Upgrade", "h2c")
            .header("X-Docker-Expose-Session-Uuid", &id)
            .header("X-Docker-Expose-Session-Name", "llmdev")
            .header("X-Docker-Expose-Session-Sharedkey", shared_key);
        for method in METHODS {
            request = request.header("X-Docker-Expose-Session-Grpc-Method", method);
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| failed(error.to_string()))?;
        let (mut sender, _connection) = connect(endpoint).await?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| failed(error.to_string()))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(failed(format!("it answers {}", response.status()))
                .remedy("llmdev builds with BuildKit, which Docker has since 18.09"));
        }
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let routes = Routes::new(FileSyncServer::new(files))
            .add_service(SecretsServer::new(secrets))
            .add_service(AuthServer::new(Credentials {
                config: Settings::of_process().config,
            }))
            .add_service(HealthServer::new(Healthy));
        let serving = http2::Builder::new(TokioExecutor::new())
            .initial_connection_window_size(WINDOW)
            .serve_connection(upgraded, TowerToHyperService::new(routes.prepare()));
        // How a session ends does not matter: the build says what is wrong.
        let serving = tokio::spawn(async move { drop(serving.await) });
        Ok(Session {
            id,
            _serving: AbortOnDropHandle::new(serving),
        })
    }
}

/// A connection for one request, closed when the handle is dropped.
pub async fn connect(
    endpoint: &Endpoint,
) -> Result<(SendRequest<Empty<Bytes>>, AbortOnDropHandle<()>)> {
    let wire = endpoint
        .dial()
        .await
        .map_err(|error| endpoint.unreachable(&error))?;
    let (sender, connection) = handshake(TokioIo::new(wire)).await.map_err(|error| {
        Failure::environment(format!("Docker at {endpoint} does not answer")).because(error)
    })?;
    let driving = tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok((sender, AbortOnDropHandle::new(driving)))
}

/// Not to be guessed, since whoever names it is given the secrets.
pub fn random_id() -> String {
    let mut bytes = [0; 16];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the operating system has random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// BuildKit asks every few seconds whether the client is alive.
struct Healthy;

#[tonic::async_trait]
impl Health for Healthy {
    async fn check(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        Ok(tonic::Response::new(HealthCheckResponse {
            status: ServingStatus::Serving.into(),
        }))
    }

    async fn list(
        &self,
        _: tonic::Request<HealthListRequest>,
    ) -> Result<tonic::Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("there is one service"))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask with Check"))
    }
}
