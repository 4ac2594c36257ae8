//! Look-ups of many rows in one statement, for jobs of a node that ask for all that it has subscribers of.
//!
//! The ids come as one parameter of bytes, one id after the other, so that the statement is the same for any number of them.

use synckit_protocol::{Position, SessionId, wire::UnixSeconds};

use crate::{
    StoreError, StreamId,
    records::{Executor, params},
    rules::sessions::oldest,
};

/// [`crate::Store::heads`].
pub(super) async fn heads(db: &impl Executor, streams: &[StreamId]) -> Result<Vec<(StreamId, Position)>, StoreError> {
    let ids = streams
        .iter()
        .flat_map(|stream| [stream.user_id.as_bytes(), stream.app_id.as_bytes()]);
    let ids: Vec<u8> = ids.flatten().copied().collect();
    let rows = db
        .query(
            "SELECT user_id, app_id, seq, head
             FROM generate_series(1, octet_length($1::bytea), 32) AS place
             JOIN streams ON user_id = substr($1::bytea, place, 16) AND app_id = substr($1::bytea, place + 16, 16)",
            params![&ids],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let stream = StreamId {
                user_id: row.get(0)?,
                app_id: row.get(1)?,
            };
            let position = Position {
                seq: row.get(2)?,
                head: row.get(3)?,
            };
            Ok((stream, position))
        })
        .collect()
}

/// [`crate::Store::live_sessions`].
pub(super) async fn live_sessions(
    db: &impl Executor,
    ids: &[SessionId],
    now: UnixSeconds,
) -> Result<Vec<SessionId>, StoreError> {
    let ids: Vec<u8> = ids.iter().flat_map(SessionId::as_bytes).copied().collect();
    let rows = db
        .query(
            "SELECT session_id
             FROM generate_series(1, octet_length($1::bytea), 16) AS place
             JOIN sessions ON session_id = substr($1::bytea, place, 16)
             JOIN streams USING (stream_key) JOIN apps ON apps.app_id = streams.app_id
             WHERE apps.is_deleted = 0 AND refreshed_at > $2",
            params![&ids, oldest(now)],
        )
        .await?;
    rows.iter().map(|row| row.get(0)).collect()
}
