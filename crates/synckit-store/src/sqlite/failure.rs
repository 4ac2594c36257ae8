//! The failures of a database job, and the errors that a caller gets for them.

use std::{error::Error, sync::Arc};

use rusqlite::{ErrorCode, ffi};

use crate::StoreError;

/// The failure of one job inside its transaction. It never leaves the store: the caller gets a [`StoreError`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// An error for the caller.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system allows no write-ahead log.
    #[error("the file system has no shared memory, which a write-ahead log needs: is it a network share?")]
    NoWriteAheadLog,
}

/// The writer dropped a job without an answer, because it panicked.
#[derive(Debug, thiserror::Error)]
#[error("the database job ended without an answer")]
pub(super) struct Abandoned;

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sqlite(error) => match Kind::of(&error) {
                Kind::Full => Self::Full(Box::new(error)),
                Kind::Busy => Self::Busy,
                Kind::NoParent => Self::NoSuchStream,
                Kind::Other => Self::Database(Box::new(error)),
            },
            Failure::Store(error) => error,
            Failure::NoWriteAheadLog => database(failure),
        }
    }
}

/// The error of a COMMIT, given to every job of the group.
pub(super) fn shared(error: &Arc<rusqlite::Error>) -> StoreError {
    match Kind::of(error) {
        Kind::Full => StoreError::Full(Box::new(Arc::clone(error))),
        Kind::Busy => StoreError::Busy,
        Kind::NoParent => StoreError::NoSuchStream,
        Kind::Other => StoreError::Database(Box::new(Arc::clone(error))),
    }
}

/// Any other error while opening a database.
pub(super) fn database(error: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError::Database(Box::new(error))
}

/// An error of SQLite, by the caller's way out of it.
enum Kind {
    /// Free some space.
    Full,
    /// Try again: another process holds the write lock for longer than the time-out.
    Busy,
    /// Nothing: the account or the app was deleted after the request was admitted.
    NoParent,
    /// Nothing.
    Other,
}

impl Kind {
    fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error() {
            Some(inner) if inner.code == ErrorCode::DiskFull => Self::Full,
            // The index of the WAL could not grow: on every file system that means that the disk is full.
            Some(inner) if inner.extended_code == ffi::SQLITE_IOERR_SHMSIZE => Self::Full,
            Some(inner) if inner.code == ErrorCode::DatabaseBusy => Self::Busy,
            Some(inner) if inner.extended_code == ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Self::NoParent,
            _ => Self::Other,
        }
    }
}
