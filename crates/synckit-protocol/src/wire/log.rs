//! `/api/sync/push`, `/api/sync/pull`, `/api/sync/chain` and `/api/sync/status`.

use serde::{Deserialize, Serialize};

use super::snapshots::SnapshotInfo;
use crate::{BatchDigest, BatchId, ByteString, Cursor, DeviceId, Head, KeyId, Position};

/// `POST /api/sync/push`: one sealed batch, appended atomically.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::log::Push;
///
/// let json = concat!(
///     r#"{"device_id":"c1c1c1c1-c1c1-4c1c-81c1-c1c1c1c1c1c1","#,
///     r#""batch_id":"0190c2a4-7d1e-7f00-8a00-0123456789ab","#,
///     r#""key_id":"d558363920333aa915896fb8f72e0b8e","count":1,"parent":{"seq":6,"#,
///     r#""head":"RjV6e6CD_1xulA3xGydOVvD3ZLliZca8Di9E6ztI3Rs"},"sealed":"FT37"}"#,
/// );
/// let push: Push = serde_json::from_str(json)?;
/// assert_eq!(push.parent.seq, 6);
/// assert_eq!(serde_json::to_string(&push)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Push {
    /// The device that pushes.
    pub device_id: DeviceId,
    /// The id of the batch, which makes a repeated push idempotent.
    pub batch_id: BatchId,
    /// The master key that the batch is sealed under.
    pub key_id: KeyId,
    /// The number of entries, 1 to 500.
    pub count: u32,
    /// The position that it was sealed on top of.
    pub parent: Position,
    /// The sealed batch.
    pub sealed: ByteString,
}

/// The answer to [`Push`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pushed {
    /// The sequence of the first entry.
    pub first_seq: u64,
    /// The sequence of the last entry.
    pub last_seq: u64,
    /// The head after the batch.
    pub head: Head,
}

/// `POST /api/sync/pull`: the batches after a cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pull {
    /// The device that pulls.
    pub device_id: DeviceId,
    /// The cursor to continue from.
    pub cursor: Cursor,
    /// The most sealed bytes in the page; a first batch that is larger is still returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u32>,
    /// The device reads ahead of its app: the cursor does not allow the server to delete anything.
    #[serde(
        default,
        deserialize_with = "super::flag",
        skip_serializing_if = "std::ops::Not::not"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>"))]
    pub ahead: bool,
    /// The device could not use the newest snapshot: the page comes from the log if it is complete, otherwise from the
    /// oldest snapshot.
    #[serde(
        default,
        deserialize_with = "super::flag",
        skip_serializing_if = "std::ops::Not::not"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>"))]
    pub avoid_snapshot: bool,
}

/// The answer to [`Pull`]: one page, which ends at a batch boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Page {
    /// The batches in log order.
    pub batches: Vec<PulledBatch>,
    /// The cursor after the last of them.
    pub cursor: Cursor,
    /// Whether more follow.
    pub has_more: bool,
    /// In place of the log's start: a snapshot to read first. Then `batches` is empty, `cursor` is the snapshot's
    /// position, and `has_more` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotInfo>,
}

/// A batch of a [`Page`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PulledBatch {
    /// The batch.
    pub batch_id: BatchId,
    /// The device that pushed it.
    pub device_id: DeviceId,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// The sequence of its first entry.
    pub first_seq: u64,
    /// The number of entries.
    pub count: u32,
    /// The sealed batch.
    pub sealed: ByteString,
}

/// `GET /api/sync/chain?from=<cursor>`: the digests of the batches after a cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Chain {
    /// The digests in log order, at most [`crate::limits::CHAIN_PAGE_DIGESTS_MAX`].
    pub digests: Vec<BatchDigest>,
    /// The stream's newest position as the server claims it.
    pub latest: Position,
    /// Whether more follow.
    pub has_more: bool,
}

/// `GET /api/sync/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// Entries in the stream since its start.
    pub change_count: u64,
    /// The stream's newest position as the server claims it: unverified, and not a cursor.
    pub latest: Position,
    /// Bytes of this user in this app on the server: batches, snapshots and blobs.
    pub stored_bytes: u64,
    /// The newest snapshot, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotInfo>,
    /// Devices that are not revoked.
    pub devices: u32,
    /// The limits in force.
    pub limits: Limits,
}

/// The limits of a server, for clients that want to show or respect them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Entries in one batch.
    pub batch_entries_max: u32,
    /// Bytes of one sealed batch.
    pub batch_sealed_bytes_max: u64,
    /// Bytes of one sealed blob.
    pub blob_sealed_bytes_max: u64,
    /// Devices of one account in one app.
    pub devices_max: u32,
}
