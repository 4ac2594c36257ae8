//! The log: appending batches, reading pages and digests.
//!
//! Nothing here works per entry, counts rows, or reads sealed bytes that do not go into an answer.
//!
//! Invariant: the batches of a stream above its base have no gaps between their sequences, and the head in its row is
//! the head of its last batch. Nothing at or below the base is read, whether its rows are still there or not.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use synckit_protocol::{
    BatchDigest, BatchId, Cursor, DeviceId, Head, KeyId, Position, SealedHash,
    limits::{CHAIN_PAGE_DIGESTS_MAX, PAGE_ENTRIES_MAX},
    wire::snapshots::SnapshotInfo,
};

use super::{
    columns::{Unsigned, id, unsigned},
    devices,
    failure::Failure,
    snapshots,
    streams::{self, Stream},
};
use crate::{Append, ChainPage, ChainRead, NewBatch, PageRead, PageRequest, StoredBatch, StreamId};

/// The newest sequence that fits into SQLite's signed numbers.
const SEQ_MAX: u64 = i64::MAX as u64;

/// Sealed bytes that are kept in the row of the batch, at most. With them a row stays below a quarter of a page, above
/// which SQLite would chain it over other pages.
const INLINE_BYTES_MAX: usize = 768;

/// What the writer found.
#[derive(Debug)]
pub(super) enum Attempt {
    /// An answer.
    Answered(Append),
    /// The parent is not the head. Whether it is on the chain is for a reader to find out: the writer has better to do.
    ParentIsNotHead,
}

pub(super) fn append(db: &Connection, batch: &NewBatch) -> Result<Attempt, Failure> {
    let Some(stream) = streams::find(db, batch.stream)? else {
        return Ok(Attempt::Answered(Append::DeviceNotFound));
    };
    if let Some(first_answer) = first_answer(db, &stream, batch.digest.batch_id)? {
        return Ok(Attempt::Answered(first_answer));
    }
    let Some(device) = devices::presence(db, stream.key, batch.digest.device_id)? else {
        return Ok(Attempt::Answered(Append::DeviceNotFound));
    };
    if device.revoked {
        return Ok(Attempt::Answered(Append::DeviceRevoked));
    }
    match stream.key_id {
        None => return Ok(Attempt::Answered(Append::NoEnvelope)),
        Some(current) if current != batch.digest.key_id => return Ok(Attempt::Answered(Append::KeyMismatch)),
        Some(_) => {}
    }
    if batch.parent != stream.latest {
        return Ok(Attempt::ParentIsNotHead);
    }
    let position = stream.latest.advance(&batch.digest).filter(|next| next.seq <= SEQ_MAX);
    let position = position.ok_or(Failure::InvalidBatch)?;
    insert(db, &stream, device.device_key, batch, position)?;
    if device.is_due(batch.now) {
        devices::seen(db, device.device_key, batch.now)?;
    }
    Ok(Attempt::Answered(Append::Stored {
        first_seq: stream.latest.seq + 1,
        position,
        repeated: false,
    }))
}

/// What the first request with this batch id was answered, if there was one.
fn first_answer(db: &Connection, stream: &Stream, batch_id: BatchId) -> Result<Option<Append>, Failure> {
    let ids = params![stream.key, batch_id.as_bytes()];
    let answer = db
        .prepare_cached("SELECT last_seq, entry_count, head FROM batches WHERE batch_id = ?2 AND stream_key = ?1")?
        .query_row(ids, read_answer)
        .optional()?;
    if answer.is_some() || stream.base.is_none() {
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

/// Where a position is that is not the stream's head.
pub(super) enum Elsewhere {
    /// On the chain, with these batches after it.
    Behind(ChainPage),
    /// Below what the log still holds.
    Compacted(SnapshotInfo),
    /// Not on the chain.
    Diverged { latest: Position },
}

impl From<Elsewhere> for Append {
    fn from(elsewhere: Elsewhere) -> Self {
        match elsewhere {
            Elsewhere::Behind(page) => Self::Behind(page),
            Elsewhere::Compacted(snapshot) => Self::Compacted(snapshot),
            Elsewhere::Diverged { latest } => Self::Diverged { latest },
        }
    }
}

/// Where a position is, unless it is the stream's head.
pub(super) fn elsewhere(db: &Connection, id: StreamId, position: Position) -> Result<Option<Elsewhere>, Failure> {
    // Somebody saw a row of this stream, and rows of streams stay.
    let stream = streams::find(db, id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    if position == stream.latest {
        return Ok(None);
    }
    if position.seq < stream.base_seq() {
        return Ok(Some(Elsewhere::Compacted(snapshots::newest_of(db, &stream)?)));
    }
    if !is_on_chain(db, id, &stream, position)? {
        return Ok(Some(Elsewhere::Diverged { latest: stream.latest }));
    }
    let page = digests(db, &stream, position.seq, CHAIN_PAGE_DIGESTS_MAX)?;
    Ok(Some(Elsewhere::Behind(page)))
}

/// Whether a batch ends at this position, or the log begins there. What is below the base is not on the chain any more.
pub(super) fn is_on_chain(db: &Connection, id: StreamId, stream: &Stream, position: Position) -> Result<bool, Failure> {
    if position.seq <= stream.base_seq() {
        return Ok(position == stream.base.unwrap_or_else(|| streams::start(id)));
    }
    if position.seq >= stream.latest.seq {
        return Ok(position == stream.latest);
    }
    let head = db
        .prepare_cached("SELECT head FROM batches WHERE stream_key = ?1 AND last_seq = ?2")?
        .query_row(params![stream.key, Unsigned(position.seq)], |row| {
            self::id(row, 0, Head::from_bytes)
        })
        .optional()?;
    Ok(head == Some(position.head))
}

fn is_valid(db: &Connection, id: StreamId, stream: &Stream, cursor: Cursor) -> Result<bool, Failure> {
    match cursor.position() {
        None => Ok(true),
        Some(position) => is_on_chain(db, id, stream, position),
    }
}

pub(super) fn chain(db: &Connection, id: StreamId, from: Cursor, limit: u32) -> Result<ChainRead, Failure> {
    let Some(stream) = streams::find(db, id)? else {
        let latest = streams::start(id);
        return Ok(match from.position() {
            None => ChainRead::Page(ChainPage {
                digests: Vec::new(),
                latest,
                has_more: false,
            }),
            Some(_) => ChainRead::Diverged { latest },
        });
    };
    if from.seq() < stream.base_seq() {
        return snapshots::newest_of(db, &stream).map(ChainRead::Compacted);
    }
    if !is_valid(db, id, &stream, from)? {
        return Ok(ChainRead::Diverged { latest: stream.latest });
    }
    digests(db, &stream, from.seq(), limit).map(ChainRead::Page)
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
    Ok(ChainPage {
        digests,
        latest: stream.latest,
        has_more: end < stream.latest.seq,
    })
}

/// A page, and what it says of the device, if that is worth writing.
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
    let Some(stream) = streams::find(db, request.stream)? else {
        return Ok(PageRead::DeviceNotFound.into());
    };
    let Some(device) = devices::presence(db, stream.key, request.device_id)? else {
        return Ok(PageRead::DeviceNotFound.into());
    };
    if device.revoked {
        return Ok(PageRead::DeviceRevoked.into());
    }
    let seq = request.cursor.seq();
    let below_base = seq < stream.base_seq();
    // Only a cursor that was found on the chain says anything: an invented one must not let the log go.
    let mut pulled_seq = 0;
    let read = if seq == 0 && stream.snapshot_seq > 0 && !request.avoid_snapshot {
        PageRead::Snapshot(snapshots::newest_of(db, &stream)?)
    } else if below_base && request.avoid_snapshot {
        PageRead::Compacted(snapshots::oldest_of(db, &stream)?)
    } else if below_base {
        PageRead::Compacted(snapshots::newest_of(db, &stream)?)
    } else if is_valid(db, request.stream, &stream, request.cursor)? {
        pulled_seq = if request.ahead { 0 } else { seq };
        read_page(db, &stream, request)?
    } else {
        PageRead::Diverged { latest: stream.latest }
    };
    let worth_writing = device.is_due(request.now) || device.passes(pulled_seq, stream.snapshot_seq);
    let device = worth_writing.then_some(DeviceNews {
        device_key: device.device_key,
        pulled_seq,
    });
    Ok(Page { read, device })
}

/// What a page needs to know of a batch before it reads its bytes.
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
    let (mut entries, mut page_bytes) = (0_u64, 0_u64);
    while let Some(row) = rows.next()? {
        let mut candidate = Candidate::read(row)?;
        entries += u64::from(candidate.batch.count);
        page_bytes += candidate.sealed_bytes;
        let fits = entries <= u64::from(PAGE_ENTRIES_MAX) && page_bytes <= u64::from(request.max_bytes);
        if !batches.is_empty() && !fits {
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
        has_more: cursor.seq() < stream.latest.seq,
        cursor,
    })
}

fn sealed(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}
