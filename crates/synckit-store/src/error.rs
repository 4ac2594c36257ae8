//! How a store fails.

/// A failure of the store itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full. Nothing was stored.
    #[error("the disk is full")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The queue in front of the store is full, or the store is shutting down. Nothing was stored.
    #[error("the store is busy or shutting down")]
    Busy,
    /// The batch claims no entries, or its stream has no sequence numbers left (they end at 2^63 - 1). Nothing was stored.
    #[error("the batch claims no entries, or its stream has no sequence numbers left")]
    InvalidBatch,
    /// The database was written by a newer version of the server.
    #[error("the database has schema {found}, this server knows up to {known}: start a newer server")]
    NewerSchema {
        /// The schema version in the database.
        found: u32,
        /// The newest that this server knows.
        known: u32,
    },
    /// The database has another schema than this program works on.
    #[error(
        "the database has {}, this program works on schema {known}",
        found.map_or_else(|| "no tables of a server".to_owned(), |found| format!("schema {found}"))
    )]
    OtherSchema {
        /// The schema version in the database; `None` if nothing was ever stored in it.
        found: Option<u32>,
        /// The version of this program.
        known: u32,
    },
    /// The database is damaged: the findings of the check.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The account or the app does not exist, or was deleted. Nothing was stored.
    #[error("the account or the app does not exist")]
    NoSuchStream,
    /// The login that is to open the session was finished a second time meanwhile. Nothing was stored.
    #[error("the login was finished more than once")]
    LoginRepeated,
    /// The account has another password than the one that was proven. Nothing was stored.
    #[error("the password was replaced since it was proven")]
    PasswordReplaced,
    /// The database server cannot be reached, or did not answer in time. Whether a change was stored is unknown only after
    /// [`Unavailable::Lost`] and [`Unavailable::Statement`].
    #[error("the database is unavailable: {step}")]
    Unavailable {
        /// The step that failed.
        step: Unavailable,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database is the target of a transfer that is not finished.
    #[error("a transfer into the database is not finished")]
    Unfinished,
    /// The database cannot hold every text.
    #[error("the database has the encoding {0}: create one with the encoding UTF8")]
    Encoding(String),
    /// A connection pooler gives each transaction another session of the database.
    #[error(
        "the database is behind a connection pooler in transaction mode: connect to the database itself, or set the \
         pooler to session mode"
    )]
    Pooler,
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The step of a request at which the database was unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// Every connection of the pool was in use for the time that a request waits for one.
    Acquire,
    /// No connection could be made.
    Connect,
    /// A statement took longer than a statement may.
    Statement,
    /// The connection broke.
    Lost,
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Acquire => "no connection became free in time",
            Self::Connect => "no connection could be made",
            Self::Statement => "a statement took too long",
            Self::Lost => "the connection was lost",
        })
    }
}
