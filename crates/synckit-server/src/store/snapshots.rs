//! Snapshots and what they let go, as a store takes and returns them.

use bytes::Bytes;
use synckit_protocol::{
    KeyId, OwnerKey, Position, SnapshotId,
    wire::{UnixSeconds, snapshots::SnapshotInfo},
};

use super::StreamId;

/// A part of a snapshot that has no manifest yet.
#[derive(Debug, Clone)]
pub struct NewSnapshotPart {
    /// The stream.
    pub stream: StreamId,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Which part it is, from 0.
    pub part: u32,
    /// The sealed bytes.
    pub sealed: Bytes,
    /// Now.
    pub now: UnixSeconds,
}

/// The answer of [`super::Store::put_snapshot_part`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotPartWrite {
    /// Stored, or there already.
    Stored,
    /// Encryption is not set up.
    NoEnvelope,
    /// The snapshot is complete, with another part in this place, or is over.
    Stale,
}

/// A manifest: the end of an upload.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let store = synckit_server::store::SqliteStore::open(&directory.path().join("store.db"), Default::default())?;
/// # use synckit_protocol::{AppId, DeviceId, KeyId, SessionId, UserId};
/// # use synckit_server::store::{NewAccount, NewApiKey, NewApp, SecretHash, StreamId};
/// # let stream = StreamId { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// # let session = SessionId::from_bytes([3; 16]);
/// # let device = DeviceId::from_bytes([4; 16]);
/// # let key_id = KeyId::from_bytes([5; 16]);
/// # { use synckit_server::store::Store;
/// # let key = NewApiKey { hash: SecretHash([1; 32]), prefix: "sk_1".into(), created_at: 1 };
/// # store.create_app(NewApp { id: stream.app_id, name: "Notes".into(), key }).await?;
/// # store.create_account(NewAccount {
/// #     user_id: stream.user_id, email: "me@example.com".into(),
/// #     record: vec![1], vault: vec![1], invite: None, created_at: 1,
/// # }).await?;
/// # let (platform, name) = (synckit_protocol::wire::devices::Platform::Linux, "laptop".to_owned());
/// # store.open_session(synckit_server::store::NewSession { id: session, stream, now: 1 }).await?;
/// # store.register_device(synckit_server::store::NewDevice {
/// #     stream, new_id: device, name, platform, session_id: session, now: 1,
/// # }).await?;
/// # let owner = synckit_protocol::OwnerKey::from_bytes([5; 32]);
/// # store.put_envelope(synckit_server::store::NewEnvelope {
/// #     stream, envelope: vec![1], key_id, expected_version: 0, head: None, owner, signed_by: Some(owner), now: 1,
/// # }).await?;
/// # }
/// # use synckit_protocol::{BatchDigest, BatchId, Position, SealedHash};
/// # let sealed = bytes::Bytes::from_static(b"what a device sealed on top of the start");
/// # let digest = BatchDigest {
/// #     batch_id: BatchId::from_bytes([6; 16]), device_id: device, key_id,
/// #     count: 20, sealed_hash: SealedHash::of(&sealed),
/// # };
/// # let start = Position::start_of(stream.app_id, stream.user_id);
/// # let position = start.advance(&digest).ok_or("none")?;
/// # store.append_batch(synckit_server::store::NewBatch { stream, parent: start, digest, sealed, now: 100 }).await?;
/// use synckit_protocol::{OwnerKey, SnapshotId};
/// use synckit_server::store::{NewSnapshot, NewSnapshotPart, Retention, SnapshotPartWrite, SnapshotWrite, Store};
///
/// let snapshot_id = SnapshotId::from_bytes([7; 16]);
/// let part = NewSnapshotPart { stream, snapshot_id, part: 0, sealed: bytes::Bytes::from_static(b"rows"), now: 200 };
/// assert_eq!(store.put_snapshot_part(part).await?, SnapshotPartWrite::Stored);
/// assert!(store.snapshot(stream, snapshot_id).await?.is_none()); // nobody sees it before its manifest
/// let manifest = NewSnapshot {
///     stream,
///     snapshot_id,
///     key_id,
///     position,
///     parts: 1,
///     manifest: bytes::Bytes::from_static(b"sealed manifest"),
///     signed_by: Some(OwnerKey::from_bytes([5; 32])), // the server verified it
///     settled_before: 0,
///     now: 300,
/// };
/// assert_eq!(store.put_snapshot(manifest).await?, SnapshotWrite::Stored);
/// assert_eq!(store.snapshot(stream, snapshot_id).await?.ok_or("none")?.info.position, position);
/// // The device that pushed has not pulled up to there: the log stays.
/// let retention = Retention { settled_before: 400, active_since: 0, unfinished_before: 0 };
/// assert!(!store.retain(retention).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    /// The stream.
    pub stream: StreamId,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// The position whose state it is.
    pub position: Position,
    /// How many parts it has.
    pub parts: u32,
    /// The sealed manifest.
    pub manifest: Bytes,
    /// The owner key under which the caller verified a signature of exactly this write, if there is one.
    pub signed_by: Option<OwnerKey>,
    /// Snapshots from before this time have settled.
    pub settled_before: UnixSeconds,
    /// Now.
    pub now: UnixSeconds,
}

/// The answer of [`super::Store::put_snapshot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotWrite {
    /// Stored, now or by an earlier request: it was the newest.
    Stored,
    /// Encryption is not set up.
    NoEnvelope,
    /// The envelope's current key is another one.
    KeyMismatch,
    /// It is not signed by the owner key of the current envelope, or that has none.
    NotProven,
    /// There is one of this position, or of a later one.
    Stale,
    /// A part is missing, or there is one too many.
    Incomplete,
    /// The position is not on the chain.
    Diverged {
        /// The stream's newest position.
        latest: Position,
    },
}

/// A complete snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// Which it is.
    pub info: SnapshotInfo,
    /// The sealed manifest.
    pub manifest: Bytes,
}

/// What may go.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Snapshots from before this time have settled.
    pub settled_before: UnixSeconds,
    /// Devices that were seen since hold the log that they have not pulled.
    pub active_since: UnixSeconds,
    /// Unfinished snapshots that were not touched since are swept.
    pub unfinished_before: UnixSeconds,
}
