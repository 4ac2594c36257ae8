//! Appending to the log, and reading pages of it.

use synckit_protocol::{Position, limits::PAGE_ENTRIES_MAX};

use super::{devices::DeviceState, positions::StreamState};
use crate::{Append, NewBatch, PageRead, PageRequest, StoreError};

/// The newest sequence: it fits into the signed numbers of every engine.
pub const SEQ_MAX: u64 = i64::MAX as u64;

/// The stored rows by which an append is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The stream, unless nothing was ever written to it.
    pub stream: StreamState,
    /// The answer that the first request with this batch id got.
    pub first_answer: Option<Append>,
    /// The device that pushes.
    pub device: Option<DeviceState>,
}

/// The decision about a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is written.
    Answer(Append),
    /// Nothing is written; the place of the parent is the answer.
    ParentIsNotHead,
    /// The batch is stored.
    Store {
        /// The position after it.
        position: Position,
        /// Whether the device's last-seen time must be written.
        device_is_due: bool,
    },
}

impl Decision {
    /// The answer to a batch that was stored.
    pub const fn stored(stream: &StreamState, position: Position) -> Append {
        Append::Stored {
            first_seq: stream.latest.seq + 1,
            position,
            repeated: false,
        }
    }
}

/// Decides about a batch. The order of checks is part of the contract: the first answer of the same batch id, device, key
/// id, parent.
///
/// # Errors
/// [`StoreError::InvalidBatch`] if the batch claims no entries, or the stream has no sequence numbers left.
pub fn append(stored: Stored, batch: &NewBatch) -> Result<Decision, StoreError> {
    if let Some(answer) = stored.first_answer {
        return Ok(Decision::Answer(answer));
    }
    let Some(device) = stored.device else {
        return Ok(Decision::Answer(Append::DeviceNotFound));
    };
    if device.revoked {
        return Ok(Decision::Answer(Append::DeviceRevoked));
    }
    let stream = stored.stream;
    match stream.key_id {
        None => return Ok(Decision::Answer(Append::NoEnvelope)),
        Some(current) if current != batch.digest.key_id => return Ok(Decision::Answer(Append::KeyMismatch)),
        Some(_) => {}
    }
    if batch.parent != stream.latest {
        return Ok(Decision::ParentIsNotHead);
    }
    let next = stream.latest.advance(&batch.digest);
    let position = next
        .filter(|next| next.seq <= SEQ_MAX)
        .ok_or(StoreError::InvalidBatch)?;
    Ok(Decision::Store {
        position,
        device_is_due: device.is_due(batch.now),
    })
}

/// The source of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// None: this is the answer.
    Answer(PageRead),
    /// The newest snapshot, in place of the log's beginning.
    NewestSnapshot,
    /// None: the log begins after the cursor, and the newest snapshot took its place.
    CompactedToNewest,
    /// None: the log begins after the cursor, and the device could not use the newest snapshot.
    CompactedToOldest,
    /// The batches after the cursor, if the cursor is on the chain.
    Log,
}

/// Decides the source of a page.
pub fn page(stream: Option<&StreamState>, device: Option<&DeviceState>, request: &PageRequest) -> Source {
    let (Some(stream), Some(device)) = (stream, device) else {
        return Source::Answer(PageRead::DeviceNotFound);
    };
    if device.revoked {
        return Source::Answer(PageRead::DeviceRevoked);
    }
    let seq = request.cursor.seq();
    if seq == 0 && stream.snapshot_seq > 0 && !request.avoid_snapshot {
        Source::NewestSnapshot
    } else if seq >= stream.base_seq() {
        Source::Log
    } else if request.avoid_snapshot {
        Source::CompactedToOldest
    } else {
        Source::CompactedToNewest
    }
}

/// The sequence that a device has reached by reading a page, if that is to be written. `is_on_chain` says whether the
/// cursor was found on the chain: an invented cursor must not let the log be cut.
pub fn reached(stream: &StreamState, device: &DeviceState, request: &PageRequest, is_on_chain: bool) -> Option<u64> {
    let seq = if is_on_chain && !request.ahead {
        request.cursor.seq()
    } else {
        0
    };
    (device.is_due(request.now) || device.passes(seq, stream.snapshot_seq)).then_some(seq)
}

/// The size of a page while it is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageSize {
    batches: u64,
    entries: u64,
    bytes: u64,
}

impl PageSize {
    /// Adds a batch. Returns `false` if the page ends before it: a page ends at its entry limit or at `max_bytes`, but has
    /// at least one batch.
    pub fn add(&mut self, entries: u32, bytes: u64, max_bytes: u32) -> bool {
        self.entries = self.entries.saturating_add(u64::from(entries));
        self.bytes = self.bytes.saturating_add(bytes);
        let fits = self.entries <= u64::from(PAGE_ENTRIES_MAX) && self.bytes <= u64::from(max_bytes);
        let is_first = self.batches == 0;
        self.batches = self.batches.saturating_add(1);
        fits || is_first
    }
}
