//! What this device knows of the stream's history, and the check of every history that the server tells.
//!
//! Nothing here does I/O. Positions are believed only after they were hashed forward from a believed one; what the
//! server claims is evidence until then.

use std::sync::Arc;

use synckit_protocol::{BatchDigest, Cursor, Position};
use tokio::time::Instant;

use crate::{
    error::{Error, HistoryEvidence, Result},
    history::ledger::{PositionLedger, SkippedBatches, decode_positions, encode_positions},
    pull::Prefetch,
    snapshots::SnapshotReading,
};

/// The state of the user's stream on this client.
#[derive(Debug, Default)]
pub(crate) struct StreamState {
    /// How far the app has what it pulled: what a push returns.
    applied: Cursor,
    /// The newest position that was verified, or that the envelope vouches for.
    known: Option<Position>,
    /// Earlier ones, to find what is common with a server that went back.
    ledger: PositionLedger,
    /// Batches that the user decided to go past.
    skipped: Arc<SkippedBatches>,
    /// When `known` was last written to the credential store.
    pub(crate) saved_at: Option<Instant>,
    /// The page after the last one, asked for ahead of time.
    pub(crate) prefetch: Option<Prefetch>,
    /// The snapshot that the app pulls through, and the part of it that is at hand.
    pub(crate) reading: Option<SnapshotReading>,
}

impl StreamState {
    pub(crate) fn resume_at(&mut self, cursor: Cursor) {
        self.applied = cursor;
        // The app got this cursor from a pull that verified it.
        let in_snapshot = cursor.snapshot().map(|place| place.position);
        if let Some(position) = cursor.position().or(in_snapshot) {
            self.know(position);
        }
    }

    pub(crate) fn applied(&self) -> Cursor {
        self.applied
    }

    /// Records that a page up to here was returned to the app.
    pub(crate) fn apply(&mut self, position: Position) {
        self.applied = Cursor::at(position);
        self.know(position);
    }

    /// Records that rows of a snapshot of `position` were returned to the app, up to `cursor`.
    pub(crate) fn apply_rows(&mut self, cursor: Cursor, position: Position) {
        self.applied = cursor;
        self.know(position);
    }

    pub(crate) fn known(&self) -> Option<Position> {
        self.known
    }

    /// Records a verified position.
    pub(crate) fn know(&mut self, position: Position) {
        if self.known.is_none_or(|known| known.seq < position.seq)
            && let Some(before) = self.known.replace(position)
        {
            self.ledger.note(before, position);
        }
    }

    /// Everything that was verified and is still remembered, newest first.
    pub(crate) fn believed(&self) -> Vec<Position> {
        self.known
            .into_iter()
            .chain(self.ledger.positions().iter().rev().copied())
            .collect()
    }

    /// What the credential store remembers of this: the newest known position, and then the earlier ones.
    pub(crate) fn to_record(&self) -> Vec<u8> {
        encode_positions(self.believed())
    }

    /// Takes up the positions that the credential store remembers.
    pub(crate) fn restore(&mut self, record: &[u8]) {
        // Oldest first, so that each becomes a note of the next.
        for position in decode_positions(record).into_iter().rev() {
            self.know(position);
            if let Some(known) = self.known.filter(|known| *known != position) {
                self.ledger.note(position, known);
            }
        }
    }

    /// Takes up the batches to go past that the credential store remembers.
    pub(crate) fn restore_skipped(&mut self, record: &[u8]) {
        self.skip(SkippedBatches::new(decode_positions(record)));
    }

    pub(crate) fn skipped(&self) -> Arc<SkippedBatches> {
        Arc::clone(&self.skipped)
    }

    pub(crate) fn skip(&mut self, skipped: SkippedBatches) {
        self.skipped = Arc::new(skipped);
        self.prefetch = None;
    }

    /// Goes over to another history, which leaves the known one after `common` and was verified up to `latest`. The only
    /// way in which what is known moves back.
    pub(crate) fn change_over(&mut self, common: Position, latest: Position, applied: Cursor) {
        self.applied = applied;
        self.known = Some(latest);
        self.ledger.forget_after(common);
        self.saved_at = None;
        self.prefetch = None;
        self.reading = None;
    }
}

/// Walks a history from a believed position and compares it with the newest one that was known before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    at: Position,
    known: Option<Position>,
}

impl Walk {
    /// Starts at `from`, which the caller believes. `known` was read before the request that is checked was sent: what
    /// this device learned meanwhile says nothing about an answer that was made before.
    pub(crate) fn new(from: Position, known: Option<Position>) -> Result<Self> {
        let walk = Self { at: from, known };
        walk.compare()?;
        Ok(walk)
    }

    pub(crate) fn at(&self) -> Position {
        self.at
    }

    pub(crate) fn known(&self) -> Option<Position> {
        self.known
    }

    /// Goes past one batch.
    pub(crate) fn step(&mut self, digest: &BatchDigest) -> Result<()> {
        let before = self.at;
        self.at = before.advance(digest).ok_or(Error::Protocol {
            status: 200,
            reason: "a batch that follows the one before",
        })?;
        match self.known {
            // Every known position lies between two batches; a batch across it is of another history.
            Some(known) if before.seq < known.seq && known.seq < self.at.seq => Err(self.forked(known)),
            _ => self.compare(),
        }
    }

    /// Checks that the server's own claim of where this ends is where it does end.
    pub(crate) fn expect(&self, claimed: Position) -> Result<()> {
        if claimed == self.at {
            Ok(())
        } else {
            Err(Error::HistoryForked(HistoryEvidence {
                known: self.at,
                claimed,
            }))
        }
    }

    /// Checks, where the server says that nothing follows, that nothing is missing.
    pub(crate) fn end(&self) -> Result<()> {
        match self.known {
            Some(known) if self.at.seq < known.seq => Err(Error::HistoryRewound(HistoryEvidence {
                known,
                claimed: self.at,
            })),
            _ => Ok(()),
        }
    }

    fn compare(&self) -> Result<()> {
        match self.known {
            Some(known) if known.seq == self.at.seq && known.head != self.at.head => Err(self.forked(known)),
            _ => Ok(()),
        }
    }

    fn forked(&self, known: Position) -> Error {
        Error::HistoryForked(HistoryEvidence {
            known,
            claimed: self.at,
        })
    }
}

/// What a server means that does not know a position which this device had verified.
pub(crate) fn diverged(known: Position, latest: Position) -> Error {
    let evidence = HistoryEvidence { known, claimed: latest };
    if latest.seq < known.seq {
        Error::HistoryRewound(evidence)
    } else {
        Error::HistoryForked(evidence)
    }
}
