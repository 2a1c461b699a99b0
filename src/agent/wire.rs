//! How the daemon and the agent talk: frames over the agent's standard streams, and the opening of a dialled
//! connection.
//!
//! A frame is the length of the rest, a number that tells which answer belongs to which request, the length of its
//! head, the head in JSON, and bytes. All numbers are big-endian.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What the daemon asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// The first request: where to take connections for pods, and the key that they must know.
    Begin {
        /// The node's address; none: no connections are taken.
        address: Option<std::net::IpAddr>,
        /// 32 random bytes.
        key: [u8; 32],
    },
    /// Puts and deletes files below a container's root, in this order. The bytes are the contents, one after the other.
    Sync {
        /// The container's id, without the runtime's name before it.
        container: String,
        /// What to do.
        files: Vec<Change>,
    },
    /// Ends a container's first process, so that the kubelet starts it anew.
    Restart {
        /// The container's id, without the runtime's name before it.
        container: String,
        /// Milliseconds from SIGTERM to SIGKILL.
        grace: u64,
    },
    /// Makes a container's first process become its program again, in place; the others in the container are ended.
    Rerun {
        /// The container's id, without the runtime's name before it.
        container: String,
    },
    /// Runs a command in the node; the bytes are its standard input.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
    },
}

/// One file of a [`Request::Sync`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The path in the container; relative ones count from its root.
    pub path: String,
    /// The new content; none: the file is deleted.
    pub put: Option<Put>,
}

/// A file's new content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Put {
    /// Bytes, of those that come with the request.
    pub size: u64,
    /// Permission bits of a file that is new; one that is replaced keeps its own.
    pub mode: u32,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// To [`Request::Begin`].
    Begun {
        /// The port that connections are taken on.
        port: Option<u16>,
    },
    /// To [`Request::Sync`], one for each file.
    Synced {
        /// In the order of the request.
        files: Vec<Done>,
    },
    /// To [`Request::Restart`] and [`Request::Rerun`].
    Restarted {
        /// Whether it took a SIGKILL.
        killed: bool,
    },
    /// To [`Request::Run`]; the bytes are standard output and then standard error.
    Ran {
        /// The exit code; none after a signal.
        code: Option<i32>,
        /// Bytes of standard output.
        stdout: u64,
    },
    /// To any request.
    Failed {
        /// Why, as a sentence without a full stop.
        why: String,
        /// Whether the container or pod is not there (any more).
        gone: bool,
    },
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Done {
    /// It has the new content. A reader saw the old file or the new one, never half of it.
    Replaced,
    /// It has the new content, and was written in place, since it is a mount of its own.
    InPlace,
    /// It is gone.
    Deleted,
    /// It was not there.
    Absent,
    /// It is as before.
    Failed {
        /// Why, as a sentence without a full stop.
        why: String,
        /// The container has it on a file system that cannot be written to.
        read_only: bool,
    },
}

/// Larger frames are not sent, and not taken.
pub const FRAME_LIMIT: usize = 256 << 20;

/// A frame as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<T> {
    /// Answers have their request's.
    pub id: u64,
    /// The head.
    pub head: T,
    /// The bytes.
    pub body: Vec<u8>,
}

/// A frame's bytes, `body` in pieces that are put together.
pub fn encode(id: u64, head: &impl Serialize, body: &[&[u8]]) -> std::io::Result<Vec<u8>> {
    let head = serde_json::to_vec(head)?;
    let rest = 12 + head.len() + body.iter().map(|piece| piece.len()).sum::<usize>();
    if rest > FRAME_LIMIT {
        return Err(std::io::Error::other("too much for one request"));
    }
    let mut frame = Vec::with_capacity(4 + rest);
    frame.extend_from_slice(&(rest as u32).to_be_bytes());
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(&(head.len() as u32).to_be_bytes());
    frame.extend_from_slice(&head);
    body.iter().for_each(|piece| frame.extend_from_slice(piece));
    Ok(frame)
}

/// The length of the rest of a frame that begins with these bytes.
pub fn length(first: [u8; 4]) -> std::io::Result<usize> {
    match u32::from_be_bytes(first) as usize {
        length if (12..=FRAME_LIMIT).contains(&length) => Ok(length),
        _ => Err(malformed()),
    }
}

/// A frame from what follows its length.
pub fn decode<T: DeserializeOwned>(rest: &[u8]) -> std::io::Result<Frame<T>> {
    let (id, rest) = rest.split_first_chunk::<8>().ok_or_else(malformed)?;
    let (head, rest) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
    let head = u32::from_be_bytes(*head) as usize;
    let (head, body) = rest.split_at_checked(head).ok_or_else(malformed)?;
    Ok(Frame {
        id: u64::from_be_bytes(*id),
        head: serde_json::from_slice(head)?,
        body: body.to_vec(),
    })
}

fn malformed() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "not a frame of llmdev's")
}

/// Bytes that the agent sends first on a connection. The opening is made with them, so that it is of no use twice.
pub const NONCE: usize = 32;
/// Bytes of an [`opening`].
pub const OPENING: usize = 32 + UID + 2;
const UID: usize = 64;

/// In a pod's place: the socket of the node's containerd.
pub const CONTAINERD: &str = "containerd";

/// What a connection for a pod begins with: which pod and port, and the proof that the key is known.
pub fn opening(
    key: &[u8; 32],
    nonce: &[u8; NONCE],
    pod: &str,
    port: u16,
) -> std::io::Result<[u8; OPENING]> {
    if pod.len() > UID || !is_id(pod) {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "not a pod's uid",
        ));
    }
    let mut opening = [0; OPENING];
    opening[32..32 + pod.len()].copy_from_slice(pod.as_bytes());
    opening[32 + UID..].copy_from_slice(&port.to_be_bytes());
    let proof = proof(key, nonce, &opening[32..]);
    opening[..32].copy_from_slice(proof.as_bytes());
    Ok(opening)
}

/// The pod and port of an opening, if it was made with the key.
pub fn opened(
    key: &[u8; 32],
    nonce: &[u8; NONCE],
    opening: &[u8; OPENING],
) -> Option<(String, u16)> {
    let (given, rest) = opening.split_first_chunk::<32>()?;
    // Hashes are compared in constant time.
    if proof(key, nonce, rest) != *given {
        return None;
    }
    let (pod, port) = rest.split_last_chunk::<2>()?;
    let pod = std::str::from_utf8(pod).ok()?.trim_end_matches('\0');
    is_id(pod).then(|| (pod.to_owned(), u16::from_be_bytes(*port)))
}

fn proof(key: &[u8; 32], nonce: &[u8; NONCE], what: &[u8]) -> blake3::Hash {
    blake3::keyed_hash(key, &[nonce.as_slice(), what].concat())
}

/// Whether it can be a pod's uid or a container's id, and so can be searched for.
pub fn is_id(text: &str) -> bool {
    text.len() >= 8
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The one byte that answers an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialled {
    /// Connected; what follows is the pod's.
    Yes = 0,
    /// Nothing listens there.
    Refused = 1,
    /// The node has no such pod, or it has no process.
    NoPod = 2,
    /// Something else.
    Failed = 3,
}

impl Dialled {
    /// From the byte.
    pub fn from_byte(byte: u8) -> Dialled {
        match byte {
            0 => Dialled::Yes,
            1 => Dialled::Refused,
            2 => Dialled::NoPod,
            _ => Dialled::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_come_back() {
        let head = Request::Run {
            argv: vec!["true".into()],
        };
        let bytes = encode(7, &head, &[b"ab", b"c"]).unwrap();
        let rest = length(bytes[..4].try_into().unwrap()).unwrap();
        assert_eq!(rest, bytes.len() - 4);
        let frame: Frame<Request> = decode(&bytes[4..]).unwrap();
        assert_eq!(
            frame,
            Frame {
                id: 7,
                head,
                body: b"abc".to_vec()
            }
        );
    }

    #[test]
    fn an_opening_is_of_use_with_its_key_and_nonce_only() {
        let (key, nonce) = ([1; 32], [2; NONCE]);
        let uid = "f41e57fd-ef50-4aa2-9d9c-0ffb655d972e";
        let good = opening(&key, &nonce, uid, 8080).unwrap();
        assert_eq!(opened(&key, &nonce, &good), Some((uid.to_owned(), 8080)));
        assert_eq!(opened(&[3; 32], &nonce, &good), None);
        assert_eq!(opened(&key, &[3; NONCE], &good), None, "replayed");
        for at in 0..OPENING {
            let mut bad = good;
            bad[at] ^= 1;
            assert_eq!(opened(&key, &nonce, &bad), None, "byte {at}");
        }
        assert!(opening(&key, &nonce, "../../etc", 1).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = decode::<Request>(&bytes);
            if let Some(first) = bytes.first_chunk::<4>() {
                let _ = length(*first);
            }
        }
    }
}
