//! Measurements of a store.

/// Measurements of a store, since it was opened or as of now. None of them is about a single user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreFigures {
    /// Writes that were answered, failed ones included.
    pub writes: u64,
    /// Committed transactions, by their number of writes.
    pub commits: CommitGroups,
    /// Checkpoints that were taken.
    pub checkpoints: u64,
    /// Writes that are not answered yet.
    pub queued_writes: u64,
    /// Bytes of sealed data that these carry.
    pub queued_bytes: u64,
    /// Logs that were cut at a snapshot.
    pub retention_cuts: u64,
    /// Size of the database file, in bytes.
    pub database_bytes: u64,
    /// Size of the write-ahead log beside it, in bytes.
    pub write_ahead_log_bytes: u64,
    /// Streams that were ever begun.
    pub streams: u64,
    /// Sealed bytes of batches.
    pub batch_bytes: u64,
    /// Sealed bytes of snapshots, unfinished ones included.
    pub snapshot_bytes: u64,
    /// Sealed bytes of blobs, as [`super::StreamStatus`] counts them.
    pub blob_bytes: u64,
}

/// Transactions by their number of writes: pairs of a maximum and the number of transactions up to it that exceed the
/// previous maximum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitGroups(pub Vec<(u64, u64)>);
