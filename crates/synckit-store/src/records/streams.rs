//! The row of a stream, as other records need it.

use synckit_protocol::{Position, UserId};

use super::{Executor, params};
use crate::{PAGES_APP, StoreError, StreamId};

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
    if stream.app_id == PAGES_APP {
        // Nobody created this app.
        db.execute(
            "INSERT INTO apps (app_id, name, created_at) VALUES ($1, '', 0) ON CONFLICT (app_id) DO NOTHING",
            params![&PAGES_APP],
        )
        .await?;
    }
    let row = db
        .query_one(
            "INSERT INTO streams (user_id, app_id, head)
             SELECT accounts.user_id, apps.app_id, $3 FROM accounts CROSS JOIN apps
             WHERE accounts.user_id = $1 AND apps.app_id = $2 AND apps.is_deleted = 0 RETURNING stream_key",
            params![&stream.user_id, &stream.app_id, &start(stream).head],
        )
        .await?;
    row.ok_or(StoreError::NoSuchStream)?.get(0)
}

/// The keys of an account's streams.
pub(crate) async fn of_user(db: &impl Executor, user_id: UserId) -> Result<Vec<i64>, StoreError> {
    let rows = db
        .query("SELECT stream_key FROM streams WHERE user_id = $1", params![&user_id])
        .await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// Hands a stream to another account, emptied: everything in it is below the base and may be swept.
pub(crate) async fn hand_over(db: &impl Executor, stream_key: i64, to: UserId) -> Result<(), StoreError> {
    db.execute(
        "UPDATE streams SET user_id = $2, base_seq = seq, base_head = CASE WHEN seq = 0 THEN NULL ELSE head END
         WHERE stream_key = $1",
        params![stream_key, &to],
    )
    .await?;
    db.execute(
        "UPDATE snapshots SET state = 'condemned' WHERE stream_key = $1",
        params![stream_key],
    )
    .await?;
    Ok(())
}
