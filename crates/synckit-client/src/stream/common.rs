//! Where this device's history and the server's were last the same.

use synckit_crypto::KeyRing;
use synckit_protocol::{Cursor, Position};

use super::{chain::Place, handle::Stream};
use crate::{error::Result, history::walk::Walk, state::keys::Keys};

/// Where two histories were last the same.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Common {
    /// Here.
    At(Position),
    /// Somewhere below where the server's log begins, if anywhere: it cannot be seen any more. The log is said to begin
    /// at a snapshot of this position.
    BelowBase(Position),
}

impl Common {
    /// The position up to which a key ring is right. Below the base, what it says cannot matter any more: nobody reads
    /// a batch there.
    pub(crate) fn position(self) -> Position {
        match self {
            Self::At(position) | Self::BelowBase(position) => position,
        }
    }
}

/// The positions that a ring vouches for.
pub(crate) fn marks_of(ring: &KeyRing) -> Vec<Position> {
    let untils = ring.retired().iter().map(|retired| retired.end().until);
    untils.chain([ring.floor()]).collect()
}

impl Stream {
    /// Every position that this device ever verified and still remembers.
    pub(crate) fn believed(&self, ring: &KeyRing) -> Vec<Position> {
        let mut positions = self.state.believed();
        positions.extend(marks_of(ring));
        positions
    }

    /// Whether the server's chain leads through what this device knows and what its app has.
    pub(crate) async fn agrees(&self, cursor: Cursor) -> Result<bool> {
        for position in self.state.known().into_iter().chain(cursor.position()) {
            if let Place::NotOnChain { .. } = self.place_of(position).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The newest of these positions that the server's chain leads through.
    ///
    /// The server's word is enough: a position is a hash of everything before it, so a server that says yes has bound
    /// itself to the history that this device knows up to there, and one that says no in vain only makes it read more.
    pub(crate) async fn last_common(&self, mut positions: Vec<Position>) -> Result<Common> {
        positions.retain(|position| position.seq > 0);
        positions.sort_unstable_by_key(|position| std::cmp::Reverse(position.seq));
        positions.dedup();
        let mut latest_seq = u64::MAX;
        for position in positions {
            if position.seq > latest_seq {
                continue;
            }
            match self.place_of(position).await? {
                Place::OnChain => return Ok(Common::At(position)),
                Place::NotOnChain { latest } => latest_seq = latest.seq,
                // So are all that are older.
                Place::BelowBase { base } => return Ok(Common::BelowBase(base)),
            }
        }
        let start = self.start();
        match self.place_of(start).await? {
            Place::BelowBase { base } => Ok(Common::BelowBase(base)),
            Place::OnChain | Place::NotOnChain { .. } => Ok(Common::At(start)),
        }
    }

    /// Hashes the server's chain forward from where it was last the same, or from the snapshot that it begins at, and
    /// returns its end. `keys` are without ends: a device that never heard of a rotation in the other history may have
    /// folded this one under the older key.
    pub(crate) async fn history_after(&self, keys: &Keys, common: Common) -> Result<Position> {
        let from = match common {
            Common::At(position) => position,
            Common::BelowBase(_) => self.start(),
        };
        self.walk_to_head(keys, Walk::new(from, None)?).await
    }
}
