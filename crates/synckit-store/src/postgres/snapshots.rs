//! Snapshots: parts while they come, complete ones, and which of them stay.
//!
//! A write locks the row of its stream first, so that it is the stream's only writer until it is committed.
//!
//! Invariants: no reader sees a snapshot without a manifest; a complete one never changes; while a stream's log does
//! not begin at its start, a snapshot of its base or of a later position is kept.

use bytes::Bytes;
use synckit_protocol::{ByteString, OwnerKey, SnapshotId, limits::SNAPSHOT_UPLOADS_MAX, wire::UnixSeconds};

use super::{
    positions,
    streams::{self, Stream},
};
use crate::{
    NewSnapshot, NewSnapshotPart, SnapshotPartWrite, SnapshotWrite, StoreError, StoredSnapshot, StreamId,
    records::{
        Executor, ImpossibleValue, envelopes, params,
        usage::{counted_bytes, stored_bytes},
    },
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

async fn find_any(db: &impl Executor, stream_key: i64, snapshot_id: SnapshotId) -> Result<Option<Found>, StoreError> {
    let row = db
        .query_one(
            "SELECT snapshot_key, state FROM snapshots WHERE stream_key = $1 AND snapshot_id = $2",
            params![stream_key, &snapshot_id],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Found {
        key: row.get(0)?,
        stage: Stage::parse(&row.get::<String>(1)?).ok_or(ImpossibleValue("state of a snapshot"))?,
    }))
}

pub(super) async fn put_part(
    db: &impl Executor,
    part: &NewSnapshotPart,
    quotas: &Quotas,
) -> Result<SnapshotPartWrite, StoreError> {
    let Some(stream) = streams::lock(db, part.stream).await? else {
        return Ok(SnapshotPartWrite::NoEnvelope);
    };
    let found = find_any(db, stream.key, part.snapshot_id).await?;
    let is_same = match &found {
        Some(found) if found.stage == Stage::Kept => {
            let stored = part_of(db, (stream.key, found.key), part.part).await?;
            stored.is_some_and(|stored| stored == part.sealed)
        }
        _ => false,
    };
    let stage = found.as_ref().map(|found| found.stage);
    if let Some(answer) = rules::put_part(stream.state.key_id, stage, is_same) {
        return Ok(answer);
    }
    let stored_bytes = stored_bytes(db, part.stream.user_id).await?;
    let more_bytes = part.sealed.len() as u64;
    let user_bytes = counted_bytes(db, stream.key).await?;
    let over_plan = part.room.for_snapshots().exceeded(user_bytes, more_bytes);
    if let Some(quota) = over_plan.or_else(|| quotas::snapshot_part(quotas, stored_bytes, more_bytes)) {
        return Ok(SnapshotPartWrite::OverQuota(quota));
    }
    let snapshot_key = match found {
        Some(found) => found.key,
        None => begin(db, &stream, part).await?,
    };
    let replaced = db
        .query_one(
            "SELECT CAST(length(sealed) AS bigint) FROM snapshot_parts
             WHERE stream_key = $1 AND snapshot_key = $2 AND part = $3",
            params![stream.key, snapshot_key, part.part],
        )
        .await?;
    db.execute(
        "INSERT INTO snapshot_parts (stream_key, snapshot_key, part, sealed) VALUES ($1, $2, $3, $4)
         ON CONFLICT (stream_key, snapshot_key, part) DO UPDATE SET sealed = excluded.sealed",
        params![stream.key, snapshot_key, part.part, &part.sealed[..]],
    )
    .await?;
    let replaced = replaced.map_or(Ok(0), |row| row.get(0))?;
    count_bytes(db, stream.key, snapshot_key, part.sealed.len() as u64, replaced).await?;
    db.execute(
        "UPDATE snapshots SET touched_at = greatest(touched_at, $3) WHERE stream_key = $1 AND snapshot_key = $2",
        params![stream.key, snapshot_key, part.now],
    )
    .await?;
    Ok(SnapshotPartWrite::Stored)
}

/// Begins an upload. The bound on unfinished ones bounds the disk that a client can fill without finishing any.
async fn begin(db: &impl Executor, stream: &Stream, part: &NewSnapshotPart) -> Result<i64, StoreError> {
    db.execute(
        "UPDATE snapshots SET state = 'condemned' WHERE stream_key = $1 AND snapshot_key IN (
             SELECT snapshot_key FROM snapshots WHERE stream_key = $1 AND state = 'unfinished'
             ORDER BY touched_at DESC, snapshot_key DESC OFFSET $2)",
        params![stream.key, SNAPSHOT_UPLOADS_MAX - 1],
    )
    .await?;
    insert_unfinished(db, stream.key, part.snapshot_id, part.now).await
}

async fn insert_unfinished(
    db: &impl Executor,
    stream_key: i64,
    snapshot_id: SnapshotId,
    now: UnixSeconds,
) -> Result<i64, StoreError> {
    let row = db
        .query_one(
            "INSERT INTO snapshots (stream_key, snapshot_id, state, touched_at) VALUES ($1, $2, 'unfinished', $3)
             RETURNING snapshot_key",
            params![stream_key, &snapshot_id, now],
        )
        .await?;
    row.ok_or(ImpossibleValue("snapshot without a key"))?.get(0)
}

/// Counts bytes that came and went, in the rows of the snapshot and of its stream.
pub(super) async fn count_bytes(
    db: &impl Executor,
    stream_key: i64,
    snapshot_key: i64,
    came: u64,
    went: u64,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE snapshots SET size_bytes = size_bytes + $3 - $4 WHERE stream_key = $1 AND snapshot_key = $2",
        params![stream_key, snapshot_key, came, went],
    )
    .await?;
    db.execute(
        "UPDATE streams SET snapshot_bytes = snapshot_bytes + $2 - $3 WHERE stream_key = $1",
        params![stream_key, came, went],
    )
    .await?;
    Ok(())
}

pub(super) async fn put(
    db: &impl Executor,
    snapshot: &NewSnapshot,
    quotas: &Quotas,
) -> Result<SnapshotWrite, StoreError> {
    let Some(stream) = streams::lock(db, snapshot.stream).await? else {
        return Ok(SnapshotWrite::NoEnvelope);
    };
    let found = find_any(db, stream.key, snapshot.snapshot_id).await?;
    let owner = envelopes::owner(db, snapshot.stream).await?;
    let stage = found.as_ref().map(|found| found.stage);
    if let Some(answer) = rules::put(&stream.state, owner, stage, snapshot) {
        return Ok(answer);
    }
    let Some(owner) = owner else {
        return Ok(SnapshotWrite::NoEnvelope);
    };
    if !positions::is_on_chain(db, &stream, snapshot.position).await? {
        return Ok(SnapshotWrite::Diverged {
            latest: stream.state.latest,
        });
    }
    let key = match found {
        Some(found) => found.key,
        // A stream whose rows are all of no batch has no parts; only then nothing was begun.
        None if snapshot.parts == 0 => insert_unfinished(db, stream.key, snapshot.snapshot_id, snapshot.now).await?,
        None => return Ok(SnapshotWrite::Incomplete),
    };
    let parts = db
        .query_one(
            "SELECT count(*), max(part) FROM snapshot_parts WHERE stream_key = $1 AND snapshot_key = $2",
            params![stream.key, key],
        )
        .await?
        .ok_or(ImpossibleValue("count without a row"))?;
    if !rules::is_complete(snapshot.parts, parts.get(0)?, parts.get(1)?) {
        return Ok(SnapshotWrite::Incomplete);
    }
    let stored_bytes = stored_bytes(db, snapshot.stream.user_id).await?;
    let user_bytes = counted_bytes(db, stream.key).await?;
    let more_bytes = snapshot.manifest.len() as u64;
    let over_plan = snapshot.room.for_snapshots().exceeded(user_bytes, more_bytes);
    if let Some(quota) = over_plan.or_else(|| quotas::snapshot_part(quotas, stored_bytes, more_bytes)) {
        return Ok(SnapshotWrite::OverQuota(quota));
    }
    complete(db, &stream, key, snapshot, owner).await?;
    Ok(SnapshotWrite::Stored)
}

async fn complete(
    db: &impl Executor,
    stream: &Stream,
    key: i64,
    snapshot: &NewSnapshot,
    owner: OwnerKey,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE snapshots SET state = 'kept', touched_at = $2, key_id = $3, seq = $4, head = $5, part_count = $6,
             manifest = $7, owner = $8
         WHERE snapshot_key = $1 AND stream_key = $9",
        params![
            key,
            snapshot.now,
            &snapshot.key_id,
            snapshot.position.seq,
            &snapshot.position.head,
            snapshot.parts,
            &snapshot.manifest[..],
            &owner,
            stream.key
        ],
    )
    .await?;
    count_bytes(db, stream.key, key, snapshot.manifest.len() as u64, 0).await?;
    db.execute(
        "UPDATE streams SET snapshot_seq = $2 WHERE stream_key = $1",
        params![stream.key, snapshot.position.seq],
    )
    .await?;
    prune(db, stream, snapshot.settled_before).await
}

/// Condemns the snapshots that are of no use any more.
async fn prune(db: &impl Executor, stream: &Stream, settled_before: UnixSeconds) -> Result<(), StoreError> {
    let rows = db
        .query(
            "SELECT snapshot_key, seq, touched_at FROM snapshots WHERE stream_key = $1 AND state = 'kept' ORDER BY seq",
            params![stream.key],
        )
        .await?;
    let kept = rows.iter().map(|row| {
        Ok(Kept {
            key: row.get(0)?,
            seq: row.get(1)?,
            at: row.get(2)?,
        })
    });
    let kept: Vec<Kept> = kept.collect::<Result<_, StoreError>>()?;
    for key in rules::prune(&kept, stream.state.base_seq(), settled_before) {
        db.execute(
            "UPDATE snapshots SET state = 'condemned' WHERE stream_key = $1 AND snapshot_key = $2",
            params![stream.key, key],
        )
        .await?;
    }
    Ok(())
}

pub(super) async fn find(
    db: &impl Executor,
    stream: StreamId,
    snapshot_id: SnapshotId,
) -> Result<Option<StoredSnapshot>, StoreError> {
    let row = db
        .query_one(
            "SELECT snapshot_id, snapshots.key_id, snapshots.seq, snapshots.head, part_count, size_bytes, touched_at,
                 manifest
             FROM streams JOIN snapshots USING (stream_key)
             WHERE user_id = $1 AND app_id = $2 AND snapshot_id = $3 AND state = 'kept'",
            params![&stream.user_id, &stream.app_id, &snapshot_id],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(StoredSnapshot {
        info: positions::read_snapshot(&row)?,
        manifest: row.get::<ByteString>(7)?.0.into(),
    }))
}

/// A part of a kept snapshot: one statement.
pub(super) async fn part(
    db: &impl Executor,
    stream: StreamId,
    snapshot_id: SnapshotId,
    part: u32,
) -> Result<Option<Bytes>, StoreError> {
    let row = db
        .query_one(
            "SELECT sealed FROM streams JOIN snapshots USING (stream_key)
                 JOIN snapshot_parts USING (stream_key, snapshot_key)
             WHERE user_id = $1 AND app_id = $2 AND snapshot_id = $3 AND state = 'kept' AND part = $4",
            params![&stream.user_id, &stream.app_id, &snapshot_id, part],
        )
        .await?;
    row.map(|row| Ok(row.get::<ByteString>(0)?.0.into())).transpose()
}

async fn part_of(
    db: &impl Executor,
    (stream_key, snapshot_key): (i64, i64),
    part: u32,
) -> Result<Option<Bytes>, StoreError> {
    let row = db
        .query_one(
            "SELECT sealed FROM snapshot_parts WHERE stream_key = $1 AND snapshot_key = $2 AND part = $3",
            params![stream_key, snapshot_key, part],
        )
        .await?;
    row.map(|row| Ok(row.get::<ByteString>(0)?.0.into())).transpose()
}
