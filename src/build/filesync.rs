//! BuildKit's file sync, the sending side: BuildKit hears of every file of the context and asks for those that differ
//! from its copy of the build before.
//!
//! The protocol is fsutil's: a STAT packet each entry in walking order, then an empty one; the other side answers with
//! REQ packets for the ids (places in that order) that it wants and gets DATA packets, the last one empty; FIN ends.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bollard::grpc::build::fsutil::types::{Packet, Stat, packet::PacketType};
use bollard::grpc::build::moby::filesync::v1::file_sync_server::FileSync as Service;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::context::Context;
use super::digests;
use super::entries::{Entry, What};
use super::plan::ImagePlan;

/// The name that BuildKit is told for the Dockerfile, wherever that is.
pub const DOCKERFILE: &str = "Dockerfile";
const CHUNK: usize = 64 * 1024;
/// Packets under way: a few MiB at most.
const QUEUE: usize = 32;

/// Serves one plan's Dockerfile and context.
#[derive(Debug, Clone)]
pub struct FileSync {
    dockerfile: Arc<str>,
    context: Arc<Context>,
    changed: Changed,
}

/// The first file that was not what the plan says when it was sent.
pub type Changed = Arc<OnceLock<PathBuf>>;

impl FileSync {
    /// Serves a plan, and says in `changed` when the files no longer fit it.
    pub fn new(plan: &ImagePlan, changed: Changed) -> Self {
        FileSync {
            dockerfile: plan.dockerfile.clone(),
            context: plan.context.clone(),
            changed,
        }
    }
}

/// What BuildKit asks to see.
enum Tree {
    /// The Dockerfile alone. The `.dockerignore` is applied here, so BuildKit must not see one.
    Dockerfile(Arc<str>),
    Context(Arc<Context>),
    Nothing,
}

type Packets = BoxStream<'static, Result<Packet, Status>>;

#[tonic::async_trait]
impl Service for FileSync {
    type DiffCopyStream = Packets;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Packets>, Status> {
        let values = |key| {
            request
                .metadata()
                .get_all(key)
                .iter()
                .filter_map(|value| value.to_str().ok())
        };
        let only_ignore = values("followpaths").eq([".dockerignore"])
            || values("include-patterns").eq([".dockerignore"]);
        let tree = match values("dir-name").next() {
            Some("dockerfile") => Tree::Dockerfile(self.dockerfile.clone()),
            Some("context") if only_ignore => Tree::Nothing,
            Some("context") => Tree::Context(self.context.clone()),
            name => return Err(Status::not_found(format!("no folder {name:?}"))),
        };
        let (packets, stream) = mpsc::channel(QUEUE);
        let (wanted, wants) = mpsc::unbounded_channel();
        tokio::spawn(receive(request.into_inner(), wanted));
        let changed = self.changed.clone();
        tokio::task::spawn_blocking(move || Sender { packets, changed }.run(&tree, wants));
        let stream = futures::stream::unfold(stream, |mut stream| async {
            Some((stream.recv().await?, stream))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    type TarStreamStream = Packets;

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        Err(Status::unimplemented("BuildKit asks for DiffCopy first"))
    }
}

/// A request of the receiver's; the end of the channel is the end of the stream.
enum Want {
    File(u32),
    Finish,
}

/// Requests are taken in at once, since the receiver stops reading when it can't ask. They are as many as there are
/// files, at most.
async fn receive(mut packets: Streaming<Packet>, wanted: mpsc::UnboundedSender<Want>) {
    while let Ok(Some(packet)) = packets.message().await {
        let want = match packet.r#type() {
            PacketType::PacketReq => Want::File(packet.id),
            PacketType::PacketFin => Want::Finish,
            PacketType::PacketErr => return,
            _ => continue,
        };
        if wanted.send(want).is_err() {
            return;
        }
    }
}

struct Sender {
    packets: mpsc::Sender<Result<Packet, Status>>,
    changed: Changed,
}

/// The other side is gone.
struct Gone;

impl Sender {
    fn run(self, tree: &Tree, wants: mpsc::UnboundedReceiver<Want>) {
        // Nobody is left to be told of it.
        let _gone = self.serve(tree, wants);
    }

    fn serve(&self, tree: &Tree, mut wants: mpsc::UnboundedReceiver<Want>) -> Result<(), Gone> {
        match tree {
            Tree::Dockerfile(text) => self.stat(dockerfile_stat(text))?,
            Tree::Context(context) => context
                .entries
                .iter()
                .try_for_each(|entry| self.stat(entry_stat(entry)))?,
            Tree::Nothing => {}
        }
        self.send(Packet {
            r#type: PacketType::PacketStat.into(),
            ..Packet::default()
        })?;
        while let Some(want) = wants.blocking_recv() {
            match (want, tree) {
                (Want::Finish, _) => {
                    return self.send(Packet {
                        r#type: PacketType::PacketFin.into(),
                        ..Packet::default()
                    });
                }
                (Want::File(0), Tree::Dockerfile(text)) => {
                    self.data(0, text.as_bytes().to_vec())?;
                    self.data(0, Vec::new())?;
                }
                (Want::File(id), Tree::Context(context)) => {
                    match context.entries.get(id as usize) {
                        Some(entry) => self.file(id, context, entry)?,
                        None => return self.fail(format!("there is no file {id}")),
                    }
                }
                (Want::File(id), _) => return self.fail(format!("there is no file {id}")),
            }
        }
        Ok(())
    }

    /// Sends a file's content, and ends it only if it is what the plan says.
    fn file(&self, id: u32, context: &Context, entry: Entry<&str>) -> Result<(), Gone> {
        let What::File { size, digest } = entry.what else {
            return self.fail(format!("{} is not a file", entry.path));
        };
        let path = context.root.join(entry.path);
        let mut hasher = blake3::Hasher::new();
        let Ok(file) = digests::open(&path) else {
            return self.changed(path);
        };
        // One byte more than it should be shows that it grew.
        let mut file = file.take(size + 1);
        loop {
            let mut data = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK) + 1)];
            match file.read(&mut data) {
                Ok(0) => break,
                Ok(read) => {
                    data.truncate(read);
                    hasher.update(&data);
                    self.data(id, data)?;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return self.changed(path),
            }
        }
        if digests::of(&hasher) != digest {
            return self.changed(path);
        }
        self.data(id, Vec::new())
    }

    fn stat(&self, stat: Stat) -> Result<(), Gone> {
        self.send(Packet {
            r#type: PacketType::PacketStat.into(),
            stat: Some(stat),
            ..Packet::default()
        })
    }

    fn data(&self, id: u32, data: Vec<u8>) -> Result<(), Gone> {
        self.send(Packet {
            r#type: PacketType::PacketData.into(),
            id,
            data,
            ..Packet::default()
        })
    }

    fn changed(&self, path: PathBuf) -> Result<(), Gone> {
        let message = format!("{} changed while it was sent", path.display());
        // The first one is the one to tell of.
        let _ = self.changed.set(path);
        self.fail(message)
    }

    fn fail(&self, message: String) -> Result<(), Gone> {
        let data = message.clone().into_bytes();
        self.send(Packet {
            r#type: PacketType::PacketErr.into(),
            data,
            ..Packet::default()
        })?;
        self.packets
            .blocking_send(Err(Status::aborted(message)))
            .map_err(|_| Gone)?;
        Err(Gone)
    }

    fn send(&self, packet: Packet) -> Result<(), Gone> {
        self.packets.blocking_send(Ok(packet)).map_err(|_| Gone)
    }
}

fn dockerfile_stat(text: &str) -> Stat {
    let digest = digests::of_bytes(text.as_bytes());
    Stat {
        path: DOCKERFILE.to_owned(),
        mode: 0o644,
        size: text.len() as i64,
        mod_time: marked(1_000_000_000, &digest),
        ..Stat::default()
    }
}

fn entry_stat(entry: Entry<&str>) -> Stat {
    let mut stat = Stat {
        path: entry.path.to_string(),
        mod_time: entry.mtime_ns,
        ..Stat::default()
    };
    stat.mode = go_mode(entry.mode);
    match entry.what {
        What::Folder => stat.mode |= 1 << 31,
        What::Link(target) => {
            stat.mode = 1 << 27 | 0o777;
            stat.linkname = target.to_string();
        }
        What::File { size, digest } => {
            stat.size = size as i64;
            stat.mod_time = marked(entry.mtime_ns, &digest);
        }
    }
    stat
}

/// A time of the same second whose nanoseconds follow from the content.
///
/// BuildKit takes a file of the same size and time for unchanged; unpacked archives often have one date for all their
/// files. So the content must show in the time. Whole seconds stay, as programs that compare them expect.
fn marked(mtime_ns: i64, digest: &digests::Digest) -> i64 {
    let mark = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) % 1_000_000_000;
    mtime_ns
        .div_euclid(1_000_000_000)
        .saturating_mul(1_000_000_000)
        .saturating_add(mark.into())
}

/// Go's `os.FileMode` has the special bits elsewhere.
fn go_mode(mode: u16) -> u32 {
    let mode = u32::from(mode);
    let moved = |bit: u32, to: u32| if mode & bit == 0 { 0 } else { 1 << to };
    mode & 0o777 | moved(0o4000, 23) | moved(0o2000, 22) | moved(0o1000, 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        for (unix, go) in [
            (0o644, 0o644),
            (0o4755, 1 << 23 | 0o755),
            (0o1777, 1 << 20 | 0o777),
        ] {
            assert_eq!(go_mode(unix), go, "{unix:o}");
        }
    }

    #[test]
    fn a_marked_time_keeps_its_second() {
        for time in [-1, 0, 1_700_000_000_123_456_789] {
            let one = marked(time, &[1; 16]);
            assert_eq!(
                one.div_euclid(1_000_000_000),
                time.div_euclid(1_000_000_000)
            );
            assert_ne!(one, marked(time, &[2; 16]));
        }
    }
}
