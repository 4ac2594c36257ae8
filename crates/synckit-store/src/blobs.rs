//! Blobs and uploads, as a store takes and returns them.

use synckit_protocol::{BlobId, KeyId, ObjectKey, SealedHash, UploadId, wire::UnixSeconds};

use crate::{
    ids::StreamId,
    rules::quotas::{PlanRoom, Quota},
};

/// An upload to begin.
#[derive(Debug, Clone, Copy)]
pub struct NewUpload {
    /// The stream.
    pub stream: StreamId,
    /// Its id.
    pub upload_id: UploadId,
    /// The object that it will write, never used before.
    pub object_key: ObjectKey,
    /// The blob.
    pub blob_id: BlobId,
    /// The sealed size.
    pub size: u64,
    /// The hash of the sealed bytes, if the client knows it already.
    pub sealed_hash: Option<SealedHash>,
    /// Whether nothing begins: the caller only asks if an upload is needed.
    pub only_asks: bool,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// Begin even if the blob exists.
    pub replace: bool,
    /// Bring a deleted blob back. Otherwise nothing changes, and the answer is [`UploadBegin::Deleted`].
    pub brings_back: bool,
    /// What its app leaves to it.
    pub room: PlanRoom,
    /// When the URL stops working, or the time for the parts ends.
    pub expires_at: UnixSeconds,
}

/// The answer of [`crate::Store::begin_upload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadBegin {
    /// The upload has begun.
    Begun,
    /// The upload is needed, and has not begun: the caller only asked.
    Needed,
    /// The blob exists, or was deleted and is restored.
    AlreadyExists,
    /// The blob is deleted, has this sealed size, and can be brought back.
    Deleted(u64),
    /// The account would keep more than it may.
    OverQuota(Quota),
}

/// An upload that is begun and not confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingUpload {
    /// Its id.
    pub upload_id: UploadId,
    /// The blob.
    pub blob_id: BlobId,
    /// The object that it writes.
    pub object_key: ObjectKey,
    /// The sealed size.
    pub size: u64,
    /// When its URL stops working, or the time for its parts ends.
    pub expires_at: UnixSeconds,
    /// The name that a bucket gave it, if it is an upload in parts.
    pub multipart_id: Option<String>,
    /// The hash that the object must have, unless the client names it at the end.
    pub sealed_hash: Option<SealedHash>,
}

/// A confirmed blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Its id.
    pub blob_id: BlobId,
    /// The object that holds it.
    pub object_key: ObjectKey,
    /// The sealed size.
    pub size: u64,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// When it was confirmed.
    pub created_at: UnixSeconds,
}
