//! The row of a stream, as other records need it.

use synckit_protocol::{Position, UserId};

use super::{Executor, params};
use crate::{StoreError, StreamId};

/// Where a stream begins.
pub(crate) fn start(stream: StreamId) -> Position {
    Position::start_of(stream.app_id, stream.user_id)
}

/// The key of a stream, unless nothing was ever written to it.
///
/// # Errors
/// Those of the engine.
pub async fn find(db: &impl Executor, stream: StreamId) -> Result<Option<i64>, StoreError> {
    let row = db
        .query_one(
            "SELECT stream_key FROM streams WHERE user_id = $1 AND app_id = $2",
            params![&stream.user_id, &stream.app_id],
        )
        .await?;
    row.map(|row| row.get(0)).transpose()
}

/// The key of a stream, whose row is made if this is the first write to it.
///
/// # Errors
/// [`StoreError::NoSuchStream`] if the account was deleted after the request was admitted, or the app does not exist.
pub async fn find_or_create(db: &impl Executor, stream: StreamId) -> Result<i64, StoreError> {
    if let Some(key) = find(db, stream).await? {
        return Ok(key);
    }
    let row = db
        .query_one(
            "INSERT INTO streams (user_id, app_id, head) VALUES ($1, $2, $3) RETURNING stream_key",
            params![&stream.user_id, &stream.app_id, &start(stream).head],
        )
        .await?;
    row.ok_or(StoreError::NoSuchStream)?.get(0)
}

/// Hands every stream of an account to another one, emptied: everything in it is below the base and may be swept.
pub(crate) async fn hand_over(db: &impl Executor, from: UserId, to: UserId) -> Result<(), StoreError> {
    db.execute(
        "UPDATE streams SET user_id = $2, base_seq = seq, base_head = CASE WHEN seq = 0 THEN NULL ELSE head END
         WHERE user_id = $1",
        params![&from, &to],
    )
    .await?;
    db.execute(
        "UPDATE snapshots SET state = 'condemned'
         WHERE stream_key IN (SELECT stream_key FROM streams WHERE user_id = $1)",
        params![&to],
    )
    .await?;
    Ok(())
}
