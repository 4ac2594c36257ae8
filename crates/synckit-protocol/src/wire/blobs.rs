//! `/api/sync/blobs`. On the wire `hash` is the blob id and `size` the sealed size.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use crate::{BlobId, KeyId, SealedHash, UploadId};

/// `POST /api/sync/blobs/upload`: requests a URL for an upload.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::blobs::BlobUpload;
///
/// let json = concat!(
///     r#"{"hash":"2f8c5c1d64b4c0fd37e1e5e81c26d1a02f8c5c1d64b4c0fd37e1e5e81c26d1a0","#,
///     r#""size":1040,"sealed_hash":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU","#,
///     r#""key_id":"d558363920333aa915896fb8f72e0b8e"}"#,
/// );
/// let upload: BlobUpload = serde_json::from_str(json)?;
/// assert_eq!(upload.size, 1000 + 40); // the sealed size
/// assert_eq!(serde_json::to_string(&upload)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlobUpload {
    /// The blob id.
    pub hash: BlobId,
    /// The sealed size: exactly 40 bytes more than the file.
    pub size: u64,
    /// The hash of the sealed bytes ([`crate::SealedHasher`]): no others are accepted. Without it and without
    /// `hash_at_confirm`, the request only asks whether the server has the blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_hash: Option<SealedHash>,
    /// The client will know the hash when it has sent the bytes, and names it in `confirm`. A server whose URLs need it
    /// before gives none.
    #[serde(
        default,
        deserialize_with = "super::flag",
        skip_serializing_if = "std::ops::Not::not"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>"))]
    pub hash_at_confirm: bool,
    /// The master key that the blob is sealed under.
    pub key_id: KeyId,
    /// Requests a URL even if the server has the blob, because this device found it corrupt.
    #[serde(
        default,
        deserialize_with = "super::flag",
        skip_serializing_if = "std::ops::Not::not"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>"))]
    pub replace: bool,
}

/// The answer to [`BlobUpload`]: a presigned URL for one `PUT` of exactly `size` bytes, with the hash `sealed_hash` if the
/// request named it. No URL if the server has the blob, or the request only asked, or its `hash_at_confirm` is too late for
/// this server: then the client asks again with `sealed_hash`. A blob of more than [`crate::limits::UPLOAD_WHOLE_BYTES_MAX`]
/// bytes gets an `upload_id` and no URL: each of its parts asks for its own ([`UploadPart`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlobUploadAnswer {
    /// Whether the server already has the blob. Then no upload is needed.
    pub already_exists: bool,
    /// The URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_url: Option<String>,
    /// Required headers of the `PUT`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The id of this upload, for `confirm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<UploadId>,
    /// When the URL stops working, or the time for the parts ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixSeconds>,
}

/// `POST /api/sync/blobs/uploads/{upload_id}/parts`: requests a URL for one part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UploadPart {
    /// The number of the part, from 1 ([`crate::Parts`]).
    pub number: u32,
    /// SHA-256 of its bytes: the URL accepts no others.
    pub sealed_hash: SealedHash,
}

/// The answer to [`UploadPart`]: a presigned URL for one `PUT` of exactly these bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UploadPartAnswer {
    /// The URL.
    pub upload_url: String,
    /// Required headers of the `PUT`.
    pub headers: BTreeMap<String, String>,
    /// When the URL stops working.
    pub expires_at: UnixSeconds,
}

/// `GET /api/sync/blobs/uploads/{upload_id}`: what an upload in parts has, so that a client can go on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UploadStatus {
    /// Whether the server has the blob meanwhile, from another upload.
    pub already_exists: bool,
    /// The parts that have arrived, in order of their numbers.
    pub parts: Vec<UploadPart>,
    /// When the time for the parts ends.
    pub expires_at: UnixSeconds,
}

/// `POST /api/sync/blobs/confirm`: makes an uploaded object available. Idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlobConfirm {
    /// The blob id.
    pub hash: BlobId,
    /// The sealed size.
    pub size: u64,
    /// The upload to confirm; without it, the newest complete one of this blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<UploadId>,
    /// The hash of the sealed bytes, which the object must have. Required if the upload began with `hash_at_confirm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_hash: Option<SealedHash>,
}

/// `POST /api/sync/blobs/download`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlobDownload {
    /// The blob id.
    pub hash: BlobId,
}

/// The answer to [`BlobDownload`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlobDownloadAnswer {
    /// The presigned URL; it supports `Range`.
    pub download_url: String,
    /// The sealed size.
    pub size: u64,
    /// The master key that the blob is sealed under.
    pub key_id: KeyId,
    /// When the URL stops working.
    pub expires_at: UnixSeconds,
}

/// One entry of a [`BlobList`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlobInfo {
    /// The blob id.
    pub hash: BlobId,
    /// The sealed size.
    pub size: u64,
    /// The master key that the blob is sealed under.
    pub key_id: KeyId,
    /// When it was confirmed.
    pub created_at: UnixSeconds,
}

/// `GET /api/sync/blobs?after=<hash>`: the blobs of the user in this app, in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlobList {
    /// At most [`crate::limits::BLOB_PAGE_MAX`] blobs.
    pub blobs: Vec<BlobInfo>,
    /// Whether more follow after the last.
    pub has_more: bool,
}
