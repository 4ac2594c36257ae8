//! The row of a stream, as other records need it.

use synckit_protocol::{Position, UserId};

use super::{Executor, Value, params};
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
            "INSERT INTO streams (user_id, app_id, head)
             SELECT accounts.user_id, apps.app_id, $3 FROM accounts CROSS JOIN apps
             WHERE accounts.user_id = $1 AND apps.app_id = $2 AND apps.is_deleted = 0 RETURNING stream_key",
            params![&stream.user_id, &stream.app_id, &start(stream).head],
        )
        .await?;
    row.ok_or(StoreError::NoSuchStream)?.get(0)
}

/// Streams that one statement looks up.
const LOOKED_UP: usize = 16;

/// [`crate::Store::heads`].
///
/// # Errors
/// Those of the engine.
pub async fn heads(db: &impl Executor, streams: &[StreamId]) -> Result<Vec<(StreamId, Position)>, StoreError> {
    let mut heads = Vec::with_capacity(streams.len());
    for some in streams.chunks(LOOKED_UP) {
        // One statement of a fixed size, which engines keep prepared: the last stream fills the rest.
        let last = some.last().into_iter().cycle();
        let filled = some.iter().chain(last).take(LOOKED_UP);
        let values: Vec<Value<'_>> = filled
            .flat_map(|stream| [Value::from(&stream.user_id), Value::from(&stream.app_id)])
            .collect();
        let rows = db
            .query(
                "SELECT app_id, user_id, seq, head FROM streams
                 WHERE (user_id = $1 AND app_id = $2)
                 OR (user_id = $3 AND app_id = $4)
                 OR (user_id = $5 AND app_id = $6)
                 OR (user_id = $7 AND app_id = $8)
                 OR (user_id = $9 AND app_id = $10)
                 OR (user_id = $11 AND app_id = $12)
                 OR (user_id = $13 AND app_id = $14)
                 OR (user_id = $15 AND app_id = $16)
                 OR (user_id = $17 AND app_id = $18)
                 OR (user_id = $19 AND app_id = $20)
                 OR (user_id = $21 AND app_id = $22)
                 OR (user_id = $23 AND app_id = $24)
                 OR (user_id = $25 AND app_id = $26)
                 OR (user_id = $27 AND app_id = $28)
                 OR (user_id = $29 AND app_id = $30)
                 OR (user_id = $31 AND app_id = $32)",
                &values,
            )
            .await?;
        for row in &rows {
            let stream = StreamId {
                app_id: row.get(0)?,
                user_id: row.get(1)?,
            };
            let position = Position {
                seq: row.get(2)?,
                head: row.get(3)?,
            };
            heads.push((stream, position));
        }
    }
    Ok(heads)
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
