//! Retention: deletes batches that a snapshot covers, unfinished snapshots, pending accounts that were never confirmed, and
//! the data of deleted accounts.
//!
//! A cut is one small transaction that moves the base of a stream: from then on no reader sees a batch below it. Further
//! transactions delete the rows and bytes below, each of them short. Every one locks the row of one stream, so that nodes
//! that sweep at once take turns, and an append to that stream waits for one step.
//!
//! Invariants: a base is the position of a kept snapshot that has settled and that every active device has passed. While
//! rows below a base remain, `swept_seq` is below `base_seq`: after a crash the next step finds them.

use synckit_protocol::{Head, limits::BATCH_IDS_KEPT_PER_DEVICE};

use super::{deletion, snapshots};
use crate::{
    Retention, StoreError,
    records::{Executor, params},
    rules::allowances::familiar_since,
    rules::retention::{
        self as rules, Below, Candidate, Reader, STEP_ALLOWANCES, STEP_BATCHES, STEP_PARTS, STEP_PENDING, STEP_PLACES,
        STEP_UNFINISHED, may_cut,
    },
};

/// Whether unneeded data remains. Reads only.
pub(super) async fn is_due(db: &impl Executor, retention: &Retention) -> Result<bool, StoreError> {
    let due = db
        .query_one(
            "SELECT stream_key FROM streams WHERE swept_seq < base_seq
             UNION ALL SELECT snapshot_key FROM snapshots WHERE state = 'condemned'
             UNION ALL SELECT snapshot_key FROM snapshots WHERE state = 'unfinished' AND touched_at <= $1
             UNION ALL SELECT pending_key FROM pending_accounts WHERE expires_at <= $2
             UNION ALL SELECT grant_key FROM device_grants WHERE kept_until <= $2
             UNION ALL SELECT account_key FROM accounts WHERE delete_at <= $2
             UNION ALL SELECT 0 FROM allowances WHERE kept_until <= $2
             UNION ALL SELECT 0 FROM familiar_places WHERE used_at <= $3 LIMIT 1",
            params![
                retention.unfinished_before,
                retention.ended_until,
                familiar_since(retention.ended_until)
            ],
        )
        .await?;
    Ok(due.is_some() || deletion::is_due(db).await? || find_cut(db, retention).await?.is_some())
}

pub(super) async fn condemn_unfinished(db: &impl Executor, retention: &Retention) -> Result<bool, StoreError> {
    let condemned = db
        .execute(
            "UPDATE snapshots SET state = 'condemned' WHERE state = 'unfinished' AND snapshot_key IN (
                 SELECT snapshot_key FROM snapshots WHERE state = 'unfinished' AND touched_at <= $1 LIMIT $2)",
            params![retention.unfinished_before, STEP_UNFINISHED],
        )
        .await?;
    Ok(condemned > 0)
}

/// Deletes pending accounts that nobody confirmed in time.
pub(super) async fn delete_pending(db: &impl Executor, retention: &Retention) -> Result<bool, StoreError> {
    let deleted = db
        .execute(
            "DELETE FROM pending_accounts WHERE pending_key IN (
                 SELECT pending_key FROM pending_accounts WHERE expires_at <= $1 LIMIT $2)",
            params![retention.ended_until, STEP_PENDING],
        )
        .await?;
    Ok(deleted > 0)
}

/// Deletes sign-ins of machines that have ended.
pub(super) async fn delete_grants(db: &impl Executor, retention: &Retention) -> Result<bool, StoreError> {
    let deleted = db
        .execute(
            "DELETE FROM device_grants WHERE grant_key IN (
                 SELECT grant_key FROM device_grants WHERE kept_until <= $1 LIMIT $2)",
            params![retention.ended_until, STEP_PENDING],
        )
        .await?;
    Ok(deleted > 0)
}

/// Deletes allowances that are whole again: nothing need be known of them. Passes those that are being counted, which lock
/// in another order.
pub(super) async fn delete_allowances(db: &impl Executor, retention: &Retention) -> Result<bool, StoreError> {
    let deleted = db
        .execute(
            "WITH due AS MATERIALIZED (
                 SELECT allowance FROM allowances WHERE kept_until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
             DELETE FROM allowances WHERE allowance IN (SELECT allowance FROM due)",
            params![retention.ended_until, STEP_ALLOWANCES],
        )
        .await?;
    Ok(deleted > 0)
}

/// Deletes places that are familiar no more. Passes those that are being noted.
pub(super) async fn delete_places(db: &impl Executor, retention: &Retention) -> Result<bool, StoreError> {
    let deleted = db
        .execute(
            "WITH due AS MATERIALIZED (
                 SELECT account_key, address FROM familiar_places WHERE used_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
             DELETE FROM familiar_places WHERE (account_key, address) IN (SELECT account_key, address FROM due)",
            params![familiar_since(retention.ended_until), STEP_PLACES],
        )
        .await?;
    Ok(deleted > 0)
}

/// A log, and the snapshot that it may be cut to.
struct Cut {
    stream_key: i64,
    snapshot_key: i64,
}

/// The newest snapshot that the log of some stream may be cut to, as far as one look says: [`cut`] asks the rule.
async fn find_cut(db: &impl Executor, retention: &Retention) -> Result<Option<Cut>, StoreError> {
    let row = db
        .query_one(
            "SELECT snapshots.stream_key, snapshot_key FROM snapshots JOIN streams USING (stream_key)
             WHERE state = 'kept' AND touched_at <= $1 AND snapshots.seq > base_seq AND NOT EXISTS (
                 SELECT 1 FROM devices WHERE devices.stream_key = snapshots.stream_key AND revoked_at IS NULL
                     AND last_seen_at > $2 AND pulled_seq < snapshots.seq)
             ORDER BY touched_at DESC, snapshots.seq DESC LIMIT 1",
            params![retention.settled_before, retention.active_since],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Cut {
        stream_key: row.get(0)?,
        snapshot_key: row.get(1)?,
    }))
}

/// Moves the base of one log; returns whether it did.
pub(super) async fn cut(db: &impl Executor, retention: &Retention) -> Result<bool, StoreError> {
    let Some(Cut {
        stream_key,
        snapshot_key,
    }) = find_cut(db, retention).await?
    else {
        return Ok(false);
    };
    let stream = db
        .query_one(
            "SELECT base_seq FROM streams WHERE stream_key = $1 FOR NO KEY UPDATE",
            params![stream_key],
        )
        .await?;
    let snapshot = db
        .query_one(
            "SELECT seq, head, touched_at FROM snapshots
             WHERE stream_key = $1 AND snapshot_key = $2 AND state = 'kept'",
            params![stream_key, snapshot_key],
        )
        .await?;
    let (Some(stream), Some(snapshot)) = (stream, snapshot) else {
        return Ok(false);
    };
    let candidate = Candidate {
        seq: snapshot.get(0)?,
        at: snapshot.get(2)?,
        base_seq: stream.get(0)?,
    };
    let readers = db
        .query(
            "SELECT last_seen_at, pulled_seq FROM devices WHERE stream_key = $1 AND revoked_at IS NULL",
            params![stream_key],
        )
        .await?;
    let readers = readers.iter().map(|row| {
        Ok(Reader {
            last_seen_at: row.get(0)?,
            pulled_seq: row.get(1)?,
        })
    });
    if !may_cut(&candidate, &readers.collect::<Result<Vec<_>, StoreError>>()?, retention) {
        return Ok(false);
    }
    let head: Head = snapshot.get(1)?;
    db.execute(
        "UPDATE streams SET base_seq = $2, base_head = $3 WHERE stream_key = $1",
        params![stream_key, candidate.seq, &head],
    )
    .await?;
    // No log continues after them any more.
    db.execute(
        "UPDATE snapshots SET state = 'condemned' WHERE stream_key = $1 AND state = 'kept' AND seq < $2",
        params![stream_key, candidate.seq],
    )
    .await?;
    Ok(true)
}

/// A batch to delete.
struct Swept {
    below: Below,
    device_key: i64,
}

/// Deletes batches below the base of one log; returns whether there is such a log.
pub(super) async fn sweep_batches(db: &impl Executor) -> Result<bool, StoreError> {
    let found = db
        .query_one(
            "SELECT stream_key, swept_seq, base_seq FROM streams WHERE swept_seq < base_seq LIMIT 1 FOR NO KEY UPDATE",
            &[],
        )
        .await?;
    let Some(found) = found else { return Ok(false) };
    let (stream_key, swept_seq, base_seq): (i64, u64, u64) = (found.get(0)?, found.get(1)?, found.get(2)?);
    let rows = db
        .query(
            "SELECT last_seq, sealed_bytes, device_key FROM batches
             WHERE stream_key = $1 AND last_seq > $2 AND last_seq <= $3 ORDER BY last_seq LIMIT $4",
            params![stream_key, swept_seq, base_seq, STEP_BATCHES],
        )
        .await?;
    let swept = rows.iter().map(|row| {
        Ok(Swept {
            below: Below {
                end: row.get(0)?,
                sealed_bytes: row.get(1)?,
            },
            device_key: row.get(2)?,
        })
    });
    let mut swept: Vec<Swept> = swept.collect::<Result<_, StoreError>>()?;
    let below: Vec<Below> = swept.iter().map(|batch| batch.below).collect();
    let (batches, swept_to) = rules::step(base_seq, &below);
    swept.truncate(batches);
    keep_answers(db, stream_key, swept_seq, swept_to, &swept).await?;
    db.execute(
        "DELETE FROM batches WHERE stream_key = $1 AND last_seq > $2 AND last_seq <= $3",
        params![stream_key, swept_seq, swept_to],
    )
    .await?;
    let bytes: u64 = swept.iter().map(|batch| batch.below.sealed_bytes).sum();
    db.execute(
        "UPDATE streams SET swept_seq = $2, batch_bytes = batch_bytes - $3 WHERE stream_key = $1",
        params![stream_key, swept_to, bytes],
    )
    .await?;
    Ok(true)
}

/// Keeps the first answers of the batches to delete, of each device only the newest.
async fn keep_answers(
    db: &impl Executor,
    stream_key: i64,
    swept_seq: u64,
    swept_to: u64,
    swept: &[Swept],
) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO batch_answers (stream_key, device_key, last_seq, entry_count, batch_id, head)
         SELECT stream_key, device_key, last_seq, entry_count, batch_id, head FROM batches
         WHERE stream_key = $1 AND last_seq > $2 AND last_seq <= $3",
        params![stream_key, swept_seq, swept_to],
    )
    .await?;
    let mut devices: Vec<i64> = swept.iter().map(|batch| batch.device_key).collect();
    devices.sort_unstable();
    devices.dedup();
    for device_key in devices {
        db.execute(
            "DELETE FROM batch_answers WHERE stream_key = $1 AND device_key = $2 AND last_seq <= (
                 SELECT last_seq FROM batch_answers WHERE stream_key = $1 AND device_key = $2
                 ORDER BY last_seq DESC LIMIT 1 OFFSET $3)",
            params![stream_key, device_key, BATCH_IDS_KEPT_PER_DEVICE],
        )
        .await?;
    }
    Ok(())
}

/// Deletes parts of a condemned snapshot, or what is left of it; returns whether there is one.
pub(super) async fn sweep_snapshot(db: &impl Executor) -> Result<bool, StoreError> {
    let condemned = db
        .query_one(
            "SELECT snapshot_key, stream_key FROM snapshots WHERE state = 'condemned' LIMIT 1",
            &[],
        )
        .await?;
    let Some(condemned) = condemned else { return Ok(false) };
    let (snapshot_key, stream_key): (i64, i64) = (condemned.get(0)?, condemned.get(1)?);
    // The stream first, as every writer does.
    db.query(
        "SELECT base_seq FROM streams WHERE stream_key = $1 FOR NO KEY UPDATE",
        params![stream_key],
    )
    .await?;
    let condemned = db
        .query_one(
            "SELECT size_bytes FROM snapshots WHERE stream_key = $1 AND snapshot_key = $2",
            params![stream_key, snapshot_key],
        )
        .await?;
    let Some(condemned) = condemned else {
        // Another node was faster.
        return Ok(true);
    };
    let parts = db
        .query(
            "DELETE FROM snapshot_parts WHERE stream_key = $1 AND part_key IN (
                 SELECT part_key FROM snapshot_parts WHERE stream_key = $1 AND snapshot_key = $2 LIMIT $3)
             RETURNING CAST(length(sealed) AS bigint)",
            params![stream_key, snapshot_key, STEP_PARTS],
        )
        .await?;
    if parts.len() < STEP_PARTS as usize {
        // Only the manifest remains.
        snapshots::count_bytes(db, stream_key, snapshot_key, 0, condemned.get(0)?).await?;
        db.execute(
            "DELETE FROM snapshots WHERE stream_key = $1 AND snapshot_key = $2",
            params![stream_key, snapshot_key],
        )
        .await?;
        return Ok(true);
    }
    let mut bytes: u64 = 0;
    for part in &parts {
        bytes = bytes.saturating_add(part.get(0)?);
    }
    snapshots::count_bytes(db, stream_key, snapshot_key, 0, bytes).await?;
    Ok(true)
}
