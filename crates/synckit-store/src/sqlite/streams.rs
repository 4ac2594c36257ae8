//! The row of a stream: its small key, its position and its sizes.

use rusqlite::{Connection, OptionalExtension as _};
use synckit_protocol::{Head, KeyId, Position};

use super::{
    columns::{id, unsigned},
    failure::Failure,
};
use crate::{StreamId, records::streams, rules::positions::StreamState};

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
    let found = db
        .prepare_cached(
            "SELECT stream_key, seq, head, key_id, base_seq, base_head, snapshot_seq
             FROM streams WHERE user_id = ?1 AND app_id = ?2",
        )?
        .query_row([stream.user_id.as_bytes(), stream.app_id.as_bytes()], |row| {
            Ok(Stream {
                key: row.get(0)?,
                state: StreamState {
                    start: streams::start(stream),
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
        })
        .optional()?;
    Ok(found)
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
