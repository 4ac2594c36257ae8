//! Batches, pages and digests, as a store takes and returns them.

use bytes::Bytes;
use synckit_protocol::{
    BatchDigest, BatchId, Cursor, DeviceId, KeyId, Position, SealedHash,
    wire::{UnixSeconds, snapshots::SnapshotInfo},
};

use crate::{
    ids::StreamId,
    rules::quotas::{PlanRoom, Quota},
};

/// A batch to append. Its hash is computed before it is queued, so that the writer does not.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// The stream.
    pub stream: StreamId,
    /// The position that it was sealed on top of.
    pub parent: Position,
    /// Its digest, for the chain.
    pub digest: BatchDigest,
    /// The sealed bytes, whose SHA-256 is `digest.sealed_hash`.
    pub sealed: Bytes,
    /// What its app leaves to it.
    pub room: PlanRoom,
    /// Now.
    pub now: UnixSeconds,
}

/// The answer of [`crate::Store::append_batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Append {
    /// Stored durably, now or by an earlier request with the same batch id.
    Stored {
        /// The sequence of the first entry.
        first_seq: u64,
        /// The position after the batch.
        position: Position,
        /// Whether an earlier request had stored it.
        repeated: bool,
    },
    /// The stream has no such device.
    DeviceNotFound,
    /// The device was revoked.
    DeviceRevoked,
    /// Encryption is not set up.
    NoEnvelope,
    /// The envelope's current key is another one.
    KeyMismatch,
    /// The account would keep more than it may.
    OverQuota(Quota),
    /// The parent is on the chain, but not its head.
    Behind(ChainPage),
    /// The position is below the base of the log: this snapshot replaces the batches there.
    Compacted(SnapshotInfo),
    /// The parent is not on the chain.
    Diverged {
        /// The stream's newest position.
        latest: Position,
    },
}

/// Digests of consecutive batches, and the stream's head at the same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainPage {
    /// The digests, in log order.
    pub digests: Vec<BatchDigest>,
    /// The stream's newest position.
    pub latest: Position,
    /// Whether more follow.
    pub has_more: bool,
}

/// The answer of [`crate::Store::chain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainRead {
    /// A page of digests.
    Page(ChainPage),
    /// The position is below the base of the log: this snapshot replaces the batches there.
    Compacted(SnapshotInfo),
    /// The cursor is not on the chain.
    Diverged {
        /// The stream's newest position.
        latest: Position,
    },
}

/// A page to read.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest {
    /// The stream.
    pub stream: StreamId,
    /// The device that reads.
    pub device_id: DeviceId,
    /// The place of the next page.
    pub cursor: Cursor,
    /// The most sealed bytes, unless the first batch alone is larger.
    pub max_bytes: u32,
    /// Whether the device reads ahead of its app.
    pub ahead: bool,
    /// Whether the device could not use the newest snapshot: the log from the start if it is whole, else the oldest.
    pub avoid_snapshot: bool,
    /// Now.
    pub now: UnixSeconds,
}

/// A batch as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
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
    /// The sealed bytes.
    pub sealed: Bytes,
}

impl StoredBatch {
    /// Its digest, for the chain.
    pub fn digest(&self) -> BatchDigest {
        BatchDigest {
            batch_id: self.batch_id,
            device_id: self.device_id,
            key_id: self.key_id,
            count: self.count,
            sealed_hash: SealedHash::of(&self.sealed),
        }
    }
}

/// The answer of [`crate::Store::page`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageRead {
    /// A page.
    Page {
        /// The batches, in log order.
        batches: Vec<StoredBatch>,
        /// The cursor after the last of them, or the one that was asked from.
        cursor: Cursor,
        /// Whether more follow.
        has_more: bool,
    },
    /// A snapshot to read in place of the log's beginning.
    Snapshot(SnapshotInfo),
    /// The position is below the base of the log: this snapshot replaces the batches there.
    Compacted(SnapshotInfo),
    /// The stream has no such device.
    DeviceNotFound,
    /// The device was revoked.
    DeviceRevoked,
    /// The cursor is not on the chain.
    Diverged {
        /// The stream's newest position.
        latest: Position,
    },
}

/// The answer of [`crate::Store::status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamStatus {
    /// The newest position.
    pub latest: Position,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotInfo>,
    /// Bytes of sealed batches, snapshots and confirmed blobs. A deleted blob counts until it is condemned to the sweep.
    pub stored_bytes: u64,
    /// Devices that are not revoked.
    pub devices: u32,
}
