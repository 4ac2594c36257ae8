//! What this client knows of the stream's history, and how far its app has applied it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use synckit_protocol::{Cursor, DeviceId, Position};

use super::{
    prefetch::Prefetch,
    snapshot::{OpenSnapshot, SnapshotReading},
};
use crate::{
    history::ledger::{PositionLedger, SkippedSpan, decode_positions, encode_positions},
    runtime::Instant,
};

/// Minimum interval between two writes of the newest position to the credential store.
const SAVE_POSITION_EVERY: Duration = Duration::from_secs(60);

/// The state of the user's stream on this client.
#[derive(Debug, Default)]
pub(crate) struct StreamState(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    /// How far the app has applied the pulled changes: the result of a push. `None` until the app pulls or tells it.
    applied: Option<Cursor>,
    /// Whether an earlier client on this device pulled: then only the app knows its cursor.
    pulled_before: bool,
    /// The newest position that was verified, or that the envelope vouches for.
    known: Option<Position>,
    /// Earlier positions, to find the common one with a server that went back.
    ledger: PositionLedger,
    /// The device of the last push or pull of this client.
    device_id: Option<DeviceId>,
    /// The span in which the user decided to skip unreadable batches.
    skipped: Option<SkippedSpan>,
    /// When `known` was last written to the credential store.
    saved_at: Option<Instant>,
    /// The next page, requested ahead of time.
    prefetch: Option<Prefetch>,
    /// The snapshot that the app pulls through, and its part in memory.
    reading: Option<SnapshotReading>,
}

impl StreamState {
    pub(crate) fn resume_at(&self, cursor: Cursor) {
        let mut inside = self.0.lock();
        inside.applied = Some(cursor);
        // The app got this cursor from a pull, which verified it.
        let in_snapshot = cursor.snapshot().map(|place| place.position);
        if let Some(position) = cursor.position().or(in_snapshot) {
            inside.know(position);
        }
    }

    /// How far the app has applied the pulled changes. `None` if only the app knows: the credential store cannot tell,
    /// because the app's database may have been restored, or lost, since.
    pub(crate) fn applied(&self) -> Option<Cursor> {
        let inside = self.0.lock();
        inside.applied.or((!inside.pulled_before).then_some(Cursor::START))
    }

    /// Records that the app has applied everything up to a cursor, which lies at or inside the state of `position`.
    pub(crate) fn apply(&self, cursor: Cursor, position: Position) {
        let mut inside = self.0.lock();
        inside.applied = Some(cursor);
        inside.know(position);
    }

    pub(crate) fn known(&self) -> Option<Position> {
        self.0.lock().known
    }

    /// Records a verified position.
    pub(crate) fn know(&self, position: Position) {
        self.0.lock().know(position);
    }

    /// All verified positions that are still remembered, newest first.
    pub(crate) fn believed(&self) -> Vec<Position> {
        self.0.lock().believed()
    }

    /// The positions as a record for the credential store: the newest known one, then the earlier ones.
    pub(crate) fn to_record(&self) -> Vec<u8> {
        encode_positions(self.believed())
    }

    /// Whether the positions are due for a write, at most once a minute. A `true` counts as a write.
    pub(crate) fn take_save(&self, now: Instant) -> bool {
        let mut inside = self.0.lock();
        let due = inside
            .saved_at
            .is_none_or(|at| now.saturating_duration_since(at) >= SAVE_POSITION_EVERY);
        let due = due && inside.known.is_some();
        if due {
            inside.saved_at = Some(now);
        }
        due
    }

    /// Restores positions and skipped span from the credential store.
    pub(crate) fn restore(&self, positions: Option<&[u8]>, skipped: Option<&[u8]>) {
        let mut inside = self.0.lock();
        // A later record is this client's own.
        inside.pulled_before |= inside.known.is_none() && positions.is_some();
        // Oldest first, so that each becomes an earlier note of the next.
        for position in decode_positions(positions.unwrap_or_default()).into_iter().rev() {
            inside.know(position);
            if let Some(known) = inside.known.filter(|known| *known != position) {
                inside.ledger.note(position, known);
            }
        }
        if let Some(skipped) = skipped.and_then(SkippedSpan::decode) {
            inside.skip(Some(skipped));
        }
    }

    /// Remembers the device of this client.
    pub(crate) fn act_as(&self, device_id: DeviceId) {
        self.0.lock().device_id = Some(device_id);
    }

    /// The device of this client, after its first push or pull.
    pub(crate) fn device_id(&self) -> Option<DeviceId> {
        self.0.lock().device_id
    }

    pub(crate) fn skipped(&self) -> Option<SkippedSpan> {
        self.0.lock().skipped
    }

    pub(crate) fn skip(&self, skipped: Option<SkippedSpan>) {
        self.0.lock().skip(skipped);
    }

    /// Switches to another history, which branches off from the known one after `common` and was verified up to
    /// `latest`. Only this lowers the known position.
    pub(crate) fn change_over(&self, common: Position, latest: Position, applied: Cursor) {
        let mut inside = self.0.lock();
        inside.applied = Some(applied);
        inside.known = Some(latest);
        inside.ledger.forget_after(common);
        inside.saved_at = None;
        inside.prefetch = None;
        inside.reading = None;
    }

    pub(crate) fn take_prefetch(&self) -> Option<Prefetch> {
        self.0.lock().prefetch.take()
    }

    pub(crate) fn keep_prefetch(&self, prefetch: Prefetch) {
        self.0.lock().prefetch = Some(prefetch);
    }

    /// The snapshot that the app pulls through.
    pub(crate) fn open_snapshot(&self) -> Option<Arc<OpenSnapshot>> {
        let inside = self.0.lock();
        inside.reading.as_ref().map(|reading| Arc::clone(&reading.snapshot))
    }

    pub(crate) fn take_reading(&self) -> Option<SnapshotReading> {
        self.0.lock().reading.take()
    }

    pub(crate) fn keep_reading(&self, reading: SnapshotReading) {
        self.0.lock().reading = Some(reading);
    }
}

impl Inside {
    fn know(&mut self, position: Position) {
        if self.known.is_none_or(|known| known.seq < position.seq)
            && let Some(before) = self.known.replace(position)
        {
            self.ledger.note(before, position);
        }
    }

    fn believed(&self) -> Vec<Position> {
        self.known
            .into_iter()
            .chain(self.ledger.positions().iter().rev().copied())
            .collect()
    }

    fn skip(&mut self, skipped: Option<SkippedSpan>) {
        self.skipped = skipped;
        self.prefetch = None;
    }
}
