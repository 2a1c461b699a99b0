//! How a connection reaches a pod's port.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::api::ApiStream;

/// How long one try may take; a pod whose network is gone answers nothing at all.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Tries through the API server at a time. Each begins with a TLS handshake: hundreds of them at once on a busy machine
/// would all take too long, and begin anew for ever.
static TURNS: Semaphore = Semaphore::const_new(16);

/// Makes a TCP connection to a pod's port, or fails with `ConnectionRefused` when nothing listens there.
pub type TcpDial =
    Arc<dyn Fn(Arc<Pod>, u16) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// The ways to a pod's port.
#[derive(Clone)]
pub enum Dialer {
    /// Through the API server: slower, works with every cluster.
    Api(kube::Client),
    /// Any way that ends in a TCP connection.
    Tcp(TcpDial),
    /// Such a way, as the node agent's; where it does not lead to the pod, through the API server.
    Near(TcpDial, kube::Client),
}

/// A connection to a pod's port.
pub enum Upstream {
    /// As it is.
    Tcp(TcpStream),
    /// In a web socket of the API server's.
    Api(Box<ApiStream>),
}

/// Why a pod's port was not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The pod is there, and nothing listens on the port in it.
    #[error("connection refused")]
    Refused,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl Dialer {
    /// Dials, within some seconds for each way; through the API server, of its turn.
    pub async fn dial(&self, pod: &Arc<Pod>, port: u16) -> Result<Upstream, DialError> {
        match self {
            Dialer::Api(client) => api(client, pod, port).await,
            Dialer::Tcp(dial) => tcp(dial, pod, port).await,
            Dialer::Near(dial, client) => match tcp(dial, pod, port).await {
                Err(DialError::Failed(why)) => {
                    tracing::debug!(%why, "the near way to a pod does not lead there");
                    api(client, pod, port).await
                }
                dialed => dialed,
            },
        }
    }
}

async fn api(client: &kube::Client, pod: &Pod, port: u16) -> Result<Upstream, DialError> {
    let _turn = TURNS.acquire().await;
    let connection = in_time(connect(client, pod, port)).await?;
    let connection = connection.map_err(|error| DialError::Failed(error.to_string()))?;
    Ok(Upstream::Api(Box::new(ApiStream::new(connection))))
}

async fn tcp(dial: &TcpDial, pod: &Arc<Pod>, port: u16) -> Result<Upstream, DialError> {
    let stream = in_time(dial(pod.clone(), port)).await??;
    stream.set_nodelay(true)?;
    Ok(Upstream::Tcp(stream))
}

async fn in_time<T>(dialing: impl Future<Output = T>) -> Result<T, DialError> {
    let dialed = tokio::time::timeout(DIAL_TIMEOUT, dialing).await;
    dialed.map_err(|_| DialError::Failed("no answer".to_owned()))
}

async fn connect(
    client: &kube::Client,
    pod: &Pod,
    port: u16,
) -> Result<kube::client::Connection, kube::Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let path = Api::<Pod>::namespaced(client.clone(), namespace)
        .resource_url()
        .to_owned();
    let request = kube::core::Request::new(path)
        .portforward(name, &[port])
        .map_err(kube::Error::BuildRequest)?;
    client.connect(request).await
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => DialError::Refused,
            _ => DialError::Failed(error.to_string()),
        }
    }
}

impl Upstream {
    /// Whether a connection that was dialed is known to have reached a listener.
    pub(super) fn certain(&self) -> bool {
        matches!(self, Upstream::Tcp(_))
    }
}
