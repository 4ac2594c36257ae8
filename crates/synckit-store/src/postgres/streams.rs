//! The row of a stream: its small key, its position and its sizes.

use synckit_protocol::{Head, Position};

use crate::{
    StoreError, StreamId,
    records::{Executor, Row, params},
    rules::positions::StreamState,
};

/// A stream that was used before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    /// The key by which other tables name it.
    pub(super) key: i64,
    /// Its row.
    pub(super) state: StreamState,
}

/// The stream, unless nothing was ever written to it.
pub(super) async fn find(db: &impl Executor, stream: StreamId) -> Result<Option<Stream>, StoreError> {
    let row = db
        .query_one(
            "SELECT stream_key, seq, head, key_id, base_seq, base_head, snapshot_seq
             FROM streams WHERE user_id = $1 AND app_id = $2",
            params![&stream.user_id, &stream.app_id],
        )
        .await?;
    row.map(|row| read(stream, &row)).transpose()
}

/// The stream, of which the caller is the only writer until its transaction ends.
pub(super) async fn lock(db: &impl Executor, stream: StreamId) -> Result<Option<Stream>, StoreError> {
    let row = db
        .query_one(
            "SELECT stream_key, seq, head, key_id, base_seq, base_head, snapshot_seq
             FROM streams WHERE user_id = $1 AND app_id = $2 FOR NO KEY UPDATE",
            params![&stream.user_id, &stream.app_id],
        )
        .await?;
    row.map(|row| read(stream, &row)).transpose()
}

/// Reads the first columns of a row.
pub(super) fn read(stream: StreamId, row: &Row) -> Result<Stream, StoreError> {
    Ok(Stream {
        key: row.get(0)?,
        state: StreamState {
            id: stream,
            latest: Position {
                seq: row.get(1)?,
                head: row.get(2)?,
            },
            key_id: row.get(3)?,
            base: match row.get::<Option<Head>>(5)? {
                Some(head) => Some(Position { seq: row.get(4)?, head }),
                None => None,
            },
            snapshot_seq: row.get(6)?,
        },
    })
}
