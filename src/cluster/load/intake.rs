//! What Docker pushes to: the few requests of the registry protocol that a push makes, answered on loopback.
//!
//! It is no registry. It knows one push at a time, answers from what the nodes have which layers it need not see, and
//! keeps the others until they are in the nodes. Whatever was not asked for is refused: the repository's path has a
//! secret of the stack's in it, and the tag must be the one that is being pushed.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderValue, LOCATION, RANGE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::image::sha256;
use super::lock;
use crate::error::{Failure, Result};

/// Blobs up to this size stay in memory, larger ones go to an unnamed file.
const IN_MEMORY: usize = 1 << 20;
/// Manifests and indices are far smaller.
const MANIFEST_LIMIT: usize = 4 << 20;

/// What is done with layers that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// They are kept until the push was taken.
    All,
    /// Only their digest and size are of interest, so that Docker knows them later. Configs are kept all the same.
    Sizes,
}

/// A blob that was pushed.
#[derive(Debug)]
pub enum Blob {
    /// A small one.
    Memory(Vec<u8>),
    /// A large one, in a file that has no name any more.
    File(std::fs::File, u64),
    /// One whose content was not wanted.
    Size(u64),
}

impl Blob {
    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            Blob::Memory(bytes) => bytes.len() as u64,
            Blob::File(_, size) | Blob::Size(size) => *size,
        }
    }

    fn add(&mut self, piece: &[u8], keep: Keep, folder: &Path) -> std::io::Result<()> {
        if let Blob::Memory(bytes) = self {
            if bytes.len() + piece.len() <= IN_MEMORY {
                bytes.extend_from_slice(piece);
                return Ok(());
            }
            let size = bytes.len() as u64;
            *self = match keep {
                Keep::Sizes => Blob::Size(size),
                Keep::All => {
                    let mut file = unnamed(folder)?;
                    file.write_all(bytes)?;
                    Blob::File(file, size)
                }
            };
        }
        if let Blob::File(file, _) = self {
            file.write_all(piece)?;
        }
        if let Blob::File(_, size) | Blob::Size(size) = self {
            *size += piece.len() as u64;
        }
        Ok(())
    }

    /// The content from `offset` on, at most 256 KiB; empty at the end.
    pub fn read(&mut self, offset: u64) -> std::io::Result<Bytes> {
        match self {
            Blob::Memory(bytes) => Ok(Bytes::copy_from_slice(
                bytes.get(offset as usize..).unwrap_or(&[]),
            )),
            Blob::Size(_) => Ok(Bytes::new()),
            Blob::File(file, _) => {
                file.seek(SeekFrom::Start(offset))?;
                let mut piece = Vec::with_capacity(1 << 18);
                file.take(1 << 18).read_to_end(&mut piece)?;
                Ok(piece.into())
            }
        }
    }
}

/// A file that is gone when it is closed, whatever happens.
fn unnamed(folder: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = [0; 8];
    super::memory::random(&mut name).map_err(std::io::Error::other)?;
    let path = folder.join(format!("layer-{:016x}", u64::from_ne_bytes(name)));
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// What is expected of a push.
#[derive(Debug)]
pub struct Expected {
    /// The only tag that may be pushed.
    pub tag: String,
    /// Blobs that need not come, with their sizes.
    pub known: HashMap<String, u64>,
    /// What is done with the others.
    pub keep: Keep,
    /// Bytes that may come in all.
    pub limit: u64,
}

/// What came.
#[derive(Debug, Default)]
pub struct Received {
    /// By digest.
    pub blobs: HashMap<String, Blob>,
    /// By tag or digest, as they were put: manifests, and an index perhaps.
    pub manifests: HashMap<String, Bytes>,
    /// Requests seen, refused ones too.
    pub requests: u64,
}

impl Received {
    /// Digests and sizes of the layers of which nothing else was wanted.
    pub fn sizes(&self) -> impl Iterator<Item = (&String, u64)> {
        let size = |blob: &Blob| match blob {
            Blob::Size(size) => Some(*size),
            Blob::Memory(_) | Blob::File(..) => None,
        };
        self.blobs
            .iter()
            .filter_map(move |(digest, blob)| Some((digest, size(blob)?)))
    }
}

struct Session {
    expected: Expected,
    received: Received,
    uploads: HashMap<u64, Blob>,
    /// That of the first upload; those below are of pushes that were ended, though Docker may not know yet.
    first_upload: u64,
    left: u64,
}

/// The session that an upload belongs to.
fn session_of(session: &mut Option<Session>, upload: u64) -> Option<&mut Session> {
    session
        .as_mut()
        .filter(|session| upload >= session.first_upload)
}

struct Shared {
    /// `/v2/<secret>/<stack>/`
    prefix: String,
    folder: PathBuf,
    session: Mutex<Option<Session>>,
    next_upload: AtomicU64,
    called: Notify,
}

/// The endpoint. It listens as long as it lives.
pub struct Intake {
    shared: Arc<Shared>,
    port: u16,
    _server: AbortOnDropHandle<()>,
}

type Answer = Response<Full<Bytes>>;

impl Intake {
    /// Listens on loopback, on `port` if it is free, for pushes to the repository `<secret>/<name>`.
    pub async fn listen(port: u16, secret: &str, name: &str, folder: &Path) -> Result<Intake> {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
        };
        let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|error| {
            Failure::environment("cannot listen for images on 127.0.0.1").because(error)
        })?;
        let shared = Arc::new(Shared {
            prefix: format!("/v2/{secret}/{name}/"),
            folder: folder.to_owned(),
            session: Mutex::new(None),
            next_upload: AtomicU64::new(0),
            called: Notify::new(),
        });
        let server = AbortOnDropHandle::new(tokio::spawn(serve(listener, shared.clone())));
        Ok(Intake {
            shared,
            port: address.port(),
            _server: server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// What Docker is told to push to.
    pub fn repository(&self) -> String {
        format!("127.0.0.1:{}/{}", self.port, self.path())
    }

    /// The repository's path, which has a secret in it.
    pub fn path(&self) -> &str {
        self.shared
            .prefix
            .trim_start_matches("/v2/")
            .trim_end_matches('/')
    }

    /// Lets one push in. The one before it, if any, is forgotten.
    pub fn expect(&self, expected: Expected) {
        let mut session = lock(&self.shared.session);
        *session = Some(Session {
            left: expected.limit,
            expected,
            received: Received::default(),
            uploads: HashMap::new(),
            first_upload: self.shared.next_upload.load(Ordering::Relaxed),
        });
    }

    /// Waits until something calls.
    pub async fn called(&self) {
        self.shared.called.notified().await;
    }

    /// Ends the push that was let in, and answers what came. Nothing is let in until the next [`expect`](Self::expect).
    pub fn take(&self) -> Received {
        lock(&self.shared.session)
            .take()
            .map(|session| session.received)
            .unwrap_or_default()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, say; it passes.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, std::convert::Infallible>(answer(&shared, request).await) }
            });
            // To Docker 29's TLS hello, hyper answers the plain 400 that makes Docker try again without TLS.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn plain(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

fn with(mut answer: Answer, name: &'static str, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    if path == "/v2/" && matches!(*request.method(), Method::GET | Method::HEAD) {
        count(shared);
        return with(
            plain(StatusCode::OK),
            "Docker-Distribution-Api-Version",
            "registry/2.0",
        );
    }
    // Nobody who does not know the secret can have seen this path.
    let Some(rest) = path.strip_prefix(&shared.prefix) else {
        return plain(StatusCode::NOT_FOUND);
    };
    if !count(shared) {
        return plain(StatusCode::NOT_FOUND);
    }
    let method = request.method().clone();
    let parts: Vec<&str> = rest.split('/').collect();
    match (&method, parts.as_slice()) {
        (&Method::HEAD, ["blobs", digest]) => head_blob(shared, digest),
        (&Method::POST, ["blobs", "uploads", ""] | ["blobs", "uploads"]) => begin(shared),
        (&Method::PATCH | &Method::PUT, ["blobs", "uploads", id]) => match id.parse() {
            Ok(id) => upload(shared, id, request).await,
            Err(_) => plain(StatusCode::NOT_FOUND),
        },
        (&Method::PUT, ["manifests", reference]) => put_manifest(shared, reference, request).await,
        _ => plain(StatusCode::NOT_FOUND),
    }
}

/// Whether a push is under way.
fn count(shared: &Shared) -> bool {
    let mut session = lock(&shared.session);
    let Some(session) = session.as_mut() else {
        return false;
    };
    session.received.requests += 1;
    shared.called.notify_one();
    true
}

fn head_blob(shared: &Shared, digest: &str) -> Answer {
    let session = lock(&shared.session);
    let Some(session) = session.as_ref() else {
        return plain(StatusCode::NOT_FOUND);
    };
    let known = session.expected.known.get(digest).copied();
    match known.or_else(|| session.received.blobs.get(digest).map(Blob::size)) {
        None => plain(StatusCode::NOT_FOUND),
        Some(size) => {
            let found = with(plain(StatusCode::OK), "Docker-Content-Digest", digest);
            with(found, CONTENT_LENGTH.as_str(), &size.to_string())
        }
    }
}

fn upload_at(shared: &Shared, status: StatusCode, id: u64, size: u64) -> Answer {
    let location = format!("{}blobs/uploads/{id}", shared.prefix);
    let answer = with(plain(status), LOCATION.as_str(), &location);
    let answer = with(answer, "Docker-Upload-UUID", &id.to_string());
    with(
        answer,
        RANGE.as_str(),
        &format!("0-{}", size.saturating_sub(1)),
    )
}

fn begin(shared: &Shared) -> Answer {
    let mut session = lock(&shared.session);
    let Some(session) = session.as_mut() else {
        return plain(StatusCode::NOT_FOUND);
    };
    let id = shared.next_upload.fetch_add(1, Ordering::Relaxed);
    session.uploads.insert(id, Blob::Memory(Vec::new()));
    upload_at(shared, StatusCode::ACCEPTED, id, 0)
}

async fn upload(shared: &Shared, id: u64, request: Request<Incoming>) -> Answer {
    let digest = request.uri().query().and_then(digest_of);
    let ends = request.method() == Method::PUT;
    let (mut blob, keep) = {
        let mut session = lock(&shared.session);
        let Some(session) = session_of(&mut session, id) else {
            return plain(StatusCode::NOT_FOUND);
        };
        let Some(blob) = session.uploads.remove(&id) else {
            return plain(StatusCode::NOT_FOUND);
        };
        (blob, session.expected.keep)
    };
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return plain(StatusCode::BAD_REQUEST);
        };
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if !allow(shared, id, piece.len() as u64) {
            return plain(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if let Err(error) = blob.add(&piece, keep, &shared.folder) {
            tracing::warn!(%error, "cannot keep a pushed layer");
            return plain(StatusCode::INSUFFICIENT_STORAGE);
        }
    }
    let size = blob.size();
    let mut session = lock(&shared.session);
    let Some(session) = session_of(&mut session, id) else {
        return plain(StatusCode::NOT_FOUND);
    };
    if !ends {
        session.uploads.insert(id, blob);
        return upload_at(shared, StatusCode::ACCEPTED, id, size);
    }
    let Some(digest) = digest else {
        return plain(StatusCode::BAD_REQUEST);
    };
    let answer = with(plain(StatusCode::CREATED), "Docker-Content-Digest", &digest);
    let location = format!("{}blobs/{digest}", shared.prefix);
    session.received.blobs.insert(digest, blob);
    with(answer, LOCATION.as_str(), &location)
}

/// Takes bytes off what may still come.
fn allow(shared: &Shared, upload: u64, bytes: u64) -> bool {
    let mut session = lock(&shared.session);
    let Some(session) = session_of(&mut session, upload) else {
        return false;
    };
    match session.left.checked_sub(bytes) {
        Some(left) => {
            session.left = left;
            true
        }
        None => false,
    }
}

/// The digest in a query such as `digest=sha256%3A…`.
fn digest_of(query: &str) -> Option<String> {
    let value = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("digest="))?;
    let digest = value.replace("%3A", ":").replace("%3a", ":");
    is_digest(&digest).then_some(digest)
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

async fn put_manifest(shared: &Shared, reference: &str, request: Request<Incoming>) -> Answer {
    let expected = |session: &Session| session.expected.tag == reference || is_digest(reference);
    if !lock(&shared.session).as_ref().is_some_and(expected) {
        return plain(StatusCode::NOT_FOUND);
    }
    let limited = http_body_util::Limited::new(request.into_body(), MANIFEST_LIMIT);
    let Ok(body) = limited.collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let bytes = body.to_bytes();
    let digest = sha256(&bytes);
    if is_digest(reference) && reference != digest {
        return plain(StatusCode::BAD_REQUEST);
    }
    let mut session = lock(&shared.session);
    let Some(session) = session.as_mut() else {
        return plain(StatusCode::NOT_FOUND);
    };
    session
        .received
        .manifests
        .insert(reference.to_owned(), bytes);
    let location = format!("{}manifests/{digest}", shared.prefix);
    let answer = with(plain(StatusCode::CREATED), "Docker-Content-Digest", &digest);
    with(answer, LOCATION.as_str(), &location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_in_queries() {
        let hex = "a".repeat(64);
        assert_eq!(
            digest_of(&format!("digest=sha256%3A{hex}")),
            Some(format!("sha256:{hex}"))
        );
        assert_eq!(
            digest_of(&format!("x=1&digest=sha256:{hex}")),
            Some(format!("sha256:{hex}"))
        );
        assert_eq!(digest_of("digest=sha256:../../x"), None);
        assert_eq!(digest_of(""), None);
    }

    #[tokio::test]
    async fn what_an_ended_push_still_sends_does_not_get_into_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let intake = Intake::listen(0, "s", "i", folder.path()).await.unwrap();
        let expect = || {
            intake.expect(Expected {
                tag: "t".into(),
                known: HashMap::new(),
                keep: Keep::All,
                limit: 10,
            });
        };
        let begin = || begin(&intake.shared).headers()["docker-upload-uuid"].clone();
        expect();
        assert_eq!(begin(), "0");
        assert!(allow(&intake.shared, 0, 9));
        expect();
        assert!(!allow(&intake.shared, 0, 1), "it is of no push any more");
        assert_eq!(begin(), "1");
        assert!(allow(&intake.shared, 1, 10));
    }

    #[test]
    fn large_blobs_go_to_a_file_and_come_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..3 * IN_MEMORY).map(|i| (i % 251) as u8).collect();
        let mut blob = Blob::Memory(Vec::new());
        for piece in content.chunks(100_000) {
            blob.add(piece, Keep::All, folder.path()).unwrap();
        }
        assert!(matches!(blob, Blob::File(..)));
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "the file has no name"
        );
        let mut back = Vec::new();
        loop {
            let piece = blob.read(back.len() as u64).unwrap();
            if piece.is_empty() {
                break;
            }
            back.extend_from_slice(&piece);
        }
        assert!(back == content && blob.size() == content.len() as u64);

        let mut counted = Blob::Memory(Vec::new());
        for piece in content.chunks(100_000) {
            counted.add(piece, Keep::Sizes, folder.path()).unwrap();
        }
        assert!(matches!(counted, Blob::Size(size) if size == content.len() as u64));
    }
}
