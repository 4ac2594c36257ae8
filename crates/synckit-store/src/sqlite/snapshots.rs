//! Snapshots: parts while they come, complete ones, and which of them stay.
//!
//! Invariants: no reader sees a snapshot without a manifest; a complete one never changes; while a stream's log does
//! not begin at its start, a snapshot of its base or of a later position is kept.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use synckit_protocol::{OwnerKey, SnapshotId, limits::SNAPSHOT_UPLOADS_MAX, wire::UnixSeconds};

use super::{
    columns::{Unsigned, unsigned},
    executor::{Transaction, run},
    failure::Failure,
    positions,
    streams::{self, Stream},
};
use crate::{
    NewSnapshot, NewSnapshotPart, SnapshotPartWrite, SnapshotWrite, StoredSnapshot, StreamId,
    records::{self, ImpossibleValue, envelopes},
    rules::{
        quotas::{self, Quotas},
        snapshots::{self as rules, Kept, Stage},
    },
};

/// The row of a snapshot, in any state.
struct Found {
    key: i64,
    stage: Stage,
}

fn find_any(db: &Connection, stream_key: i64, snapshot_id: SnapshotId) -> Result<Option<Found>, Failure> {
    let found = db
        .prepare_cached("SELECT snapshot_key, state FROM snapshots WHERE stream_key = ?1 AND snapshot_id = ?2")?
        .query_row(params![stream_key, snapshot_id.as_bytes()], |row| {
            Ok(Found {
                key: row.get(0)?,
                stage: stage(row, 1)?,
            })
        })
        .optional()?;
    Ok(found)
}

pub(super) fn put_part(db: &Connection, part: &NewSnapshotPart, quotas: &Quotas) -> Result<SnapshotPartWrite, Failure> {
    let Some(stream) = streams::find(db, part.stream)? else {
        return Ok(SnapshotPartWrite::NoEnvelope);
    };
    let found = find_any(db, stream.key, part.snapshot_id)?;
    let is_same = match &found {
        Some(found) if found.stage == Stage::Kept => {
            part_of(db, (stream.key, found.key), part.part)?.is_some_and(|stored| stored == part.sealed)
        }
        _ => false,
    };
    let stage = found.as_ref().map(|found| found.stage);
    if let Some(answer) = rules::put_part(stream.state.key_id, stage, is_same) {
        return Ok(answer);
    }
    let stored_bytes = run(records::usage::stored_bytes(&Transaction(db), part.stream.user_id))?;
    let more_bytes = part.sealed.len() as u64;
    let user_bytes = run(records::usage::counted_bytes(&Transaction(db), stream.key))?;
    let over_plan = part.room.for_snapshots().exceeded(user_bytes, more_bytes);
    if let Some(quota) = over_plan.or_else(|| quotas::snapshot_part(quotas, stored_bytes, more_bytes)) {
        return Ok(SnapshotPartWrite::OverQuota(quota));
    }
    let snapshot_key = match found {
        Some(found) => found.key,
        None => begin(db, &stream, part)?,
    };
    let replaced: Option<u64> = db
        .prepare_cached(
            "SELECT length(sealed) FROM snapshot_parts WHERE stream_key = ?1 AND snapshot_key = ?2 AND part = ?3",
        )?
        .query_row(params![stream.key, snapshot_key, part.part], |row| unsigned(row, 0))
        .optional()?;
    db.prepare_cached(
        "INSERT INTO snapshot_parts (stream_key, snapshot_key, part, sealed) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (stream_key, snapshot_key, part) DO UPDATE SET sealed = excluded.sealed",
    )?
    .execute(params![stream.key, snapshot_key, part.part, &part.sealed[..]])?;
    count_bytes(
        db,
        stream.key,
        snapshot_key,
        part.sealed.len() as u64,
        replaced.unwrap_or(0),
    )?;
    db.prepare_cached("UPDATE snapshots SET touched_at = max(touched_at, ?2) WHERE snapshot_key = ?1")?
        .execute(params![snapshot_key, Unsigned(part.now)])?;
    Ok(SnapshotPartWrite::Stored)
}

/// Begins an upload. The bound on unfinished ones bounds the disk that a client can fill without finishing any.
fn begin(db: &Connection, stream: &Stream, part: &NewSnapshotPart) -> Result<i64, Failure> {
    db.prepare_cached(
        "UPDATE snapshots SET state = 'condemned' WHERE snapshot_key IN (
             SELECT snapshot_key FROM snapshots WHERE stream_key = ?1 AND state = 'unfinished'
             ORDER BY touched_at DESC, snapshot_key DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![stream.key, SNAPSHOT_UPLOADS_MAX - 1])?;
    insert_unfinished(db, stream.key, part.snapshot_id, part.now)
}

fn insert_unfinished(
    db: &Connection,
    stream_key: i64,
    snapshot_id: SnapshotId,
    now: UnixSeconds,
) -> Result<i64, Failure> {
    db.prepare_cached(
        "INSERT INTO snapshots (stream_key, snapshot_id, state, touched_at) VALUES (?1, ?2, 'unfinished', ?3)",
    )?
    .execute(params![stream_key, snapshot_id.as_bytes(), Unsigned(now)])?;
    Ok(db.last_insert_rowid())
}

/// Counts bytes of a snapshot that came and others that went.
pub(super) fn count_bytes(
    db: &Connection,
    stream_key: i64,
    snapshot_key: i64,
    came: u64,
    went: u64,
) -> Result<(), Failure> {
    db.prepare_cached("UPDATE snapshots SET size_bytes = size_bytes + ?2 - ?3 WHERE snapshot_key = ?1")?
        .execute(params![snapshot_key, Unsigned(came), Unsigned(went)])?;
    db.prepare_cached("UPDATE streams SET snapshot_bytes = snapshot_bytes + ?2 - ?3 WHERE stream_key = ?1")?
        .execute(params![stream_key, Unsigned(came), Unsigned(went)])?;
    Ok(())
}

pub(super) fn put(db: &Connection, snapshot: &NewSnapshot, quotas: &Quotas) -> Result<SnapshotWrite, Failure> {
    let Some(stream) = streams::find(db, snapshot.stream)? else {
        return Ok(SnapshotWrite::NoEnvelope);
    };
    let found = find_any(db, stream.key, snapshot.snapshot_id)?;
    let owner = run(envelopes::owner(&Transaction(db), snapshot.stream))?;
    let stage = found.as_ref().map(|found| found.stage);
    if let Some(answer) = rules::put(&stream.state, owner, stage, snapshot) {
        return Ok(answer);
    }
    let Some(owner) = owner else {
        return Ok(SnapshotWrite::NoEnvelope);
    };
    if !positions::is_on_chain(db, &stream, snapshot.position)? {
        return Ok(SnapshotWrite::Diverged {
            latest: stream.state.latest,
        });
    }
    let key = match found {
        Some(found) => found.key,
        // A stream whose rows are all of no batch has no parts; only then nothing was begun.
        None if snapshot.parts == 0 => insert_unfinished(db, stream.key, snapshot.snapshot_id, snapshot.now)?,
        None => return Ok(SnapshotWrite::Incomplete),
    };
    let (count, last): (u32, Option<u32>) = db
        .prepare_cached("SELECT count(*), max(part) FROM snapshot_parts WHERE stream_key = ?1 AND snapshot_key = ?2")?
        .query_row([stream.key, key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if !rules::is_complete(snapshot.parts, count, last) {
        return Ok(SnapshotWrite::Incomplete);
    }
    let stored_bytes = run(records::usage::stored_bytes(&Transaction(db), snapshot.stream.user_id))?;
    let user_bytes = run(records::usage::counted_bytes(&Transaction(db), stream.key))?;
    let more_bytes = snapshot.manifest.len() as u64;
    let over_plan = snapshot.room.for_snapshots().exceeded(user_bytes, more_bytes);
    if let Some(quota) = over_plan.or_else(|| quotas::snapshot_part(quotas, stored_bytes, more_bytes)) {
        return Ok(SnapshotWrite::OverQuota(quota));
    }
    complete(db, &stream, key, snapshot, owner)?;
    Ok(SnapshotWrite::Stored)
}

fn complete(
    db: &Connection,
    stream: &Stream,
    key: i64,
    snapshot: &NewSnapshot,
    owner: OwnerKey,
) -> Result<(), Failure> {
    db.prepare_cached(
        "UPDATE snapshots SET state = 'kept', touched_at = ?2, key_id = ?3, seq = ?4, head = ?5, part_count = ?6,
             manifest = ?7, owner = ?8
         WHERE snapshot_key = ?1",
    )?
    .execute(params![
        key,
        Unsigned(snapshot.now),
        snapshot.key_id.as_bytes(),
        Unsigned(snapshot.position.seq),
        snapshot.position.head.as_bytes(),
        snapshot.parts,
        &snapshot.manifest[..],
        owner.as_bytes()
    ])?;
    count_bytes(db, stream.key, key, snapshot.manifest.len() as u64, 0)?;
    db.prepare_cached("UPDATE streams SET snapshot_seq = ?2 WHERE stream_key = ?1")?
        .execute(params![stream.key, Unsigned(snapshot.position.seq)])?;
    prune(db, stream, snapshot.settled_before)
}

/// Condemns the snapshots that are of no use any more.
fn prune(db: &Connection, stream: &Stream, settled_before: UnixSeconds) -> Result<(), Failure> {
    let kept: Vec<Kept> = db
        .prepare_cached(
            "SELECT snapshot_key, seq, touched_at FROM snapshots WHERE stream_key = ?1 AND state = 'kept' ORDER BY seq",
        )?
        .query_map([stream.key], |row| {
            Ok(Kept {
                key: row.get(0)?,
                seq: unsigned(row, 1)?,
                at: unsigned(row, 2)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    for key in rules::prune(&kept, stream.state.base_seq(), settled_before) {
        db.prepare_cached("UPDATE snapshots SET state = 'condemned' WHERE snapshot_key = ?1")?
            .execute([key])?;
    }
    Ok(())
}

fn stage(row: &Row<'_>, column: usize) -> rusqlite::Result<Stage> {
    let text = row.get_ref(column)?;
    Stage::parse(text.as_str()?).ok_or_else(|| {
        let error = Box::new(ImpossibleValue("state of a snapshot"));
        rusqlite::Error::FromSqlConversionFailure(column, text.data_type(), error)
    })
}

pub(super) fn find(
    db: &Connection,
    stream: StreamId,
    snapshot_id: SnapshotId,
) -> Result<Option<StoredSnapshot>, Failure> {
    let found = db
        .prepare_cached(
            "SELECT snapshot_id, snapshots.key_id, snapshots.seq, snapshots.head, part_count, size_bytes, touched_at,
                 manifest
             FROM streams JOIN snapshots USING (stream_key)
             WHERE user_id = ?1 AND app_id = ?2 AND snapshot_id = ?3 AND state = 'kept'",
        )?
        .query_row(
            params![
                stream.user_id.as_bytes(),
                stream.app_id.as_bytes(),
                snapshot_id.as_bytes()
            ],
            |row| {
                Ok(StoredSnapshot {
                    info: positions::read_snapshot(row)?,
                    manifest: blob(row, 7)?,
                })
            },
        )
        .optional()?;
    Ok(found)
}

pub(super) fn part(
    db: &Connection,
    stream: StreamId,
    snapshot_id: SnapshotId,
    part: u32,
) -> Result<Option<Bytes>, Failure> {
    let Some(stream) = streams::find(db, stream)? else {
        return Ok(None);
    };
    match find_any(db, stream.key, snapshot_id)? {
        Some(found) if found.stage == Stage::Kept => part_of(db, (stream.key, found.key), part),
        _ => Ok(None),
    }
}

fn part_of(db: &Connection, (stream_key, snapshot_key): (i64, i64), part: u32) -> Result<Option<Bytes>, Failure> {
    let sealed = db
        .prepare_cached("SELECT sealed FROM snapshot_parts WHERE stream_key = ?1 AND snapshot_key = ?2 AND part = ?3")?
        .query_row(params![stream_key, snapshot_key, part], |row| blob(row, 0))
        .optional()?;
    Ok(sealed)
}

fn blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}
