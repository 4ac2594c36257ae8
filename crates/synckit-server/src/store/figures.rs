//! What a store measures of itself.

/// What a store measures of itself, since it was opened or as of now. None of it is about a single user.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use synckit_server::store::{SqliteOptions, SqliteStore, Store as _};
///
/// let directory = tempfile::tempdir()?;
/// let store = SqliteStore::open(&directory.path().join("synckit.db"), SqliteOptions::default())?;
/// let figures = store.figures().await?;
/// assert_eq!((figures.streams, figures.queued_writes), (0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreFigures {
    /// Writes that were answered, failed ones included.
    pub writes: u64,
    /// Transactions that were committed, by how many writes shared one.
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

/// Transactions by how many writes shared one: pairs of the most writes of a group and how many such groups there were
/// that did not fit the pair before.
///
/// # Examples
///
/// ```
/// use synckit_server::store::CommitGroups;
///
/// let groups = CommitGroups(vec![(1, 30), (2, 12)]);
/// let commits: u64 = groups.0.iter().map(|(_, count)| count).sum();
/// assert_eq!(commits, 42);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitGroups(pub Vec<(u64, u64)>);
