//! What a sync tells those who called it.

/// What a sync did, and what is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncReport {
    /// Entries that were sent.
    pub pushed: usize,
    /// Entries that came, those of this device's earlier syncs not counted.
    pub pulled: usize,
    /// Entries that came and are no rows by `docs/rows.md`.
    pub unreadable: usize,
    /// Edited rows that are too large to be sent, or that the server refuses: [`SyncedDatabase::parked`](crate::SyncedDatabase::parked) lists them.
    pub unsendable: usize,
    /// Rows that cannot be in their table now: they wait for another row, or the table refuses them.
    pub parked: usize,
    /// Rows of which a part of the key is NULL: nothing names them on another device, so they stay here.
    pub unnamed: usize,
    /// Deletions that wait for the user's decision: [`Question::Deletions`](crate::Question::Deletions).
    pub held_deletions: usize,
    /// Values that lost against other devices', and are kept.
    pub conflicts: usize,
}

impl SyncReport {
    /// Adds what moved in an earlier part of the same sync. What is left is as it is now.
    pub(crate) const fn add(&mut self, earlier: Self) {
        self.pushed += earlier.pushed;
        self.pulled += earlier.pulled;
        self.unreadable += earlier.unreadable;
    }
}
