//! Snapshots and retention, as a store takes and returns them.

use bytes::Bytes;
use synckit_protocol::{
    KeyId, OwnerKey, Position, SnapshotId,
    wire::{UnixSeconds, snapshots::SnapshotInfo},
};

use crate::{
    ids::StreamId,
    rules::quotas::{PlanRoom, Quota},
};

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
    /// What its app leaves to it.
    pub room: PlanRoom,
    /// Now.
    pub now: UnixSeconds,
}

/// The answer of [`crate::Store::put_snapshot_part`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotPartWrite {
    /// Stored, or there already.
    Stored,
    /// Encryption is not set up.
    NoEnvelope,
    /// The snapshot is complete, with another part in this place, or is over.
    Stale,
    /// The account would keep more than it may.
    OverQuota(Quota),
}

/// A manifest: the end of an upload.
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
    /// The number of parts.
    pub parts: u32,
    /// The sealed manifest.
    pub manifest: Bytes,
    /// The owner key under which the caller verified the signature of exactly this write; `None` if it does not verify.
    pub signed_by: Option<OwnerKey>,
    /// What its app leaves to it.
    pub room: PlanRoom,
    /// Snapshots from before this time have settled.
    pub settled_before: UnixSeconds,
    /// Now.
    pub now: UnixSeconds,
}

/// The answer of [`crate::Store::put_snapshot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotWrite {
    /// Stored, now or by an earlier request: it was the newest.
    Stored,
    /// The account, or its app, would keep more than it may.
    OverQuota(Quota),
    /// Encryption is not set up.
    NoEnvelope,
    /// The envelope's current key is another one.
    KeyMismatch,
    /// It is not signed by the owner key of the current envelope.
    NotProven,
    /// The stream has a snapshot of this position or of a later one.
    Stale,
    /// A part is missing, or one too many was uploaded.
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

/// The ages from which on data may be deleted.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Snapshots from before this time have settled.
    pub settled_before: UnixSeconds,
    /// Devices that were seen since hold the log that they have not pulled.
    pub active_since: UnixSeconds,
    /// Unfinished snapshots that were not touched since are swept.
    pub unfinished_before: UnixSeconds,
    /// Accounts whose day has come are deleted, and pending accounts, sign-ins of machines, allowances and familiar places that need not be kept longer.
    pub ended_until: UnixSeconds,
    /// The time: until two hours later, a URL may still write an object of a deleted account or app.
    pub now: UnixSeconds,
}
