//! The log: appending batches, reading pages of it.
//!
//! An append is two statements: one reads all that decides about it, one stores it if nothing came in between. The second
//! moves the head of the stream only from the batch's parent, and inserts the batch only if it moved the head. Two appends to
//! one parent therefore wait for each other at the row of their stream, and at nothing else.
//!
//! Invariant: the batches of a stream above its base have no gaps between their sequences, and the head in its row is
//! the head of its last batch. Nothing at or below the base is read, whether its rows are still there or not.

use bytes::Bytes;
use synckit_protocol::{BatchId, Cursor, DeviceId, Head, KeyId, Position, limits::PAGE_ENTRIES_MAX};

use super::{
    connection::Connection,
    devices::{self, Presence, Seen},
    failure::failed,
    positions,
    streams::{self, Stream},
};
use crate::{
    Append, NewBatch, PageRead, PageRequest, StoreError, StoredBatch, StreamId, StreamStatus,
    records::{Executor, ImpossibleValue, Row, params},
    rules::log::{self as rules, PageSize, Source, Stored},
};

/// The rows by which an append is decided.
pub(super) struct Found {
    pub(super) stream: Stream,
    pub(super) device: Option<Presence>,
    first_answer: Option<Append>,
    /// Sealed bytes of the account, in every app.
    pub(super) stored_bytes: u64,
    /// Sealed bytes that count in this stream.
    pub(super) counted_bytes: u64,
}

impl Found {
    /// As the rule takes them.
    pub(super) fn stored(&mut self) -> Stored {
        Stored {
            stream: self.stream.state,
            first_answer: self.first_answer.take(),
            device: self.device.map(|device| device.state),
        }
    }
}

/// Reads all that decides about a batch; `None` if nothing was ever written to the stream.
pub(super) async fn look_up(db: &impl Executor, batch: &NewBatch) -> Result<Option<Found>, StoreError> {
    let row = db
        .query_one(
            "SELECT streams.stream_key, streams.seq, streams.head, streams.key_id, base_seq, base_head, snapshot_seq,
                 device_key, revoked_at, last_seen_at, pulled_seq,
                 answer.last_seq, answer.entry_count, answer.head,
                 (SELECT CAST(coalesce(sum(batch_bytes + snapshot_bytes + blob_bytes), 0) AS bigint)
                  FROM streams WHERE user_id = $1),
                 batch_bytes + snapshot_bytes + blob_bytes - deleted_bytes
             FROM streams
                 LEFT JOIN devices ON devices.stream_key = streams.stream_key AND device_id = $3
                 LEFT JOIN LATERAL (
                     SELECT last_seq, entry_count, head FROM batches
                     WHERE batches.stream_key = streams.stream_key AND batch_id = $4
                     UNION ALL
                     SELECT last_seq, entry_count, head FROM batch_answers
                     WHERE batch_answers.stream_key = streams.stream_key AND batch_id = $4
                     LIMIT 1
                 ) AS answer ON true
             WHERE user_id = $1 AND app_id = $2",
            params![
                &batch.stream.user_id,
                &batch.stream.app_id,
                &batch.digest.device_id,
                &batch.digest.batch_id
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Found {
        stream: streams::read(batch.stream, &row)?,
        device: devices::read(&row, 7)?,
        first_answer: first_answer(&row, 11)?,
        stored_bytes: row.get(14)?,
        counted_bytes: row.get(15)?,
    }))
}

/// The answer to the first request with this batch id, if the log has one.
fn first_answer(row: &Row, first: usize) -> Result<Option<Append>, StoreError> {
    let Some(last_seq) = row.get::<Option<u64>>(first)? else {
        return Ok(None);
    };
    let count: u32 = row.get(first + 1)?;
    Ok(Some(Append::Stored {
        first_seq: first_seq(last_seq, count)?,
        position: Position {
            seq: last_seq,
            head: row.get(first + 2)?,
        },
        repeated: true,
    }))
}

fn first_seq(last_seq: u64, count: u32) -> Result<u64, StoreError> {
    let before = last_seq.checked_sub(u64::from(count));
    Ok(before.ok_or(ImpossibleValue("batch before the start of its log"))? + 1)
}

/// Stores a batch, if the stream still is as it was found: same owner, same head, same key, and the device not revoked.
/// Returns whether it was stored. `seen` is whether the device's last-seen time is written, too.
pub(super) async fn store(
    db: &impl Executor,
    batch: &NewBatch,
    (stream, device): (&Stream, &Presence),
    position: Position,
    seen: bool,
) -> Result<bool, StoreError> {
    let stored = db
        .execute(
            "WITH moved AS (
                 UPDATE streams SET seq = $3, head = $4, batch_bytes = batch_bytes + octet_length($5::bytea)
                 WHERE stream_key = $1 AND user_id = $2 AND seq = $6 AND head = $7 AND key_id = $8
                     AND EXISTS (
                         SELECT 1 FROM devices WHERE stream_key = $1 AND device_key = $9 AND revoked_at IS NULL)
                 RETURNING stream_key
             ), seen AS (
                 UPDATE devices SET last_seen_at = greatest(last_seen_at, $13::bigint) FROM moved
                 WHERE devices.stream_key = $1 AND device_key = $9 AND $14::bigint = 1
             )
             INSERT INTO batches (stream_key, last_seq, entry_count, batch_id, device_key, key_id, sealed_hash, head,
                 sealed_bytes, sealed)
             SELECT stream_key, $3, $10::bigint, $11::bytea, $9, $8, $12::bytea, $4, octet_length($5), $5 FROM moved",
            params![
                stream.key,
                &batch.stream.user_id,
                position.seq,
                &position.head,
                &batch.sealed[..],
                batch.parent.seq,
                &batch.parent.head,
                &batch.digest.key_id,
                device.device_key,
                batch.digest.count,
                &batch.digest.batch_id,
                &batch.digest.sealed_hash,
                batch.now,
                u32::from(seen)
            ],
        )
        .await?;
    Ok(stored > 0)
}

/// A page, and an update of the device, if it is due.
pub(super) struct Page {
    pub(super) read: PageRead,
    pub(super) device: Option<Seen>,
}

impl From<PageRead> for Page {
    fn from(read: PageRead) -> Self {
        Self { read, device: None }
    }
}

pub(super) async fn page(db: &Connection, request: &PageRequest) -> Result<Page, StoreError> {
    let row = db
        .query_one(
            "SELECT streams.stream_key, seq, head, key_id, base_seq, base_head, snapshot_seq,
                 device_key, revoked_at, last_seen_at, pulled_seq
             FROM streams LEFT JOIN devices ON devices.stream_key = streams.stream_key AND device_id = $3
             WHERE user_id = $1 AND app_id = $2",
            params![&request.stream.user_id, &request.stream.app_id, &request.device_id],
        )
        .await?;
    let (stream, device) = match &row {
        Some(row) => (Some(streams::read(request.stream, row)?), devices::read(row, 7)?),
        None => (None, None),
    };
    let state = device.map(|device| device.state);
    let source = rules::page(stream.as_ref().map(|stream| &stream.state), state.as_ref(), request);
    let (Some(stream), Some(device)) = (stream, device) else {
        return Ok(PageRead::DeviceNotFound.into());
    };
    let mut is_on_chain = false;
    let read = match source {
        Source::Answer(answer) => return Ok(answer.into()),
        Source::NewestSnapshot => PageRead::Snapshot(positions::newest_of(db, &stream).await?),
        Source::CompactedToNewest => PageRead::Compacted(positions::newest_of(db, &stream).await?),
        Source::CompactedToOldest => PageRead::Compacted(positions::oldest_of(db, &stream).await?),
        Source::Log if positions::is_valid(db, &stream, request.cursor).await? => {
            is_on_chain = true;
            read_page(db, &stream, request).await?
        }
        Source::Log => PageRead::Diverged {
            latest: stream.state.latest,
        },
    };
    let reached = rules::reached(&stream.state, &device.state, request, is_on_chain);
    let device = reached.map(|pulled_seq| Seen {
        stream_key: stream.key,
        device_key: device.device_key,
        pulled_seq,
    });
    Ok(Page { read, device })
}

/// Reads only the batches that fit: the sums are over small columns, and PostgreSQL keeps larger bytes apart until they are
/// returned.
const PAGE: &str = "
    SELECT last_seq, entry_count, batch_id, device_id, key_id, head, sealed, sealed_bytes FROM (
        SELECT last_seq, entry_count, batch_id, device_id, key_id, head, sealed, sealed_bytes,
            row_number() OVER in_order AS place, sum(entry_count) OVER in_order AS entries,
            sum(sealed_bytes) OVER in_order AS bytes
        FROM (
            SELECT stream_key, last_seq, entry_count, batch_id, device_key, key_id, head, sealed, sealed_bytes
            FROM batches
            WHERE stream_key = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3
        ) AS candidates JOIN devices USING (stream_key, device_key)
        WINDOW in_order AS (ORDER BY last_seq)
    ) AS page
    WHERE place = 1 OR (entries <= $3 AND bytes <= $4::bigint) ORDER BY last_seq";

async fn read_page(db: &Connection, stream: &Stream, request: &PageRequest) -> Result<PageRead, StoreError> {
    let mut batches = Vec::new();
    let mut cursor = request.cursor;
    if cursor.seq() < stream.state.latest.seq {
        // Every batch holds an entry, so a page has no more batches than entries.
        let values = params![stream.key, cursor.seq(), PAGE_ENTRIES_MAX, request.max_bytes];
        let mut size = PageSize::default();
        for row in db.rows(PAGE, values).await? {
            let (batch, end, sealed_bytes) = read_batch(&row)?;
            if !size.add(batch.count, sealed_bytes, request.max_bytes) {
                break;
            }
            cursor = Cursor::at(end);
            batches.push(batch);
        }
    }
    Ok(PageRead::Page {
        batches,
        has_more: cursor.seq() < stream.state.latest.seq,
        cursor,
    })
}

/// Reads a batch without the copies that [`Row`] makes.
fn read_batch(row: &tokio_postgres::Row) -> Result<(StoredBatch, Position, u64), StoreError> {
    fn bytes(row: &tokio_postgres::Row, index: usize) -> Result<&[u8], StoreError> {
        row.try_get(index).map_err(failed)
    }
    fn id<const N: usize>(row: &tokio_postgres::Row, index: usize) -> Result<[u8; N], StoreError> {
        Ok(bytes(row, index)?.try_into().map_err(|_| ImpossibleValue("id"))?)
    }
    fn number(row: &tokio_postgres::Row, index: usize) -> Result<u64, StoreError> {
        let number: i64 = row.try_get(index).map_err(failed)?;
        Ok(number.try_into().map_err(|_| ImpossibleValue("negative number"))?)
    }
    let end = Position {
        seq: number(row, 0)?,
        head: Head::from_bytes(id(row, 5)?),
    };
    let count = u32::try_from(number(row, 1)?).map_err(|_| ImpossibleValue("number of more than 32 bits"))?;
    let batch = StoredBatch {
        batch_id: BatchId::from_bytes(id(row, 2)?),
        device_id: DeviceId::from_bytes(id(row, 3)?),
        key_id: KeyId::from_bytes(id(row, 4)?),
        first_seq: first_seq(end.seq, count)?,
        count,
        sealed: Bytes::copy_from_slice(bytes(row, 6)?),
    };
    Ok((batch, end, number(row, 7)?))
}

pub(super) async fn status(db: &impl Executor, stream: StreamId) -> Result<StreamStatus, StoreError> {
    let row = db
        .query_one(
            "SELECT stream_key, seq, head, batch_bytes + snapshot_bytes + blob_bytes,
                 (SELECT count(*) FROM devices WHERE devices.stream_key = streams.stream_key AND revoked_at IS NULL)
             FROM streams WHERE user_id = $1 AND app_id = $2",
            params![&stream.user_id, &stream.app_id],
        )
        .await?;
    let Some(row) = row else {
        return Ok(StreamStatus {
            snapshot: None,
            latest: Position::start_of(stream.app_id, stream.user_id),
            stored_bytes: 0,
            devices: 0,
        });
    };
    Ok(StreamStatus {
        latest: Position {
            seq: row.get(1)?,
            head: row.get(2)?,
        },
        snapshot: positions::newest(db, row.get(0)?).await?,
        stored_bytes: row.get(3)?,
        devices: row.get(4)?,
    })
}
