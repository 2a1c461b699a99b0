//! Out of Docker by `docker push` to the intake: only what that says it lacks comes.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{
    PushImageOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::OwnedMutexGuard;

use super::image::{Image, sha256};
use super::import::{Import, Written};
use super::intake::{Blob, Expected, Intake, Keep, Received};
use super::lock;
use super::memory::Learnt;
use super::oci::{self, Descriptor, Manifest};
use super::save::Passed;
use crate::error::{Failure, Result};

/// An image as it was pushed.
pub struct Pushed {
    manifest: Manifest,
    descriptor: Descriptor,
    bytes: Bytes,
    blobs: HashMap<String, Blob>,
}

/// Why a push did not work.
pub enum Unpushed {
    /// Docker never called: its loopback is not ours, as with an engine in a virtual machine.
    Unreachable(String),
    /// It called, and something else went wrong.
    Failed(Failure),
}

/// Docker tries TLS and several times, but the first call comes at once.
const CALL_WITHIN: Duration = Duration::from_secs(5);

/// Pushes one image to the intake, which nobody else may use in the meantime.
pub async fn push(
    docker: &Docker,
    intake: &Intake,
    image: &Image,
    known: HashMap<String, u64>,
    keep: Keep,
) -> Result<Pushed, Unpushed> {
    let tag = sha256(image.reference.as_bytes())[7..23].to_owned();
    let repository = intake.repository();
    // Compressed, random bytes grow by less than that.
    let limit = image.size + image.size / 8 + (64 << 20);
    intake.expect(Expected {
        tag: tag.clone(),
        known,
        keep,
        limit,
    });

    let tagged = Tag::new(docker, &image.reference, &repository, &tag).await;
    let failed = |error: bollard::errors::Error| {
        let failure = Failure::failed(format!(
            "cannot get image {} out of Docker",
            image.reference
        ));
        // The path has a secret in it.
        failure.cause(error.to_string().replace(intake.path(), "…"))
    };
    let temporary = tagged.map_err(|error| Unpushed::Failed(failed(error)))?;
    let pushing = async {
        let options = PushImageOptionsBuilder::new().tag(&tag).build();
        let mut progress = docker.push_image(&repository, Some(options), None).boxed();
        while let Some(step) = progress.next().await {
            step?;
        }
        Ok(())
    };
    let called_in_time = async {
        if tokio::time::timeout(CALL_WITHIN, intake.called())
            .await
            .is_ok()
        {
            std::future::pending::<()>().await;
        }
    };
    let end = tokio::select! {
        end = pushing => end.map_err(failed),
        () = called_in_time => Err(Failure::failed("cannot push").cause("it does not call")),
    };
    drop(temporary);
    let received = intake.take();
    match end {
        Ok(()) => pushed(received, &tag, image).map_err(Unpushed::Failed),
        Err(failure) if received.requests == 0 => {
            Err(Unpushed::Unreachable(failure.causes.join(": ")))
        }
        Err(failure) => Err(Unpushed::Failed(failure)),
    }
}

/// Whether Docker reaches this machine's loopback, tried with a question that it has to ask there; if not, what it says.
pub async fn reachable(docker: &Docker) -> Result<(), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let nothing = format!("{address}/llmdev:none");
    let asked = docker.inspect_registry_image(&nothing, None);
    tokio::select! {
        biased;
        _ = listener.accept() => Ok(()),
        answer = asked => Err(answer.err().map(|error| error.to_string()).unwrap_or_default()),
    }
}

/// The tag that a push needs. Nobody has to wait until it is gone, except for the next one of the same name.
pub(in crate::cluster) struct Tag {
    docker: Docker,
    reference: String,
    turn: Option<OwnedMutexGuard<()>>,
}

type Turns = HashMap<String, Arc<tokio::sync::Mutex<()>>>;

/// By name of a tag, held until it is gone.
static TURNS: LazyLock<Mutex<Turns>> = LazyLock::new(Mutex::default);

/// Waits until the tag of a name is gone.
async fn turn(name: &str) -> OwnedMutexGuard<()> {
    let turn = {
        let mut turns = lock(&TURNS);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(name.to_owned()).or_default())
    };
    turn.lock_owned().await
}

impl Tag {
    /// Gives an image another name for as long as this lives.
    pub(in crate::cluster) async fn new(
        docker: &Docker,
        reference: &str,
        repository: &str,
        tag: &str,
    ) -> Result<Tag, bollard::errors::Error> {
        let options = TagImageOptionsBuilder::new()
            .repo(repository)
            .tag(tag)
            .build();
        let name = format!("{repository}:{tag}");
        let turn = turn(&name).await;
        docker.tag_image(reference, Some(options)).await?;
        Ok(Tag {
            docker: docker.clone(),
            reference: name,
            turn: Some(turn),
        })
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        let (docker, reference) = (self.docker.clone(), std::mem::take(&mut self.reference));
        let turn = self.turn.take();
        tokio::spawn(async move {
            let _until_it_is_gone = turn;
            let options = RemoveImageOptionsBuilder::new().noprune(true).build();
            if let Err(error) = docker.remove_image(&reference, Some(options), None).await {
                tracing::debug!(%error, "cannot remove the tag of a push");
            }
        });
    }
}

/// Finds the image's manifest among what came: the tag's, or the one of this image in the index that the tag is.
fn pushed(received: Received, tag: &str, image: &Image) -> Result<Pushed> {
    let unexpected = |why: &str| {
        Failure::failed(format!(
            "Docker's push of {} is not understood",
            image.reference
        ))
        .cause(why)
    };
    let parse = |bytes: &Bytes| -> Result<Manifest> {
        serde_json::from_slice(bytes).map_err(|error| unexpected(&error.to_string()))
    };
    let root = received
        .manifests
        .get(tag)
        .ok_or_else(|| unexpected("no manifest came"))?;
    let index = parse(root)?;
    let mut candidates = vec![root.clone()];
    for child in &index.manifests {
        candidates.extend(received.manifests.get(&child.digest).cloned());
    }
    for bytes in candidates {
        let manifest = parse(&bytes)?;
        let Some(config) = &manifest.config else {
            continue;
        };
        if diff_ids(received.blobs.get(&config.digest)).as_ref() != Some(&image.diff_ids) {
            continue;
        }
        if manifest.layers.len() != image.diff_ids.len() {
            return Err(unexpected(
                "its manifest has another number of layers than its config",
            ));
        }
        let media_type = manifest
            .media_type
            .clone()
            .unwrap_or_else(|| oci::MANIFEST.to_owned());
        let descriptor = Descriptor::new(&media_type, &sha256(&bytes), bytes.len() as u64);
        return Ok(Pushed {
            manifest,
            descriptor,
            bytes,
            blobs: received.blobs,
        });
    }
    Err(unexpected("no manifest of it has the image's layers"))
}

fn diff_ids(config: Option<&Blob>) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default)]
        diff_ids: Vec<String>,
    }
    let Some(Blob::Memory(bytes)) = config else {
        return None;
    };
    serde_json::from_slice::<Config>(bytes)
        .ok()
        .map(|config| config.rootfs.diff_ids)
}

impl Pushed {
    /// Bytes of all blobs that came.
    pub fn bytes(&self) -> u64 {
        self.blobs.values().map(Blob::size).sum()
    }

    /// Which blob is which layer, for the next push.
    pub fn learnt<'a>(&'a self, image: &'a Image) -> impl Iterator<Item = (&'a str, Learnt)> {
        self.manifest
            .layers
            .iter()
            .zip(&image.diff_ids)
            .map(|(layer, diff_id)| {
                (
                    layer.digest.as_str(),
                    Learnt {
                        diff_id: diff_id.clone(),
                        size: layer.size,
                    },
                )
            })
    }

    /// Writes what came into an import.
    pub async fn pass(mut self, image: &Image, import: &mut Import) -> Result<Passed> {
        let mut passed = Passed::default();
        let config = self.manifest.config.iter();
        let wanted: Vec<&Descriptor> = config.chain(&self.manifest.layers).collect();
        for (position, descriptor) in wanted.into_iter().enumerate() {
            // A layer that the image has twice is taken out once.
            let Some(mut blob) = self.blobs.remove(&descriptor.digest) else {
                passed.skipped += 1;
                continue;
            };
            passed.sent += usize::from(position > 0);
            let size = blob.size();
            import
                .open(&oci::blob_path(&descriptor.digest), size)
                .await?;
            let mut offset = 0;
            while offset < size {
                let piece = blob.read(offset).map_err(|error| {
                    Failure::environment("cannot read back a pushed layer").because(error)
                })?;
                if piece.is_empty() {
                    return Err(Failure::failed("a pushed layer is shorter than it was"));
                }
                offset += piece.len() as u64;
                import.write(piece).await?;
            }
            import.close(size).await?;
        }
        let config = self.manifest.config.map(|config| config.digest);
        let layers = self.manifest.layers.iter();
        let written = Written {
            manifest: self.descriptor,
            bytes: self.bytes,
            config: config.unwrap_or_default(),
            layers: layers.map(|one| oci::blob_path(&one.digest)).collect(),
        };
        import.place(image, written).await?;
        Ok(passed)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use hyper::{Response, service::service_fn};
    use hyper_util::rt::TokioIo;

    use super::*;

    /// An engine that takes its time with what is to be removed; what it did.
    async fn slow_to_remove() -> (Docker, Arc<Mutex<Vec<String>>>) {
        let did = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let doing = Arc::clone(&did);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let doing = Arc::clone(&doing);
                let service = service_fn(move |request: hyper::Request<_>| {
                    let doing = Arc::clone(&doing);
                    async move {
                        let _: &hyper::body::Incoming = request.body();
                        if request.method() == hyper::Method::DELETE {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        lock(&doing).push(request.method().to_string());
                        Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(
                            "[]",
                        ))))
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        let docker = Docker::connect_with_http(&address, 9, bollard::API_DEFAULT_VERSION);
        (docker.unwrap(), did)
    }

    #[tokio::test]
    async fn a_tag_is_made_when_the_one_before_is_gone() {
        let (docker, did) = slow_to_remove().await;
        let tag = |name: &'static str| Tag::new(&docker, "app:1", "127.0.0.1:1/images", name);
        drop(tag("a").await);
        let _again = tag("a").await;
        assert_eq!(*lock(&did), ["POST", "DELETE", "POST"]);
        drop(tag("b").await);
        let _other = tag("c").await;
        assert_eq!(lock(&did).len(), 5, "another name need not wait");
    }
}
