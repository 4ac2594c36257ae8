//! The place of a position in a log: the rows that [`crate::rules::positions`] decides by.

use synckit_protocol::{BatchDigest, Cursor, Position, limits::CHAIN_PAGE_DIGESTS_MAX, wire::snapshots::SnapshotInfo};

use super::streams::{self, Stream};
use crate::{
    ChainPage, ChainRead, StoreError, StreamId,
    records::{Executor, ImpossibleValue, Row, params},
    rules::positions::{Elsewhere, Place, is_end_of, place, place_of_cursor},
};

/// The place of a position, unless it is the stream's head; `None`, too, if the account was deleted meanwhile.
pub(super) async fn elsewhere(
    db: &impl Executor,
    id: StreamId,
    position: Position,
) -> Result<Option<Elsewhere>, StoreError> {
    let Some(stream) = streams::find(db, id).await? else {
        return Err(StoreError::NoSuchStream);
    };
    let latest = stream.state.latest;
    if position == latest {
        return Ok(None);
    }
    Ok(Some(
        match locate(db, &stream, place(&stream.state, position), position).await? {
            Located::OnChain => Elsewhere::Behind(digests(db, &stream, position.seq, CHAIN_PAGE_DIGESTS_MAX).await?),
            Located::BelowBase => Elsewhere::Compacted(newest_of(db, &stream).await?),
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

async fn locate(db: &impl Executor, stream: &Stream, place: Place, position: Position) -> Result<Located, StoreError> {
    Ok(match place {
        Place::OnChain => Located::OnChain,
        Place::BelowBase => Located::BelowBase,
        Place::Diverged => Located::Diverged,
        Place::Inside => {
            let head = db
                .query_one(
                    "SELECT head FROM batches WHERE stream_key = $1 AND last_seq = $2",
                    params![stream.key, position.seq],
                )
                .await?;
            if is_end_of(head.map(|row| row.get(0)).transpose()?, position) {
                Located::OnChain
            } else {
                Located::Diverged
            }
        }
    })
}

/// Whether a batch ends at this position, or the log begins there. A position below the base is not on the chain any more.
pub(super) async fn is_on_chain(db: &impl Executor, stream: &Stream, position: Position) -> Result<bool, StoreError> {
    Ok(locate(db, stream, place(&stream.state, position), position).await? == Located::OnChain)
}

/// Whether a cursor is the start, or on the chain.
pub(super) async fn is_valid(db: &impl Executor, stream: &Stream, cursor: Cursor) -> Result<bool, StoreError> {
    match cursor.position() {
        None => Ok(true),
        Some(position) => is_on_chain(db, stream, position).await,
    }
}

pub(super) async fn chain(db: &impl Executor, id: StreamId, from: Cursor, limit: u32) -> Result<ChainRead, StoreError> {
    let Some(stream) = streams::find(db, id).await? else {
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
        Some(position) => locate(db, &stream, place_of_cursor(&stream.state, from), position).await?,
        None if place_of_cursor(&stream.state, from) == Place::BelowBase => Located::BelowBase,
        None => Located::OnChain,
    };
    match located {
        Located::OnChain => digests(db, &stream, from.seq(), limit).await.map(ChainRead::Page),
        Located::BelowBase => newest_of(db, &stream).await.map(ChainRead::Compacted),
        Located::Diverged => Ok(ChainRead::Diverged {
            latest: stream.state.latest,
        }),
    }
}

async fn digests(db: &impl Executor, stream: &Stream, after_seq: u64, limit: u32) -> Result<ChainPage, StoreError> {
    let rows = db
        .query(
            "SELECT batch_id, device_id, key_id, entry_count, sealed_hash, last_seq
             FROM batches JOIN devices USING (stream_key, device_key)
             WHERE batches.stream_key = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3",
            params![stream.key, after_seq, limit],
        )
        .await?;
    let mut digests = Vec::with_capacity(rows.len());
    let mut end = after_seq;
    for row in rows {
        digests.push(BatchDigest {
            batch_id: row.get(0)?,
            device_id: row.get(1)?,
            key_id: row.get(2)?,
            count: row.get(3)?,
            sealed_hash: row.get(4)?,
        });
        end = row.get(5)?;
    }
    let latest = stream.state.latest;
    Ok(ChainPage {
        digests,
        latest,
        has_more: end < latest.seq,
    })
}

/// Reads the columns of a snapshot that a device is told.
pub(super) fn read_snapshot(row: &Row) -> Result<SnapshotInfo, StoreError> {
    Ok(SnapshotInfo {
        snapshot_id: row.get(0)?,
        key_id: row.get(1)?,
        position: Position {
            seq: row.get(2)?,
            head: row.get(3)?,
        },
        parts: row.get(4)?,
        size: row.get(5)?,
        created_at: row.get(6)?,
    })
}

pub(super) async fn newest(db: &impl Executor, stream_key: i64) -> Result<Option<SnapshotInfo>, StoreError> {
    let row = db
        .query_one(
            "SELECT snapshot_id, key_id, seq, head, part_count, size_bytes, touched_at FROM snapshots
             WHERE stream_key = $1 AND state = 'kept' ORDER BY seq DESC LIMIT 1",
            params![stream_key],
        )
        .await?;
    row.as_ref().map(read_snapshot).transpose()
}

/// The newest snapshot of a stream that has one.
pub(super) async fn newest_of(db: &impl Executor, stream: &Stream) -> Result<SnapshotInfo, StoreError> {
    let newest = newest(db, stream.key).await?;
    Ok(newest.ok_or(ImpossibleValue("log without its snapshot"))?)
}

/// The oldest snapshot that the log of a stream continues from.
pub(super) async fn oldest_of(db: &impl Executor, stream: &Stream) -> Result<SnapshotInfo, StoreError> {
    let row = db
        .query_one(
            "SELECT snapshot_id, key_id, seq, head, part_count, size_bytes, touched_at FROM snapshots
             WHERE stream_key = $1 AND state = 'kept' AND seq >= $2 ORDER BY seq LIMIT 1",
            params![stream.key, stream.state.base_seq()],
        )
        .await?;
    read_snapshot(&row.ok_or(ImpossibleValue("log without its snapshot"))?)
}
