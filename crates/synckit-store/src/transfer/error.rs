//! The errors of a transfer.

use std::path::PathBuf;

use crate::{LogDamage, StoreError, StreamId};

/// Why a transfer failed. It is continued by another one with the same ends, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The source holds no data of a server, or is the unfinished target of another transfer.
    #[error("the source has no complete data of a server")]
    NoSource,
    /// The target holds data that no transfer put there.
    #[error("the target has data already")]
    NotEmpty,
    /// An interrupted transfer into the target was from another server.
    #[error("the target has data of another server: an interrupted transfer was from there")]
    OtherSource,
    /// A server or a command is connected to one of the databases.
    #[error("a server or a command uses the database {0}")]
    InUse(String),
    /// A table of the target is not that of the source: the source was changed meanwhile. Begin with an empty target.
    #[error("the source was changed during the transfer: {table} differs")]
    Different {
        /// The table.
        table: String,
    },
    /// A log of the source is damaged.
    #[error("the log of account {} in app {} is damaged at {seq}: {damage}", stream.user_id, stream.app_id)]
    Damaged {
        /// The log.
        stream: StreamId,
        /// The sequence of the batch.
        seq: u64,
        /// The kind of damage.
        damage: LogDamage,
    },
    /// A file cannot be made or renamed.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
