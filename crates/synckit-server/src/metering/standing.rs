//! Where an app stands against its plan. Pure.

/// From this part of a limit on, in percent, every answer tells it.
const TOLD_FROM: u64 = 80;
/// From this part of the storage limit on, in percent, what is stored is read in every round.
const NEAR_FROM: u64 = 80;

/// What an app has of what its plan allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Bytes that it may store.
    pub(crate) storage_limit: u64,
    /// Bytes that it may move in a month.
    pub(crate) transfer_limit: u64,
    /// Bytes that it stores.
    pub(crate) stored_bytes: u64,
    /// Bytes that it moved this month.
    pub(crate) moved_bytes: u64,
}

/// A part of a whole in percent, rounded down; 100 means that it is used up.
const fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 100;
    }
    let percent = part as u128 * 100 / whole as u128;
    if percent > u64::MAX as u128 {
        u64::MAX
    } else {
        percent as u64
    }
}

impl Standing {
    pub(crate) const fn is_over_transfer(&self) -> bool {
        self.moved_bytes >= self.transfer_limit
    }

    pub(crate) const fn is_near_storage(&self) -> bool {
        self.storage_percent() >= NEAR_FROM
    }

    /// How much of the storage is used, in percent, rounded down.
    pub(crate) const fn storage_percent(&self) -> u64 {
        percent(self.stored_bytes, self.storage_limit)
    }

    /// How much of the month's transfer is used, in percent, rounded down.
    pub(crate) const fn transfer_percent(&self) -> u64 {
        percent(self.moved_bytes, self.transfer_limit)
    }

    /// The value of the header `SyncKit-Usage`, a dictionary of integers (RFC 9651): both parts in percent, once one of them
    /// is at 80.
    pub(crate) fn told(&self) -> Option<String> {
        let (storage, transfer) = (self.storage_percent(), self.transfer_percent());
        (storage.max(transfer) >= TOLD_FROM).then(|| format!("storage={storage}, transfer={transfer}"))
    }
}

/// The parts of a limit that the owners of an app are told of, in percent.
const RUNGS: [u32; 3] = [80, 95, 100];
/// How far below a rung an app must be before it can be told of it again, in percent: else one that hovers there sends a mail
/// with each change.
const SLACK: u64 = 5;

/// The rung that the owners should have been told of, if they were told of `told` before.
pub(crate) fn rung(percent: u64, told: u32) -> u32 {
    let reached = |percent: u64| {
        let mut highest_first = RUNGS.into_iter().rev();
        highest_first
            .find(|rung| u64::from(*rung) <= percent)
            .unwrap_or_default()
    };
    // Up at once, down when it is clearly below.
    reached(percent).max(told.min(reached(percent.saturating_add(SLACK))))
}

#[cfg(test)]
mod tests {
    use super::{Standing, percent, rung};

    #[test]
    fn a_rung_is_told_once_until_it_is_left() {
        assert_eq!(
            [79, 80, 94, 95, 99, 100, 250].map(|percent| rung(percent, 0)),
            [0, 80, 80, 95, 95, 100, 100]
        );
        // Told of 95.
        assert_eq!(
            [100, 95, 91, 90, 89, 76, 75, 74].map(|percent| rung(percent, 95)),
            [100, 95, 95, 95, 80, 80, 80, 0]
        );
        assert_eq!(rung(u64::MAX, 100), 100);
    }

    #[test]
    fn a_part_is_rounded_down() {
        assert_eq!(
            [percent(799, 1000), percent(800, 1000), percent(1000, 1000)],
            [79, 80, 100]
        );
        assert_eq!([percent(0, 0), percent(u64::MAX, 1)], [100, u64::MAX]);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }

    #[test]
    fn usage_is_told_from_80_percent_on() {
        let standing = |stored_bytes, moved_bytes| Standing {
            storage_limit: 1000,
            transfer_limit: 5000,
            stored_bytes,
            moved_bytes,
        };
        assert_eq!(standing(799, 3999).told(), None);
        assert_eq!(standing(800, 0).told().as_deref(), Some("storage=80, transfer=0"));
        assert_eq!(standing(0, 5001).told().as_deref(), Some("storage=0, transfer=100"));
        assert!(standing(0, 5000).is_over_transfer() && !standing(0, 4999).is_over_transfer());
    }
}
