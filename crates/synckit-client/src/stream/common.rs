//! The newest position that the server's history and this device's have in common.

use synckit_crypto::KeyRing;
use synckit_protocol::{Cursor, Position};

use super::{chain::Place, handle::Stream};
use crate::{error::Result, history::walk::Walk, state::keys::Keys};

/// The newest common position of two histories.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Common {
    /// This position.
    At(Position),
    /// Below the base of the server's log, if anywhere: it is no longer visible. The server claims that its log begins
    /// at a snapshot of this position.
    BelowBase(Position),
}

impl Common {
    /// The position up to which a key ring is right. Below the base the ring's claims no longer matter: nobody reads a
    /// batch there.
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
    /// Every verified position that this device still remembers.
    pub(crate) fn believed(&self, ring: &KeyRing) -> Vec<Position> {
        let mut positions = self.state.believed();
        positions.extend(marks_of(ring));
        positions
    }

    /// Whether the server's chain leads through the known position and through the app's cursor.
    pub(crate) async fn agrees(&self, cursor: Cursor) -> Result<bool> {
        for position in self.state.known().into_iter().chain(cursor.position()) {
            if let Place::NotOnChain { .. } = self.place_of(position).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The newest of these positions on the server's chain.
    ///
    /// The server's claim is enough. A position is a hash of everything before it, so a server that confirms one has
    /// committed itself to the history that this device knows up to there. A server that wrongly denies one only makes
    /// the device read more.
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
                // All older positions are below the base, too.
                Place::BelowBase { base } => return Ok(Common::BelowBase(base)),
            }
        }
        let start = self.start();
        match self.place_of(start).await? {
            Place::BelowBase { base } => Ok(Common::BelowBase(base)),
            Place::OnChain | Place::NotOnChain { .. } => Ok(Common::At(start)),
        }
    }

    /// Hashes the server's chain forward from the common position, or from the snapshot at its base, and returns its
    /// end. `keys` have no ends: a device that did not know of a rotation in the other history may have folded this one
    /// under the older key.
    pub(crate) async fn history_after(&self, keys: &Keys, common: Common) -> Result<Position> {
        let from = match common {
            Common::At(position) => position,
            Common::BelowBase(_) => self.start(),
        };
        self.walk_to_head(keys, Walk::new(from, None)?).await
    }
}
