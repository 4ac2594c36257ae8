//! The row of a stream: its small key, its position and its sizes.

use rusqlite::{Connection, OptionalExtension as _, Row};
use synckit_protocol::{AppId, Head, KeyId, Position};

use super::{
    columns::{id, unsigned},
    failure::Failure,
};
use crate::{StreamId, rules::positions::StreamState};

/// A stream that was used before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    /// The key by which other tables name it.
    pub(super) key: i64,
    /// Its row.
    pub(super) state: StreamState,
}

/// The stream, unless nothing was ever written to it.
pub(super) fn find(db: &Connection, stream: StreamId) -> Result<Option<Stream>, Failure> {
    let mut found = db.prepare_cached(
        "SELECT stream_key, seq, head, key_id, base_seq, base_head, snapshot_seq
         FROM streams WHERE user_id = ?1 AND app_id = ?2",
    )?;
    Ok(found
        .query_row([stream.user_id.as_bytes(), stream.app_id.as_bytes()], |row| {
            read(stream, row)
        })
        .optional()?)
}

/// The stream, the sealed bytes that its account stores in every app, and those that count in this one.
///
/// Reads all streams of the account, which are few: that costs less than a second look for the sum.
pub(super) fn find_with_usage(db: &Connection, stream: StreamId) -> Result<Option<(Stream, u64, u64)>, Failure> {
    let mut all = db.prepare_cached(
        "SELECT stream_key, seq, head, key_id, base_seq, base_head, snapshot_seq, app_id,
             batch_bytes + snapshot_bytes + blob_bytes, deleted_bytes
         FROM streams WHERE user_id = ?1",
    )?;
    let mut rows = all.query([stream.user_id.as_bytes()])?;
    let (mut found, mut stored_bytes) = (None, 0_u64);
    while let Some(row) = rows.next()? {
        let in_app = unsigned(row, 8)?;
        stored_bytes = stored_bytes.saturating_add(in_app);
        if id(row, 7, AppId::from_bytes)? == stream.app_id {
            found = Some((read(stream, row)?, in_app.saturating_sub(unsigned(row, 9)?)));
        }
    }
    Ok(found.map(|(found, counted_bytes)| (found, stored_bytes, counted_bytes)))
}

/// Reads the first columns of a row.
fn read(stream: StreamId, row: &Row<'_>) -> rusqlite::Result<Stream> {
    Ok(Stream {
        key: row.get(0)?,
        state: StreamState {
            id: stream,
            latest: Position {
                seq: unsigned(row, 1)?,
                head: id(row, 2, Head::from_bytes)?,
            },
            key_id: row.get::<_, Option<[u8; 16]>>(3)?.map(KeyId::from_bytes),
            base: match row.get::<_, Option<[u8; 32]>>(5)? {
                Some(head) => Some(Position {
                    seq: unsigned(row, 4)?,
                    head: Head::from_bytes(head),
                }),
                None => None,
            },
            snapshot_seq: unsigned(row, 6)?,
        },
    })
}

/// The newest positions of those of these streams that were ever used.
pub(super) fn heads(db: &Connection, ids: &[StreamId]) -> Result<Vec<(StreamId, Position)>, Failure> {
    let mut heads = Vec::new();
    for id in ids {
        if let Some(stream) = find(db, *id)? {
            heads.push((*id, stream.state.latest));
        }
    }
    Ok(heads)
}
