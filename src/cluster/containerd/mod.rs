//! A node's containerd, asked through its own API: `ctr`, which does the same, needs a tenth of a second to start.
//!
//! The connection goes through the node's agent to containerd's socket.

mod messages;
mod unpack;
mod upload;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;
use tonic::codegen::Service;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use self::messages::{
    Anything, CreateImage, CreateLease, DeleteLease, FieldMask, ListImages, ListSnapshots,
    UpdateImage,
};
pub use self::upload::Upload;

use crate::cluster::load::oci;

/// The namespace in which the kubelet keeps what it runs.
const NAMESPACE: &str = "k8s.io";
/// A node that is busy unpacks large layers in minutes.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);
/// Longer than any import takes; who is killed leaves a lease behind.
const LEASE: Duration = Duration::from_secs(3600);
/// Prints which snapshotter the kubelet's containers use; kind and minikube may be told another one than the usual.
pub(super) const SNAPSHOTTER: &str = r#"
s=$(sed -n 's/^ *snapshotter *= *["'"'"']\(.*\)["'"'"'].*/\1/p' /etc/containerd/config.toml 2>/dev/null | head -n 1)
echo "${s:-overlayfs}"
"#;

/// A client. Cheap to clone; it connects anew when containerd was restarted.
#[derive(Clone)]
pub struct Containerd {
    channel: Channel,
    /// What keeps new things from being collected as garbage.
    lease: Option<String>,
    /// The snapshotter that the kubelet's containers use.
    snapshotter: Arc<str>,
}

/// Opens a connection to containerd's socket.
pub type Dial = Arc<dyn Fn() -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// Why containerd did not do it.
pub type Refused = Status;

impl Containerd {
    /// Connects.
    ///
    /// # Errors
    /// When the way there is not open, or containerd does not answer.
    pub async fn connect(dial: Dial, snapshotter: &str) -> io::Result<Containerd> {
        // No name is looked up: the connector knows the way.
        let endpoint = Endpoint::from_static("http://containerd").timeout(ANSWER_WITHIN);
        let channel = endpoint.connect_with_connector(Connector(dial)).await;
        Ok(Containerd {
            channel: channel.map_err(io::Error::other)?,
            lease: None,
            snapshotter: snapshotter.into(),
        })
    }

    /// The snapshotter that the kubelet's containers use.
    pub fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    /// The digest of each reference's manifest.
    pub async fn references(&self) -> Result<HashMap<String, String>, Refused> {
        let all = ListImages::default();
        let answer: messages::Images = self.ask("images.v1.Images/List", all).await?;
        let named = answer
            .images
            .into_iter()
            .filter_map(|image| Some((image.name, image.target?.digest)));
        Ok(named.collect())
    }

    /// The chain IDs of unpacked layers.
    pub async fn chains(&self) -> Result<HashSet<String>, Refused> {
        let all = ListSnapshots {
            snapshotter: self.snapshotter.to_string(),
        };
        let mut chains = HashSet::new();
        let mut answers: Streaming<messages::Snapshots> =
            self.stream("snapshots.v1.Snapshots/List", all).await?;
        while let Some(answer) = answers.message().await? {
            let committed = answer
                .info
                .into_iter()
                .filter(|snapshot| snapshot.kind == messages::COMMITTED);
            chains.extend(committed.map(|snapshot| snapshot.name));
        }
        Ok(chains)
    }

    /// Points a reference to a manifest.
    pub async fn tag(&self, name: &str, manifest: &oci::Descriptor) -> Result<(), Refused> {
        let image = Some(messages::Image {
            name: name.to_owned(),
            labels: HashMap::new(),
            target: Some(descriptor(manifest)),
        });
        let create = CreateImage {
            image: image.clone(),
        };
        match self.ask("images.v1.Images/Create", create).await {
            Ok(Anything {}) => Ok(()),
            Err(refused) if refused.code() == Code::AlreadyExists => {
                let update = UpdateImage {
                    image,
                    update_mask: Some(FieldMask {
                        paths: vec!["target".to_owned()],
                    }),
                };
                self.ask("images.v1.Images/Update", update)
                    .await
                    .map(|Anything {}| ())
            }
            Err(refused) => Err(refused),
        }
    }

    /// The same client, with a lease: what is made by it is kept until [`release`](Self::release), and not for ever if
    /// that never comes.
    pub async fn leased(&self, id: &str) -> Result<Containerd, Refused> {
        let end = chrono::Utc::now() + LEASE;
        let create = CreateLease {
            id: id.to_owned(),
            labels: HashMap::from([("containerd.io/gc.expire".to_owned(), end.to_rfc3339())]),
        };
        let Anything {} = self.ask("leases.v1.Leases/Create", create).await?;
        Ok(Containerd {
            lease: Some(id.to_owned()),
            ..self.clone()
        })
    }

    /// Gives the lease back.
    pub async fn release(&self) -> Result<(), Refused> {
        let delete = DeleteLease {
            id: self.lease.clone().unwrap_or_default(),
        };
        self.ask("leases.v1.Leases/Delete", delete)
            .await
            .map(|Anything {}| ())
    }

    async fn ask<Q, A>(&self, method: &'static str, question: Q) -> Result<A, Refused>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut client = self.client().await?;
        let request = self.request(question)?;
        let answer = client.unary(request, path(method), ProstCodec::<Q, A>::default());
        Ok(answer.await?.into_inner())
    }

    async fn stream<Q, A>(&self, method: &'static str, question: Q) -> Result<Streaming<A>, Refused>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut client = self.client().await?;
        let request = self.request(question)?;
        let answer = client.server_streaming(request, path(method), ProstCodec::<Q, A>::default());
        Ok(answer.await?.into_inner())
    }

    async fn client(&self) -> Result<tonic::client::Grpc<Channel>, Refused> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        // A node with thousands of images says more than the usual limit.
        Ok(client.max_decoding_message_size(64 << 20))
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Refused> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert(
            "containerd-namespace",
            MetadataValue::from_static(NAMESPACE),
        );
        if let Some(lease) = &self.lease {
            let lease = lease.parse();
            let lease = lease.map_err(|_| Status::invalid_argument("not a lease's name"))?;
            headers.insert("containerd-lease", lease);
        }
        Ok(request)
    }
}

fn path(method: &'static str) -> PathAndQuery {
    PathAndQuery::try_from(format!("/containerd.services.{method}"))
        .expect("a method's name is a path")
}

fn descriptor(of: &oci::Descriptor) -> messages::Descriptor {
    messages::Descriptor {
        media_type: of.media_type.clone(),
        digest: of.digest.clone(),
        size: of.size as i64,
    }
}

struct Connector(Dial);

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialled = (self.0)();
        Box::pin(async move { dialled.await.map(TokioIo::new) })
    }
}
