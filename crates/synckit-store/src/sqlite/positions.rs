//! The place of a position in a log: the rows that [`crate::rules::positions`] decides by.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use synckit_protocol::{
    BatchDigest, BatchId, Cursor, DeviceId, Head, KeyId, Position, SealedHash, SnapshotId,
    limits::CHAIN_PAGE_DIGESTS_MAX, wire::snapshots::SnapshotInfo,
};

use super::{
    columns::{Unsigned, id, unsigned},
    failure::Failure,
    streams::{self, Stream},
};
use crate::{
    ChainPage, ChainRead, StreamId,
    rules::positions::{Elsewhere, Place, is_end_of, place, place_of_cursor},
};

/// The place of a position, unless it is the stream's head.
pub(super) fn elsewhere(db: &Connection, id: StreamId, position: Position) -> Result<Option<Elsewhere>, Failure> {
    // Somebody saw a row of this stream, and rows of streams stay.
    let stream = streams::find(db, id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let latest = stream.state.latest;
    if position == latest {
        return Ok(None);
    }
    Ok(Some(
        match locate(db, &stream, place(&stream.state, position), position)? {
            Located::OnChain => Elsewhere::Behind(digests(db, &stream, position.seq, CHAIN_PAGE_DIGESTS_MAX)?),
            Located::BelowBase => Elsewhere::Compacted(newest_of(db, &stream)?),
            Located::Diverged => Elsewhere::Diverged { latest },
        },
    ))
}

/// A [`Place`], after the look into the log that it may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Located {
    OnChain,
    BelowBase,
    Diverged,
}

fn locate(db: &Connection, stream: &Stream, place: Place, position: Position) -> Result<Located, Failure> {
    Ok(match place {
        Place::OnChain => Located::OnChain,
        Place::BelowBase => Located::BelowBase,
        Place::Inside if is_end_of(head_at(db, stream, position.seq)?, position) => Located::OnChain,
        Place::Inside | Place::Diverged => Located::Diverged,
    })
}

/// The head of the batch that ends at a sequence.
fn head_at(db: &Connection, stream: &Stream, seq: u64) -> Result<Option<Head>, Failure> {
    let head = db
        .prepare_cached("SELECT head FROM batches WHERE stream_key = ?1 AND last_seq = ?2")?
        .query_row(params![stream.key, Unsigned(seq)], |row| id(row, 0, Head::from_bytes))
        .optional()?;
    Ok(head)
}

/// Whether a batch ends at this position, or the log begins there. A position below the base is not on the chain any more.
pub(super) fn is_on_chain(db: &Connection, stream: &Stream, position: Position) -> Result<bool, Failure> {
    Ok(locate(db, stream, place(&stream.state, position), position)? == Located::OnChain)
}

/// Whether a cursor is the start, or on the chain.
pub(super) fn is_valid(db: &Connection, stream: &Stream, cursor: Cursor) -> Result<bool, Failure> {
    match cursor.position() {
        None => Ok(true),
        Some(position) => is_on_chain(db, stream, position),
    }
}

pub(super) fn chain(db: &Connection, id: StreamId, from: Cursor, limit: u32) -> Result<ChainRead, Failure> {
    let Some(stream) = streams::find(db, id)? else {
        let latest = Position::start_of(id.app_id, id.user_id);
        return Ok(match from.position() {
            None => ChainRead::Page(ChainPage {
                digests: Vec::new(),
                latest,
                has_more: false,
            }),
            Some(_) => ChainRead::Diverged { latest },
        });
    };
    let located = match from.position() {
        Some(position) => locate(db, &stream, place_of_cursor(&stream.state, from), position)?,
        None if place_of_cursor(&stream.state, from) == Place::BelowBase => Located::BelowBase,
        None => Located::OnChain,
    };
    match located {
        Located::OnChain => digests(db, &stream, from.seq(), limit).map(ChainRead::Page),
        Located::BelowBase => newest_of(db, &stream).map(ChainRead::Compacted),
        Located::Diverged => Ok(ChainRead::Diverged {
            latest: stream.state.latest,
        }),
    }
}

fn digests(db: &Connection, stream: &Stream, after_seq: u64, limit: u32) -> Result<ChainPage, Failure> {
    let mut statement = db.prepare_cached(
        "SELECT batch_id, device_id, key_id, entry_count, sealed_hash, last_seq
         FROM batches JOIN devices USING (device_key)
         WHERE batches.stream_key = ?1 AND last_seq > ?2 ORDER BY last_seq LIMIT ?3",
    )?;
    let mut rows = statement.query(params![stream.key, Unsigned(after_seq), limit])?;
    let mut digests = Vec::new();
    let mut end = after_seq;
    while let Some(row) = rows.next()? {
        digests.push(BatchDigest {
            batch_id: id(row, 0, BatchId::from_bytes)?,
            device_id: id(row, 1, DeviceId::from_bytes)?,
            key_id: id(row, 2, KeyId::from_bytes)?,
            count: row.get(3)?,
            sealed_hash: id(row, 4, SealedHash::from_bytes)?,
        });
        end = unsigned(row, 5)?;
    }
    let latest = stream.state.latest;
    Ok(ChainPage {
        digests,
        latest,
        has_more: end < latest.seq,
    })
}

pub(super) fn read_snapshot(row: &Row<'_>) -> rusqlite::Result<SnapshotInfo> {
    Ok(SnapshotInfo {
        snapshot_id: id(row, 0, SnapshotId::from_bytes)?,
        key_id: id(row, 1, KeyId::from_bytes)?,
        position: Position {
            seq: unsigned(row, 2)?,
            head: id(row, 3, Head::from_bytes)?,
        },
        parts: row.get(4)?,
        size: unsigned(row, 5)?,
        created_at: unsigned(row, 6)?,
    })
}

pub(super) fn newest_of_stream(db: &Connection, id: StreamId) -> Result<Option<SnapshotInfo>, Failure> {
    match streams::find(db, id)? {
        Some(stream) => newest(db, stream.key),
        None => Ok(None),
    }
}

pub(super) fn newest(db: &Connection, stream_key: i64) -> Result<Option<SnapshotInfo>, Failure> {
    let newest = db
        .prepare_cached(
            "SELECT snapshot_id, key_id, seq, head, part_count, size_bytes, touched_at FROM snapshots
             WHERE stream_key = ?1 AND state = 'kept' ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([stream_key], read_snapshot)
        .optional()?;
    Ok(newest)
}

/// The newest snapshot of a stream that has one.
pub(super) fn newest_of(db: &Connection, stream: &Stream) -> Result<SnapshotInfo, Failure> {
    newest(db, stream.key)?.ok_or_else(|| rusqlite::Error::QueryReturnedNoRows.into())
}

/// The oldest snapshot that the log of a stream continues from.
pub(super) fn oldest_of(db: &Connection, stream: &Stream) -> Result<SnapshotInfo, Failure> {
    let oldest = db
        .prepare_cached(
            "SELECT snapshot_id, key_id, seq, head, part_count, size_bytes, touched_at FROM snapshots
             WHERE stream_key = ?1 AND state = 'kept' AND seq >= ?2 ORDER BY seq LIMIT 1",
        )?
        .query_row(params![stream.key, Unsigned(stream.state.base_seq())], read_snapshot)?;
    Ok(oldest)
}
