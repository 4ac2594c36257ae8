//! The positions in the credential store: earlier positions that this device verified, and both ends of the part of the
//! log in which it skips unreadable batches.
//!
//! A server that was restored from a backup and a device share the history up to the backup. A device can keep only few
//! of its verified positions. It keeps them ever sparser towards the past, so that one of them is close to the newest
//! common position, wherever that is.
//!
//! Invariant: the records are bounded, whatever a server or a thief of a token does: they never exceed a few items of a
//! keychain.

use synckit_protocol::{Head, Position};

const POSITION_BYTES: usize = 40;
/// Distances are grouped by their power of two, up to this one. The ledger keeps one position for each power, and one
/// more.
const DISTANCE_POWER_MAX: u32 = 30;

/// Earlier positions of a history: one for each n, of those between 2^n and 2^(n+1) entries before the newest.
#[derive(Debug, Default)]
pub(crate) struct PositionLedger {
    /// Oldest first.
    positions: Vec<Position>,
}

impl PositionLedger {
    /// Notes a verified position of a history whose newest position is `newest`.
    pub(crate) fn note(&mut self, position: Position, newest: Position) {
        // The start needs no note: every history begins there.
        if position.seq == 0 || self.positions.contains(&position) {
            return;
        }
        let place = self.positions.partition_point(|noted| noted.seq <= position.seq);
        self.positions.insert(place, position);
        let mut power_before = None;
        self.positions.retain(|noted| {
            let distance = newest.seq.saturating_sub(noted.seq).max(1);
            let power = Some(distance.ilog2().min(DISTANCE_POWER_MAX));
            // The oldest one of each group stays; otherwise no position would ever reach the next distance.
            std::mem::replace(&mut power_before, power) != power
        });
    }

    /// Forgets positions that are not part of a history that branches off after `common`.
    pub(crate) fn forget_after(&mut self, common: Position) {
        self.positions
            .retain(|noted| noted.seq < common.seq || *noted == common);
    }

    /// The positions, oldest first.
    pub(crate) fn positions(&self) -> &[Position] {
        &self.positions
    }
}

/// A part of the log in which this device skips unreadable batches, by the user's decision.
///
/// Both ends are hashes of everything before them, so a span fits no other history. One span covers any number of
/// batches, so a thief of a token cannot fill the record. Readable batches in the span are read as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SkippedSpan {
    /// The parent of the first skipped batch.
    from: Position,
    /// The position after the last skipped batch.
    to: Position,
}

impl SkippedSpan {
    /// `None` if the span would be empty.
    pub(crate) fn new(from: Position, to: Position) -> Option<Self> {
        (from.seq < to.seq).then_some(Self { from, to })
    }

    /// Whether a batch between these positions lies in the span. Only positions at the ends are compared by their
    /// heads: a history that does not lead from one end to the other is refused when it passes the second.
    pub(crate) fn covers(&self, parent: Position, after: Position) -> bool {
        let lies_inside = self.from.seq <= parent.seq && after.seq <= self.to.seq;
        let begins = parent.seq != self.from.seq || parent == self.from;
        let ends = after.seq != self.to.seq || after == self.to;
        lies_inside && begins && ends
    }

    /// Joins two spans, from two decisions about one history.
    pub(crate) fn joined(self, other: Self) -> Self {
        Self {
            from: if other.from.seq < self.from.seq {
                other.from
            } else {
                self.from
            },
            to: if other.to.seq > self.to.seq { other.to } else { self.to },
        }
    }

    /// The part of the span that remains in a history that branches off after `common`.
    pub(crate) fn up_to(self, common: Position) -> Option<Self> {
        let to = if self.to.seq > common.seq { common } else { self.to };
        Self::new(self.from, to)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        encode_positions([self.from, self.to])
    }

    /// Reads a record. `None` for a damaged one, which must not lock a device out of its keys: the user decides once
    /// more.
    pub(crate) fn decode(record: &[u8]) -> Option<Self> {
        match decode_positions(record)[..] {
            [from, to] => Self::new(from, to),
            _ => None,
        }
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

/// Reads a record of positions. Skips trailing bytes that are not a position: the record protects the device, and a
/// damaged one must not lock the device out of its keys.
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
    fn position_is_noted_once_and_the_start_never() {
        let mut ledger = PositionLedger::default();
        for seq in [8, 0, 4, 8, 4] {
            ledger.note(at(seq), at(8));
        }
        assert_eq!(ledger.positions(), [at(4), at(8)]);
    }

    #[test]
    fn positions_of_another_history_are_forgotten() {
        let noted = || {
            let mut ledger = PositionLedger::default();
            for seq in [1, 90, 98, 100] {
                ledger.note(at(seq), at(100));
            }
            assert_eq!(ledger.positions(), [at(1), at(90), at(98), at(100)]);
            ledger
        };
        let elsewhere = Position { seq: 90, ..at(91) };
        for (common, kept) in [
            (at(90), vec![at(1), at(90)]),
            (elsewhere, vec![at(1)]),
            (at(95), vec![at(1), at(90)]),
            (at(0), vec![]),
        ] {
            let mut ledger = noted();
            ledger.forget_after(common);
            assert_eq!(ledger.positions(), kept, "{}", common.seq);
        }
    }

    #[test]
    fn a_span_covers_what_lies_between_its_ends() {
        let span = SkippedSpan::new(at(10), at(20)).unwrap();
        let elsewhere = |seq| Position {
            seq,
            head: Head::from_bytes([255; 32]),
        };
        for (parent, after, is_covered) in [
            (at(10), at(20), true),
            (at(10), at(11), true),
            (at(19), at(20), true),
            (elsewhere(12), elsewhere(13), true),
            (elsewhere(10), at(11), false),
            (at(19), elsewhere(20), false),
            (at(9), at(11), false),
            (at(19), at(21), false),
            (at(20), at(21), false),
        ] {
            assert_eq!(
                span.covers(parent, after),
                is_covered,
                "{} to {}",
                parent.seq,
                after.seq
            );
        }
        assert_eq!(SkippedSpan::new(at(20), at(20)), None);
        assert_eq!(SkippedSpan::decode(&span.encode()), Some(span));
        assert_eq!(SkippedSpan::decode(&span.encode()[1..]), None);
        let later = SkippedSpan::new(at(30), at(31)).unwrap();
        let both = SkippedSpan::new(at(10), at(31));
        assert_eq!((Some(span.joined(later)), Some(later.joined(span))), (both, both));
        assert_eq!(span.up_to(at(15)), SkippedSpan::new(at(10), at(15)));
        assert_eq!((span.up_to(at(10)), span.up_to(at(25))), (None, Some(span)));
    }
}
