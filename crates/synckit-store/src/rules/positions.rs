//! The place of a position in a log: at its head, on its chain, below its base, or elsewhere.

use synckit_protocol::{Cursor, Head, KeyId, Position, wire::snapshots::SnapshotInfo};

use crate::{Append, ChainPage, EnvelopeWrite, StreamId};

/// The row of a stream, as the rules need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamState {
    /// The stream itself.
    pub id: StreamId,
    /// Its newest position.
    pub latest: Position,
    /// The current master key, once encryption is set up.
    pub key_id: Option<KeyId>,
    /// The position where the log begins, unless the log is whole.
    pub base: Option<Position>,
    /// The sequence of the newest snapshot, 0 if the stream has none.
    pub snapshot_seq: u64,
}

impl StreamState {
    /// The position where the log begins; computed where the log is whole.
    pub fn base_position(&self) -> Position {
        self.base
            .unwrap_or_else(|| Position::start_of(self.id.app_id, self.id.user_id))
    }

    /// The sequence that the log begins after.
    pub fn base_seq(&self) -> u64 {
        self.base.map_or(0, |base| base.seq)
    }
}

/// The place of a position, as far as the row of its stream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is the newest position, or the first that the log still has, or both.
    OnChain,
    /// The log does not hold it any more: a snapshot took its place.
    BelowBase,
    /// It is not on the chain.
    Diverged,
    /// It is on the chain if a batch ends at its sequence with its head: [`is_end_of`].
    Inside,
}

/// The place of a position.
pub fn place(stream: &StreamState, position: Position) -> Place {
    let on_chain = |other: Position| {
        if position == other {
            Place::OnChain
        } else {
            Place::Diverged
        }
    };
    let base_seq = stream.base_seq();
    if position.seq < base_seq {
        Place::BelowBase
    } else if position.seq == base_seq {
        on_chain(stream.base_position())
    } else if position.seq >= stream.latest.seq {
        on_chain(stream.latest)
    } else {
        Place::Inside
    }
}

/// The place of a cursor. The start of a log that is not whole is below its base.
pub fn place_of_cursor(stream: &StreamState, cursor: Cursor) -> Place {
    match cursor.position() {
        Some(position) => place(stream, position),
        None if stream.base_seq() > 0 => Place::BelowBase,
        None => Place::OnChain,
    }
}

/// Whether a batch ends at the position's sequence and has this head.
pub fn is_end_of(head_of_batch: Option<Head>, position: Position) -> bool {
    head_of_batch == Some(position.head)
}

/// The place of a position that is not the stream's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// On the chain, with these batches after it.
    Behind(ChainPage),
    /// Below the part that the log still holds.
    Compacted(SnapshotInfo),
    /// Not on the chain.
    Diverged {
        /// The stream's newest position.
        latest: Position,
    },
}

impl From<Elsewhere> for Append {
    fn from(elsewhere: Elsewhere) -> Self {
        match elsewhere {
            Elsewhere::Behind(page) => Self::Behind(page),
            Elsewhere::Compacted(snapshot) => Self::Compacted(snapshot),
            Elsewhere::Diverged { latest } => Self::Diverged { latest },
        }
    }
}

impl From<Elsewhere> for EnvelopeWrite {
    fn from(elsewhere: Elsewhere) -> Self {
        match elsewhere {
            Elsewhere::Behind(page) => Self::Behind(page),
            Elsewhere::Compacted(snapshot) => Self::Compacted(snapshot),
            Elsewhere::Diverged { latest } => Self::Diverged { latest },
        }
    }
}
