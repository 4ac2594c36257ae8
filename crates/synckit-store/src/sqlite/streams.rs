//! The row of a stream: its small key, its position and its sizes.

use rusqlite::{Connection, OptionalExtension as _, ffi, params};
use synckit_protocol::{Head, KeyId, Position};

use super::{
    columns::{id, unsigned},
    failure::Failure,
    snapshots,
};
use crate::{StreamId, StreamStatus};

/// A stream that was used before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    /// What other tables call it.
    pub(super) key: i64,
    /// Its newest position.
    pub(super) latest: Position,
    /// The current master key, once encryption is set up.
    pub(super) key_id: Option<KeyId>,
    /// Where the log begins, unless it is whole.
    pub(super) base: Option<Position>,
    /// The sequence of the newest snapshot, 0 if there is none.
    pub(super) snapshot_seq: u64,
}

impl Stream {
    /// The sequence that the log begins after.
    pub(super) fn base_seq(&self) -> u64 {
        self.base.map_or(0, |base| base.seq)
    }
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
            })
        })
        .optional()?;
    Ok(found)
}

/// The key of the stream, whose row is made if this is the first write to it.
pub(super) fn find_or_create(db: &Connection, stream: StreamId) -> Result<i64, Failure> {
    if let Some(found) = find(db, stream)? {
        return Ok(found.key);
    }
    let inserted = db
        .prepare_cached("INSERT INTO streams (user_id, app_id, head) VALUES (?1, ?2, ?3)")?
        .execute(params![
            stream.user_id.as_bytes(),
            stream.app_id.as_bytes(),
            start(stream).head.as_bytes()
        ]);
    match inserted {
        Ok(_) => Ok(db.last_insert_rowid()),
        // The account was deleted after the request was let in.
        Err(error)
            if error
                .sqlite_error()
                .is_some_and(|error| error.extended_code == ffi::SQLITE_CONSTRAINT_FOREIGNKEY) =>
        {
            Err(Failure::NoSuchStream)
        }
        Err(error) => Err(error.into()),
    }
}

/// Where a stream begins.
pub(super) fn start(stream: StreamId) -> Position {
    Position::start_of(stream.app_id, stream.user_id)
}

pub(super) fn status(db: &Connection, stream: StreamId) -> Result<StreamStatus, Failure> {
    let found = db
        .prepare_cached(
            "SELECT seq, head, batch_bytes + snapshot_bytes + blob_bytes,
                 (SELECT count(*) FROM devices WHERE devices.stream_key = streams.stream_key AND revoked_at IS NULL),
                 stream_key
             FROM streams WHERE user_id = ?1 AND app_id = ?2",
        )?
        .query_row([stream.user_id.as_bytes(), stream.app_id.as_bytes()], |row| {
            Ok(StreamStatus {
                latest: Position {
                    seq: unsigned(row, 0)?,
                    head: id(row, 1, Head::from_bytes)?,
                },
                stored_bytes: unsigned(row, 2)?,
                devices: row.get(3)?,
                snapshot: None,
            })
            .and_then(|status| Ok((status, row.get::<_, i64>(4)?)))
        })
        .optional()?;
    if let Some((status, stream_key)) = found {
        let snapshot = snapshots::newest(db, stream_key)?;
        return Ok(StreamStatus { snapshot, ..status });
    }
    Ok(StreamStatus {
        snapshot: None,
        latest: start(stream),
        stored_bytes: 0,
        devices: 0,
    })
}
