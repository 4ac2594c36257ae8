//! The log: appending batches, reading pages and digests.
//!
//! No function here works per entry, counts rows, or reads sealed bytes that are not part of an answer.
//!
//! Invariant: the batches of a stream above its base have no gaps between their sequences, and the head in its row is
//! the head of its last batch. Nothing at or below the base is read, whether its rows are still there or not.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use synckit_protocol::{BatchId, Cursor, DeviceId, Head, KeyId, Position, limits::PAGE_ENTRIES_MAX};

use super::{
    columns::{Unsigned, id, unsigned},
    devices,
    executor::{Transaction, run},
    failure::Failure,
    positions,
    streams::{self, Stream},
};
use crate::{
    Append, NewBatch, PageRead, PageRequest, StoredBatch, StreamId, StreamStatus, records,
    rules::{
        log::{self as rules, Decision, PageSize, Source, Stored},
        quotas::{self, Quota, Quotas},
    },
};

/// Sealed bytes that are kept in the row of the batch, at most. With them a row stays below a quarter of a page, above
/// which SQLite would chain it over other pages.
pub(super) const INLINE_BYTES_MAX: usize = 768;

/// The writer's finding.
#[derive(Debug)]
pub(super) enum Attempt {
    /// An answer.
    Answered(Append),
    /// The parent is not the head. Whether it is on the chain is for a reader to find out: the writer has better to do.
    ParentIsNotHead,
}

pub(super) fn append(db: &Connection, batch: &NewBatch, quotas: &Quotas) -> Result<Attempt, Failure> {
    let Some((stream, stored_bytes, counted_bytes)) = streams::find_with_usage(db, batch.stream)? else {
        return Ok(Attempt::Answered(Append::DeviceNotFound));
    };
    let device = devices::presence(db, stream.key, batch.digest.device_id)?;
    let stored = Stored {
        stream: stream.state,
        first_answer: first_answer(db, &stream, batch.digest.batch_id)?,
        device: device.map(|device| device.state),
    };
    match (rules::append(stored, batch)?, device) {
        (Decision::Answer(answer), _) => Ok(Attempt::Answered(answer)),
        (Decision::ParentIsNotHead, _) => Ok(Attempt::ParentIsNotHead),
        (Decision::Store { .. }, None) => Ok(Attempt::Answered(Append::DeviceNotFound)),
        (
            Decision::Store {
                position,
                device_is_due,
            },
            Some(device),
        ) => {
            let more_bytes = batch.sealed.len() as u64;
            let exceeded = batch.room.exceeded(counted_bytes, more_bytes);
            let exceeded = match exceeded.or_else(|| quotas::batch(quotas, stored_bytes, more_bytes)) {
                Some(Quota::Bytes) => {
                    let replaced = run(records::usage::replaced_bytes(&Transaction(db), batch.stream.user_id))?;
                    quotas::beside_replaced(quotas, stored_bytes, replaced, more_bytes)
                }
                other => other,
            };
            if let Some(quota) = exceeded {
                return Ok(Attempt::Answered(Append::OverQuota(quota)));
            }
            insert(db, &stream, device.device_key, batch, position)?;
            if device_is_due {
                devices::seen(db, device.device_key, batch.now)?;
            }
            Ok(Attempt::Answered(Decision::stored(&stream.state, position)))
        }
    }
}

/// The answer to the first request with this batch id, if the log has one.
fn first_answer(db: &Connection, stream: &Stream, batch_id: BatchId) -> Result<Option<Append>, Failure> {
    let ids = params![stream.key, batch_id.as_bytes()];
    let answer = db
        .prepare_cached("SELECT last_seq, entry_count, head FROM batches WHERE batch_id = ?2 AND stream_key = ?1")?
        .query_row(ids, read_answer)
        .optional()?;
    if answer.is_some() || stream.state.base.is_none() {
        return Ok(answer);
    }
    let answer = db
        .prepare_cached(
            "SELECT last_seq, entry_count, head FROM batch_answers WHERE batch_id = ?2 AND stream_key = ?1",
        )?
        .query_row(ids, read_answer)
        .optional()?;
    Ok(answer)
}

fn read_answer(row: &Row<'_>) -> rusqlite::Result<Append> {
    let last_seq = unsigned(row, 0)?;
    Ok(Append::Stored {
        first_seq: last_seq - u64::from(row.get::<_, u32>(1)?) + 1,
        position: Position {
            seq: last_seq,
            head: id(row, 2, Head::from_bytes)?,
        },
        repeated: true,
    })
}

fn insert(
    db: &Connection,
    stream: &Stream,
    device_key: i64,
    batch: &NewBatch,
    position: Position,
) -> Result<(), Failure> {
    let inline = (batch.sealed.len() <= INLINE_BYTES_MAX).then_some(&batch.sealed[..]);
    let sealed_key = if inline.is_none() {
        db.prepare_cached("INSERT INTO sealed_batches (sealed) VALUES (?1)")?
            .execute([&batch.sealed[..]])?;
        Some(db.last_insert_rowid())
    } else {
        None
    };
    let sealed_bytes = Unsigned(batch.sealed.len() as u64);
    db.prepare_cached(
        "INSERT INTO batches (stream_key, last_seq, entry_count, batch_id, device_key, key_id, sealed_hash, head,
             sealed_bytes, sealed_key, sealed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        stream.key,
        Unsigned(position.seq),
        batch.digest.count,
        batch.digest.batch_id.as_bytes(),
        device_key,
        batch.digest.key_id.as_bytes(),
        batch.digest.sealed_hash.as_bytes(),
        position.head.as_bytes(),
        sealed_bytes,
        sealed_key,
        inline
    ])?;
    db.prepare_cached("UPDATE streams SET seq = ?2, head = ?3, batch_bytes = batch_bytes + ?4 WHERE stream_key = ?1")?
        .execute(params![
            stream.key,
            Unsigned(position.seq),
            position.head.as_bytes(),
            sealed_bytes
        ])?;
    Ok(())
}

/// A page, and an update of the device, if it is due.
pub(super) struct Page {
    pub(super) read: PageRead,
    pub(super) device: Option<DeviceNews>,
}

/// A device that was seen, and how far its app has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeviceNews {
    pub(super) device_key: i64,
    pub(super) pulled_seq: u64,
}

impl From<PageRead> for Page {
    fn from(read: PageRead) -> Self {
        Self { read, device: None }
    }
}

pub(super) fn page(db: &Connection, request: &PageRequest) -> Result<Page, Failure> {
    let stream = streams::find(db, request.stream)?;
    let device = match &stream {
        Some(stream) => devices::presence(db, stream.key, request.device_id)?,
        None => None,
    };
    let state = device.map(|device| device.state);
    let source = rules::page(stream.as_ref().map(|stream| &stream.state), state.as_ref(), request);
    let (Some(stream), Some(device)) = (stream, device) else {
        return Ok(PageRead::DeviceNotFound.into());
    };
    let mut is_on_chain = false;
    let read = match source {
        Source::Answer(answer) => return Ok(answer.into()),
        Source::NewestSnapshot => PageRead::Snapshot(positions::newest_of(db, &stream)?),
        Source::CompactedToNewest => PageRead::Compacted(positions::newest_of(db, &stream)?),
        Source::CompactedToOldest => PageRead::Compacted(positions::oldest_of(db, &stream)?),
        Source::Log if positions::is_valid(db, &stream, request.cursor)? => {
            is_on_chain = true;
            read_page(db, &stream, request)?
        }
        Source::Log => PageRead::Diverged {
            latest: stream.state.latest,
        },
    };
    let reached = rules::reached(&stream.state, &device.state, request, is_on_chain);
    let device = reached.map(|pulled_seq| DeviceNews {
        device_key: device.device_key,
        pulled_seq,
    });
    Ok(Page { read, device })
}

/// The columns of a batch that a page reads before its bytes.
struct Candidate {
    batch: StoredBatch,
    end: Position,
    sealed_bytes: u64,
}

impl Candidate {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let count: u32 = row.get(1)?;
        let last_seq = unsigned(row, 0)?;
        Ok(Self {
            batch: StoredBatch {
                batch_id: id(row, 2, BatchId::from_bytes)?,
                device_id: id(row, 3, DeviceId::from_bytes)?,
                key_id: id(row, 4, KeyId::from_bytes)?,
                first_seq: last_seq - u64::from(count) + 1,
                count,
                sealed: Bytes::new(),
            },
            end: Position {
                seq: last_seq,
                head: id(row, 5, Head::from_bytes)?,
            },
            sealed_bytes: unsigned(row, 6)?,
        })
    }
}

fn read_page(db: &Connection, stream: &Stream, request: &PageRequest) -> Result<PageRead, Failure> {
    let mut candidates = db.prepare_cached(
        "SELECT last_seq, entry_count, batch_id, device_id, key_id, head, sealed_bytes, sealed_key, sealed
         FROM batches JOIN devices USING (device_key)
         WHERE batches.stream_key = ?1 AND last_seq > ?2 ORDER BY last_seq LIMIT ?3",
    )?;
    let mut elsewhere = db.prepare_cached("SELECT sealed FROM sealed_batches WHERE sealed_key = ?1")?;
    // Every batch holds an entry, so a page has no more batches than entries.
    let mut rows = candidates.query(params![stream.key, Unsigned(request.cursor.seq()), PAGE_ENTRIES_MAX])?;
    let mut batches = Vec::new();
    let mut cursor = request.cursor;
    let mut size = PageSize::default();
    while let Some(row) = rows.next()? {
        let mut candidate = Candidate::read(row)?;
        if !size.add(candidate.batch.count, candidate.sealed_bytes, request.max_bytes) {
            break;
        }
        candidate.batch.sealed = match row.get::<_, Option<i64>>(7)? {
            Some(sealed_key) => elsewhere.query_row([sealed_key], |row| sealed(row, 0))?,
            None => sealed(row, 8)?,
        };
        cursor = Cursor::at(candidate.end);
        batches.push(candidate.batch);
    }
    Ok(PageRead::Page {
        batches,
        has_more: cursor.seq() < stream.state.latest.seq,
        cursor,
    })
}

fn sealed(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
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
            let status = StreamStatus {
                latest: Position {
                    seq: unsigned(row, 0)?,
                    head: id(row, 1, Head::from_bytes)?,
                },
                stored_bytes: unsigned(row, 2)?,
                devices: row.get(3)?,
                snapshot: None,
            };
            Ok((status, row.get::<_, i64>(4)?))
        })
        .optional()?;
    let Some((status, stream_key)) = found else {
        return Ok(StreamStatus {
            snapshot: None,
            latest: Position::start_of(stream.app_id, stream.user_id),
            stored_bytes: 0,
            devices: 0,
        });
    };
    Ok(StreamStatus {
        snapshot: positions::newest(db, stream_key)?,
        ..status
    })
}
