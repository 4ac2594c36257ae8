//! What can go wrong.

use crate::{
    inspect::{Finding, InspectError},
    rows::FileValue,
};

/// An error of a synced database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// SQLite refused, or the file is locked by another program for longer than [`BUSY_MAX`](crate::BUSY_MAX).
    #[error("the database refused")]
    Database(#[from] rusqlite::Error),

    /// The database cannot be inspected.
    #[error("the database cannot be inspected")]
    Inspect(#[from] InspectError),

    /// A table cannot be tracked as it is declared.
    #[error("the table `{table}` cannot be tracked: {finding}")]
    NotReady {
        /// The table.
        table: String,
        /// What to answer or to change. `synckit_sqlite::inspect` suggests the declaration.
        finding: Finding,
    },

    /// A table refers to rows of a table that is not tracked.
    #[error(
        "`{table}`.`{column}` refers to `{parent}`, which is not tracked: track it, too, or declare the column `plain` or `local`"
    )]
    ParentNotTracked {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The table that it refers to.
        parent: String,
    },

    /// The declared identity does not fit the table: a number can be mapped only if SQLite counts it, and a whole row only if
    /// there is no such number.
    #[error("the declared identity does not fit the key of `{table}`")]
    Identity {
        /// The table.
        table: String,
    },

    /// The key of a table is another one than when it was tracked, so that its rows would be other rows.
    #[error(
        "the key of `{table}` changed since it was tracked: give the table another name, and track it under that name"
    )]
    KeyChanged {
        /// The table.
        table: String,
    },

    /// The file that was opened is not at its path any more.
    #[error("the file was deleted or replaced since it was opened: open it again")]
    FileReplaced,

    /// The bytes of a long value have not been downloaded.
    #[error("the file {} is not here yet", .0.hash)]
    NoFile(FileValue),

    /// No conflict has this number: it was restored or forgotten.
    #[error("there is no conflict {0}: it was restored or forgotten")]
    NoConflict(i64),

    /// The row of values that are to be restored was deleted since.
    #[error("the row of the conflict {0} was deleted since: it has only some of its values")]
    RowGone(i64),

    /// What is to be restored refers to a row that is not there.
    #[error("`{table}`.`{column}` would refer to a row that is not there: restore that first")]
    ParentGone {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },

    /// The answer is to a question that is not open any more: other rows were deleted meanwhile, or somebody answered.
    #[error("the question changed: show the new one, and answer that")]
    AnotherQuestion,

    /// Edits came faster than they were sent: the next sync goes on.
    #[error("edits came faster than they were sent: the next sync goes on")]
    Unfinished,

    /// No table is tracked.
    #[error("no table is tracked: call `track` first")]
    NothingTracked,

    /// The file was synced by another user.
    #[error("the file holds the data of another user: sign in as that user, or call `untrack_all`")]
    OtherUser,

    /// The SDK refused, or could not reach the server.
    #[error("the sync failed")]
    Client(#[from] synckit_client::Error),

    /// A blocking task of the runtime failed.
    #[error("the runtime ended a task")]
    Runtime(#[source] tokio::task::JoinError),

    /// Another program changed the tables of this crate.
    #[error("the tables whose names begin with `synckit_` were changed by another program")]
    Damaged,
}
