//! A blob on its way into containerd's store.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::messages::{self, Anything};
use super::{Containerd, Refused, path};

/// containerd takes 16 MiB at once at most; this much is on the way.
const PIECE: usize = 1 << 20;
const PIECES: usize = 2;

/// A blob that is being written. Dropped before its end, nothing of it stays.
pub struct Upload {
    reference: String,
    total: u64,
    digest: String,
    offset: u64,
    pieces: mpsc::Sender<messages::Write>,
    end: AbortOnDropHandle<Result<(), Status>>,
}

impl Containerd {
    /// Begins to write a blob of that size. `reference` is a name that nobody else uses; without a digest, containerd
    /// finds it out.
    pub fn upload(&self, reference: String, size: u64, digest: Option<&str>) -> Upload {
        let (pieces, queue) = mpsc::channel(PIECES);
        let end = tokio::spawn(write(self.clone(), queue));
        Upload {
            reference,
            total: size,
            digest: digest.unwrap_or_default().to_owned(),
            offset: 0,
            pieces,
            end: AbortOnDropHandle::new(end),
        }
    }
}

async fn write(
    containerd: Containerd,
    mut queue: mpsc::Receiver<messages::Write>,
) -> Result<(), Status> {
    let pieces = futures::stream::poll_fn(move |context| queue.poll_recv(context));
    let request = containerd.request(pieces)?;
    let mut client = containerd.client().await?;
    let codec = ProstCodec::<messages::Write, Anything>::default();
    let method = path("content.v1.Content/Write");
    let written = async {
        let mut answers = client.streaming(request, method, codec).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    };
    match written.await {
        Err(refused) if Status::code(&refused) == Code::AlreadyExists => Ok(()),
        end => end,
    }
}

impl Upload {
    /// More of it.
    pub async fn write(&mut self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            let length = piece.len() as u64;
            self.say(messages::WRITE, piece, HashMap::new()).await;
            self.offset += length;
        }
    }

    /// All of it was written. The labels say what it refers to.
    ///
    /// # Errors
    /// When containerd did not take it. A blob that it has already is as good.
    pub async fn close(mut self, labels: HashMap<String, String>) -> Result<(), Refused> {
        self.say(messages::COMMIT, Bytes::new(), labels).await;
        drop(self.pieces);
        self.end
            .await
            .map_err(|error| Status::internal(error.to_string()))?
    }

    /// Who ended early says why at the end.
    async fn say(&mut self, action: i32, data: Bytes, labels: HashMap<String, String>) {
        let message = messages::Write {
            action,
            reference: self.reference.clone(),
            total: self.total as i64,
            expected: self.digest.clone(),
            offset: self.offset as i64,
            data,
            labels,
        };
        let _ = self.pieces.send(message).await;
    }
}
