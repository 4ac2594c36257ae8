//! The errors of PostgreSQL, by what the caller can do about them.

use std::io;

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::{Error, error::SqlState};

use crate::{StoreError, Unavailable};

/// A statement that PostgreSQL refused. Without the detail of the error, which quotes rows: addresses, above all.
#[derive(Debug, thiserror::Error)]
#[error("{} {message}", code.code())]
struct Refused {
    code: SqlState,
    message: String,
}

/// An error of a statement.
pub(super) fn failed(error: Error) -> StoreError {
    let step = step(&error);
    let Some(refused) = error.as_db_error() else {
        return match step {
            Some(step) => unavailable(step, error),
            None => StoreError::Database(Box::new(error)),
        };
    };
    let refused = Refused {
        code: refused.code().clone(),
        message: refused.message().to_owned(),
    };
    match (step, &refused.code) {
        (Some(step), _) => unavailable(step, refused),
        // The account or the app was deleted after the request was admitted.
        (None, code) if *code == SqlState::FOREIGN_KEY_VIOLATION => StoreError::NoSuchStream,
        (None, code) if *code == SqlState::DISK_FULL => StoreError::Full(Box::new(refused)),
        _ => StoreError::Database(Box::new(refused)),
    }
}

/// No answer to a statement in the time that this node waits for one. What it did, if anything, is unknown.
pub(super) fn unanswered(elapsed: tokio::time::error::Elapsed) -> StoreError {
    unavailable(Unavailable::Lost, elapsed)
}

/// An error while a connection is made.
pub(super) fn not_connected(error: Error) -> StoreError {
    unavailable(Unavailable::Connect, error)
}

pub(super) fn not_acquired(error: PoolError) -> StoreError {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => unavailable(Unavailable::Acquire, error),
        PoolError::Closed => StoreError::Busy,
        PoolError::Backend(error) => not_connected(error),
        error => unavailable(Unavailable::Connect, error),
    }
}

fn unavailable(step: Unavailable, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable {
        step,
        source: Box::new(error),
    }
}

/// The step that failed, if the database is at fault and not the statement.
fn step(error: &Error) -> Option<Unavailable> {
    let Some(code) = error.code() else {
        let is_io = std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>());
        return (error.is_closed() || is_io).then_some(Unavailable::Lost);
    };
    // The last is a standby, or a primary that became one.
    let lost = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ];
    if *code == SqlState::QUERY_CANCELED {
        Some(Unavailable::Statement)
    } else if [SqlState::TOO_MANY_CONNECTIONS, SqlState::CANNOT_CONNECT_NOW].contains(code) {
        Some(Unavailable::Connect)
    } else if lost.contains(code) || code.code().starts_with("08") {
        Some(Unavailable::Lost)
    } else {
        None
    }
}

/// Whether another transaction came in between, so that the same transaction may succeed if it is repeated. Its changes
/// are undone. A violation of a unique key is one: the transaction looked first whether the key is there.
pub(super) fn is_conflict(error: &StoreError) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::UNIQUE_VIOLATION,
    ]
    .iter()
    .any(|code| has_code(error, code))
}

/// Whether the database took no write: it is a standby, or a primary that became one.
pub(super) fn is_read_only(error: &StoreError) -> bool {
    has_code(error, &SqlState::READ_ONLY_SQL_TRANSACTION)
}

fn has_code(error: &StoreError, code: &SqlState) -> bool {
    let (StoreError::Database(source) | StoreError::Unavailable { source, .. }) = error else {
        return false;
    };
    source
        .downcast_ref::<Refused>()
        .is_some_and(|refused| refused.code == *code)
}

/// The error of a transaction that was repeated as often as it may be. PostgreSQL gave up one that others kept changing the
/// rows of: the database is busy. A key that is there every time is a fault of this program.
pub(super) fn given_up(error: StoreError) -> StoreError {
    if is_conflict(&error) && !has_code(&error, &SqlState::UNIQUE_VIOLATION) {
        StoreError::Busy
    } else {
        error
    }
}

/// Whether the connection was lost.
pub(super) const fn is_lost(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable {
            step: Unavailable::Lost,
            ..
        }
    )
}
