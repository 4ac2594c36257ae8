//! What this device knows of the stream's history, and the check of every history that the server tells.
//!
//! Nothing here does I/O. Positions are believed only after they were hashed forward from a believed one; what the
//! server claims is evidence until then.

use synckit_protocol::{BatchDigest, Cursor, Head, Position};
use tokio::time::Instant;

use crate::{
    error::{Error, HistoryEvidence, Result},
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
        if self.known.is_none_or(|known| known.seq < position.seq) {
            self.known = Some(position);
        }
    }

    /// Takes up the position that the credential store remembers.
    pub(crate) fn restore(&mut self, record: &[u8]) {
        if let Some(position) = decode_position(record) {
            self.know(position);
        }
    }
}

/// A position as the credential store keeps it.
pub(crate) fn encode_position(position: Position) -> [u8; 40] {
    let mut record = [0; 40];
    record[..8].copy_from_slice(&position.seq.to_be_bytes());
    record[8..].copy_from_slice(position.head.as_bytes());
    record
}

fn decode_position(record: &[u8]) -> Option<Position> {
    let (seq, head) = record.split_first_chunk::<8>()?;
    Some(Position {
        seq: u64::from_be_bytes(*seq),
        head: Head::from_bytes(head.try_into().ok()?),
    })
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
