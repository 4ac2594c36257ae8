//! Positions as the credential store keeps them: the earlier ones that this device verified, and the ends of the batches
//! that it skips.
//!
//! A server that was restored from a backup shares with a device the history up to the backup. Of the positions that the
//! device verified, few can be kept; they are kept ever sparser towards the past, so that one of them is close to the
//! last common one, wherever that is.
//!
//! Invariant: both lists are bounded, so a record never grows beyond a few pieces of a keychain.

use synckit_protocol::{Head, Position};

/// Bytes of a position.
const POSITION_BYTES: usize = 40;
/// Distances are told apart by their power of two, up to this one; so many earlier positions are kept, and one more.
const DISTANCE_POWER_MAX: u32 = 30;
/// Refused batches that a device skips. Each took a decision of the user.
const SKIPPED_MAX: usize = 256;

/// Earlier positions of a history: of those between 2^n and 2^(n+1) entries before the newest, one for each n.
#[derive(Debug, Default)]
pub(crate) struct PositionLedger {
    /// Oldest first.
    positions: Vec<Position>,
}

impl PositionLedger {
    /// Notes a position that was verified, as one of a history that has come to `newest`.
    pub(crate) fn note(&mut self, position: Position, newest: Position) {
        // The start needs no note: it is where every history begins.
        if position.seq == 0 || self.positions.contains(&position) {
            return;
        }
        let place = self.positions.partition_point(|noted| noted.seq <= position.seq);
        self.positions.insert(place, position);
        let mut power_before = None;
        self.positions.retain(|noted| {
            let distance = newest.seq.saturating_sub(noted.seq).max(1);
            let power = Some(distance.ilog2().min(DISTANCE_POWER_MAX));
            // The oldest of each stays, or none would ever come to the next distance.
            std::mem::replace(&mut power_before, power) != power
        });
    }

    /// Forgets what is not part of a history that left this one after `common`.
    pub(crate) fn forget_after(&mut self, common: Position) {
        self.positions
            .retain(|noted| noted.seq < common.seq || *noted == common);
    }

    /// The positions, oldest first.
    pub(crate) fn positions(&self) -> &[Position] {
        &self.positions
    }
}

/// The batches that this device skips, each by the position after it. That position is a hash of the refused bytes and of
/// everything before them, so it fits no other batch and no other place.
#[derive(Debug, Clone, Default)]
pub(crate) struct SkippedBatches {
    /// In the order of the decisions.
    after: Vec<Position>,
}

impl SkippedBatches {
    pub(crate) fn new(after: Vec<Position>) -> Self {
        Self { after }
    }

    /// With one more. The oldest decision falls out where there are too many.
    pub(crate) fn with(&self, after: Position) -> Self {
        let mut all: Vec<Position> = self.after.iter().copied().filter(|skipped| *skipped != after).collect();
        all.push(after);
        let surplus = all.len().saturating_sub(SKIPPED_MAX);
        Self {
            after: all.split_off(surplus),
        }
    }

    /// Whether the batch that ends here was given up.
    pub(crate) fn contains(&self, after: Position) -> bool {
        self.after.contains(&after)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        encode_positions(self.after.iter().copied())
    }
}

/// Positions as one record.
pub(crate) fn encode_positions(positions: impl IntoIterator<Item = Position>) -> Vec<u8> {
    let mut record = Vec::new();
    for position in positions {
        record.extend_from_slice(&position.seq.to_be_bytes());
        record.extend_from_slice(position.head.as_bytes());
    }
    record
}

/// Reads a record of positions. What is no position at its end is left out: the record protects, and a damaged one must
/// not keep a device from its keys.
pub(crate) fn decode_positions(record: &[u8]) -> Vec<Position> {
    record
        .chunks_exact(POSITION_BYTES)
        .filter_map(|chunk| {
            let (seq, head) = chunk.split_first_chunk::<8>()?;
            Some(Position {
                seq: u64::from_be_bytes(*seq),
                head: Head::from_bytes(head.try_into().ok()?),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Position {
        Position {
            seq,
            head: Head::from_bytes([u8::try_from(seq % 251).unwrap(); 32]),
        }
    }

    #[test]
    fn some_noted_position_is_near_every_backup() {
        let mut ledger = PositionLedger::default();
        for seq in 1..=100_000 {
            ledger.note(at(seq), at(seq));
        }
        assert!(ledger.positions().len() <= 18, "{}", ledger.positions().len());
        for backup in 1..100_000_u64 {
            let noted = ledger.positions().iter().rev().find(|noted| noted.seq <= backup);
            let common = noted.map_or(0, |noted| noted.seq);
            assert!(100_000 - common <= 8 * (100_000 - backup), "{backup}: {common}");
        }
    }

    #[test]
    fn a_ledger_stays_small_whatever_the_distances() {
        let mut ledger = PositionLedger::default();
        for step in 0..64 {
            ledger.note(at(1 << step), at(u64::MAX));
        }
        assert!(ledger.positions().len() <= 32);
        ledger.forget_after(at(3));
        assert_eq!(ledger.positions(), [at(1)]);
    }

    #[test]
    fn the_oldest_decision_falls_out() {
        let mut skipped = SkippedBatches::default();
        for seq in 0..=SKIPPED_MAX as u64 {
            skipped = skipped.with(at(seq)).with(at(seq));
        }
        assert!(!skipped.contains(at(0)) && skipped.contains(at(1)));
        let read = SkippedBatches::new(decode_positions(&skipped.encode()));
        assert!(read.contains(at(SKIPPED_MAX as u64)));
        assert_eq!(read.encode().len(), SKIPPED_MAX * POSITION_BYTES);
    }
}
