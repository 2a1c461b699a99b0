//! What containerd's API says, as far as it is used here: <https://github.com/containerd/containerd/tree/main/api>.

use std::collections::HashMap;

use prost::Message;

/// Names a blob.
#[derive(Clone, PartialEq, Message)]
pub struct Descriptor {
    #[prost(string, tag = "1")]
    pub media_type: String,
    #[prost(string, tag = "2")]
    pub digest: String,
    #[prost(int64, tag = "3")]
    pub size: i64,
}

/// A reference, and the manifest that it points to.
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(map = "string, string", tag = "2")]
    pub labels: HashMap<String, String>,
    #[prost(message, optional, tag = "3")]
    pub target: Option<Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ListImages {
    #[prost(string, repeated, tag = "1")]
    pub filters: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Images {
    #[prost(message, repeated, tag = "1")]
    pub images: Vec<Image>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CreateImage {
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
}

/// The fields that an update is for.
#[derive(Clone, PartialEq, Message)]
pub struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    pub paths: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct UpdateImage {
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
    #[prost(message, optional, tag = "2")]
    pub update_mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ListSnapshots {
    #[prost(string, tag = "1")]
    pub snapshotter: String,
}

/// [`Snapshot::kind`] of an unpacked layer.
pub const COMMITTED: i32 = 3;

#[derive(Clone, PartialEq, Message)]
pub struct Snapshot {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int32, tag = "3")]
    pub kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Snapshots {
    #[prost(message, repeated, tag = "1")]
    pub info: Vec<Snapshot>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PrepareSnapshot {
    #[prost(string, tag = "1")]
    pub snapshotter: String,
    #[prost(string, tag = "2")]
    pub key: String,
    #[prost(string, tag = "3")]
    pub parent: String,
}

/// How a snapshot is mounted.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub source: String,
    #[prost(string, tag = "3")]
    pub target: String,
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Mounts {
    #[prost(message, repeated, tag = "1")]
    pub mounts: Vec<Mount>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CommitSnapshot {
    #[prost(string, tag = "1")]
    pub snapshotter: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub key: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct RemoveSnapshot {
    #[prost(string, tag = "1")]
    pub snapshotter: String,
    #[prost(string, tag = "2")]
    pub key: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ApplyDiff {
    #[prost(message, optional, tag = "1")]
    pub diff: Option<Descriptor>,
    #[prost(message, repeated, tag = "2")]
    pub mounts: Vec<Mount>,
}

/// [`Write::action`]: these are more bytes.
pub const WRITE: i32 = 1;
/// [`Write::action`]: that was all.
pub const COMMIT: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub struct Write {
    #[prost(int32, tag = "1")]
    pub action: i32,
    #[prost(string, tag = "2")]
    pub reference: String,
    #[prost(int64, tag = "3")]
    pub total: i64,
    #[prost(string, tag = "4")]
    pub expected: String,
    #[prost(int64, tag = "5")]
    pub offset: i64,
    #[prost(bytes = "bytes", tag = "6")]
    pub data: bytes::Bytes,
    #[prost(map = "string, string", tag = "7")]
    pub labels: HashMap<String, String>,
}

/// A blob's digest and labels.
#[derive(Clone, PartialEq, Message)]
pub struct Content {
    #[prost(string, tag = "1")]
    pub digest: String,
    #[prost(map = "string, string", tag = "5")]
    pub labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct UpdateContent {
    #[prost(message, optional, tag = "1")]
    pub info: Option<Content>,
    #[prost(message, optional, tag = "2")]
    pub update_mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CreateLease {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(map = "string, string", tag = "3")]
    pub labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DeleteLease {
    #[prost(string, tag = "1")]
    pub id: String,
}

/// An answer that nobody reads.
#[derive(Clone, PartialEq, Message)]
pub struct Anything {}
