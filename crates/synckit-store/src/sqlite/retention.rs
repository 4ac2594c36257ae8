//! Retention: deletes batches that a snapshot covers, unfinished snapshots, pending accounts that were never confirmed, and
//! the data of deleted accounts.
//!
//! A cut is one small transaction that moves the base of a stream: from then on no reader sees a batch below it. Further
//! transactions delete the rows and bytes below, each of them short, so that no push waits for long.
//!
//! Invariants: a base is the position of a kept snapshot that has settled and that every active device has passed. While
//! rows below a base remain, `swept_seq` is below `base_seq`: after a crash the next step finds them.

use rusqlite::{Connection, OptionalExtension as _, params};
use synckit_protocol::limits::BATCH_IDS_KEPT_PER_DEVICE;

use super::{
    columns::{Unsigned, unsigned},
    connection::overwriting,
    deletion,
    failure::Failure,
    snapshots,
};
use crate::{
    Retention,
    rules::allowances::familiar_since,
    rules::retention::{
        self as rules, Below, Candidate, Reader, STEP_ALLOWANCES, STEP_BATCHES, STEP_PARTS, STEP_PENDING, STEP_PLACES,
        STEP_UNFINISHED, may_cut,
    },
};

/// A stream that still has batches below its base.
const SWEEP: &str = "SELECT stream_key, swept_seq, base_seq FROM streams WHERE swept_seq < base_seq LIMIT 1";
/// A snapshot whose bytes are still to be deleted.
const CONDEMNED: &str = "SELECT snapshot_key, stream_key, size_bytes FROM snapshots WHERE state = 'condemned' LIMIT 1";

/// Whether unneeded data remains. Reads only.
pub(super) fn is_due(db: &Connection, retention: &Retention) -> Result<bool, Failure> {
    Ok(db.prepare_cached(SWEEP)?.exists([])?
        || db.prepare_cached(CONDEMNED)?.exists([])?
        || deletion::is_due(db, retention.ended_until)?
        || db
            .prepare_cached("SELECT 1 FROM snapshots WHERE state = 'unfinished' AND touched_at <= ?1 LIMIT 1")?
            .exists([Unsigned(retention.unfinished_before)])?
        || db
            .prepare_cached("SELECT 1 FROM pending_accounts WHERE expires_at <= ?1 LIMIT 1")?
            .exists([Unsigned(retention.ended_until)])?
        || db
            .prepare_cached("SELECT 1 FROM device_grants WHERE kept_until <= ?1 LIMIT 1")?
            .exists([Unsigned(retention.ended_until)])?
        || db
            .prepare_cached("SELECT 1 FROM allowances WHERE kept_until <= ?1 LIMIT 1")?
            .exists([Unsigned(retention.ended_until)])?
        || db
            .prepare_cached("SELECT 1 FROM familiar_places WHERE used_at <= ?1 LIMIT 1")?
            .exists([Unsigned(familiar_since(retention.ended_until))])?
        || find_cut(db, retention)?.is_some())
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Deleted or condemned unneeded data, or found none.
    Swept,
    /// Moved the base of a log.
    Cut,
}

/// Deletes a bounded amount of unneeded data, or makes one cut.
pub(super) fn step(db: &Connection, retention: &Retention) -> Result<Step, Failure> {
    if sweep_batches(db)?
        || sweep_snapshot(db)?
        || deletion::delete_due(db, retention.ended_until)?
        || deletion::sweep(db, retention.now)?
        || condemn_unfinished(db, retention)?
        || delete_pending(db, retention)?
        || delete_grants(db, retention)?
        || delete_allowances(db, retention)?
        || delete_places(db, retention)?
    {
        return Ok(Step::Swept);
    }
    cut(db, retention)
}

fn condemn_unfinished(db: &Connection, retention: &Retention) -> Result<bool, Failure> {
    let condemned = db
        .prepare_cached(
            "UPDATE snapshots SET state = 'condemned' WHERE snapshot_key IN (
                 SELECT snapshot_key FROM snapshots WHERE state = 'unfinished' AND touched_at <= ?1 LIMIT ?2)",
        )?
        .execute(params![Unsigned(retention.unfinished_before), STEP_UNFINISHED])?;
    Ok(condemned > 0)
}

/// Deletes pending accounts that nobody confirmed in time. Their rows hold addresses, so SQLite overwrites them.
fn delete_pending(db: &Connection, retention: &Retention) -> Result<bool, Failure> {
    overwriting(db, || {
        let deleted = db
            .prepare_cached(
                "DELETE FROM pending_accounts WHERE pending_key IN (
                     SELECT pending_key FROM pending_accounts WHERE expires_at <= ?1 LIMIT ?2)",
            )?
            .execute(params![Unsigned(retention.ended_until), STEP_PENDING])?;
        Ok(deleted > 0)
    })
}

/// Deletes sign-ins of machines that have ended.
fn delete_grants(db: &Connection, retention: &Retention) -> Result<bool, Failure> {
    let deleted = db
        .prepare_cached(
            "DELETE FROM device_grants WHERE grant_key IN (
                 SELECT grant_key FROM device_grants WHERE kept_until <= ?1 LIMIT ?2)",
        )?
        .execute(params![Unsigned(retention.ended_until), STEP_PENDING])?;
    Ok(deleted > 0)
}

/// Deletes allowances that are whole again: nothing need be known of them.
fn delete_allowances(db: &Connection, retention: &Retention) -> Result<bool, Failure> {
    let deleted = db
        .prepare_cached(
            "DELETE FROM allowances WHERE allowance IN (
                 SELECT allowance FROM allowances WHERE kept_until <= ?1 LIMIT ?2)",
        )?
        .execute(params![Unsigned(retention.ended_until), STEP_ALLOWANCES])?;
    Ok(deleted > 0)
}

/// Deletes places that are familiar no more.
fn delete_places(db: &Connection, retention: &Retention) -> Result<bool, Failure> {
    let deleted = db
        .prepare_cached(
            "DELETE FROM familiar_places WHERE (account_key, address) IN (
                 SELECT account_key, address FROM familiar_places WHERE used_at <= ?1 LIMIT ?2)",
        )?
        .execute(params![Unsigned(familiar_since(retention.ended_until)), STEP_PLACES])?;
    Ok(deleted > 0)
}

/// A log, and the snapshot that it is cut to.
struct Cut {
    stream_key: i64,
    seq: u64,
    head: [u8; 32],
}

/// The newest snapshot that the log of some stream may be cut to.
fn find_cut(db: &Connection, retention: &Retention) -> Result<Option<Cut>, Failure> {
    let mut settled = db.prepare_cached(
        "SELECT snapshots.stream_key, snapshots.seq, snapshots.head, touched_at, base_seq
         FROM snapshots JOIN streams USING (stream_key)
         WHERE state = 'kept' AND touched_at <= ?1 AND snapshots.seq > base_seq
         ORDER BY touched_at DESC, snapshots.seq DESC",
    )?;
    let mut devices =
        db.prepare_cached("SELECT last_seen_at, pulled_seq FROM devices WHERE stream_key = ?1 AND revoked_at IS NULL")?;
    let mut rows = settled.query([Unsigned(retention.settled_before)])?;
    while let Some(row) = rows.next()? {
        let cut = Cut {
            stream_key: row.get(0)?,
            seq: unsigned(row, 1)?,
            head: row.get(2)?,
        };
        let candidate = Candidate {
            seq: cut.seq,
            at: unsigned(row, 3)?,
            base_seq: unsigned(row, 4)?,
        };
        let readers: Vec<Reader> = devices
            .query_map([cut.stream_key], |row| {
                Ok(Reader {
                    last_seen_at: unsigned(row, 0)?,
                    pulled_seq: unsigned(row, 1)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        if may_cut(&candidate, &readers, retention) {
            return Ok(Some(cut));
        }
    }
    Ok(None)
}

fn cut(db: &Connection, retention: &Retention) -> Result<Step, Failure> {
    let Some(Cut { stream_key, seq, head }) = find_cut(db, retention)? else {
        return Ok(Step::Swept);
    };
    db.prepare_cached("UPDATE streams SET base_seq = ?2, base_head = ?3 WHERE stream_key = ?1")?
        .execute(params![stream_key, Unsigned(seq), head])?;
    // No log continues after them any more.
    db.prepare_cached(
        "UPDATE snapshots SET state = 'condemned' WHERE stream_key = ?1 AND state = 'kept' AND seq < ?2",
    )?
    .execute(params![stream_key, Unsigned(seq)])?;
    Ok(Step::Cut)
}

/// A batch to delete.
struct Swept {
    last_seq: u64,
    device_key: i64,
    sealed_key: Option<i64>,
    sealed_bytes: u64,
}

fn sweep_batches(db: &Connection) -> Result<bool, Failure> {
    let found: Option<(i64, u64, u64)> = db
        .prepare_cached(SWEEP)?
        .query_row([], |row| Ok((row.get(0)?, unsigned(row, 1)?, unsigned(row, 2)?)))
        .optional()?;
    let Some((stream_key, swept_seq, base_seq)) = found else {
        return Ok(false);
    };
    let mut found: Vec<Swept> = db
        .prepare_cached(
            "SELECT last_seq, device_key, sealed_key, sealed_bytes FROM batches
             WHERE stream_key = ?1 AND last_seq > ?2 AND last_seq <= ?3 ORDER BY last_seq LIMIT ?4",
        )?
        .query_map(
            params![stream_key, Unsigned(swept_seq), Unsigned(base_seq), STEP_BATCHES],
            |row| {
                Ok(Swept {
                    last_seq: unsigned(row, 0)?,
                    device_key: row.get(1)?,
                    sealed_key: row.get(2)?,
                    sealed_bytes: unsigned(row, 3)?,
                })
            },
        )?
        .collect::<Result<_, _>>()?;
    let below: Vec<Below> = found
        .iter()
        .map(|batch| Below {
            end: batch.last_seq,
            sealed_bytes: batch.sealed_bytes,
        })
        .collect();
    let (batches, swept_to) = rules::step(base_seq, &below);
    found.truncate(batches);
    let swept = found;
    keep_answers(db, stream_key, swept_seq, swept_to, &swept)?;
    for batch in &swept {
        if let Some(sealed_key) = batch.sealed_key {
            db.prepare_cached("DELETE FROM sealed_batches WHERE sealed_key = ?1")?
                .execute([sealed_key])?;
        }
    }
    db.prepare_cached("DELETE FROM batches WHERE stream_key = ?1 AND last_seq > ?2 AND last_seq <= ?3")?
        .execute(params![stream_key, Unsigned(swept_seq), Unsigned(swept_to)])?;
    let bytes = swept.iter().map(|batch| batch.sealed_bytes).sum();
    db.prepare_cached("UPDATE streams SET swept_seq = ?2, batch_bytes = batch_bytes - ?3 WHERE stream_key = ?1")?
        .execute(params![stream_key, Unsigned(swept_to), Unsigned(bytes)])?;
    Ok(true)
}

/// Keeps the first answers of the batches to delete, of each device only the newest.
fn keep_answers(
    db: &Connection,
    stream_key: i64,
    swept_seq: u64,
    swept_to: u64,
    swept: &[Swept],
) -> Result<(), Failure> {
    db.prepare_cached(
        "INSERT INTO batch_answers (stream_key, device_key, last_seq, entry_count, batch_id, head)
         SELECT stream_key, device_key, last_seq, entry_count, batch_id, head FROM batches
         WHERE stream_key = ?1 AND last_seq > ?2 AND last_seq <= ?3",
    )?
    .execute(params![stream_key, Unsigned(swept_seq), Unsigned(swept_to)])?;
    let mut devices: Vec<i64> = swept.iter().map(|batch| batch.device_key).collect();
    devices.sort_unstable();
    devices.dedup();
    for device_key in devices {
        db.prepare_cached(
            "DELETE FROM batch_answers WHERE stream_key = ?1 AND device_key = ?2 AND last_seq <= (
                 SELECT last_seq FROM batch_answers WHERE stream_key = ?1 AND device_key = ?2
                 ORDER BY last_seq DESC LIMIT 1 OFFSET ?3)",
        )?
        .execute(params![stream_key, device_key, BATCH_IDS_KEPT_PER_DEVICE])?;
    }
    Ok(())
}

fn sweep_snapshot(db: &Connection) -> Result<bool, Failure> {
    let found: Option<(i64, i64, u64)> = db
        .prepare_cached(CONDEMNED)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, unsigned(row, 2)?)))
        .optional()?;
    let Some((snapshot_key, stream_key, size_bytes)) = found else {
        return Ok(false);
    };
    let parts: Vec<(i64, u64)> = db
        .prepare_cached(
            "SELECT part_key, length(sealed) FROM snapshot_parts WHERE stream_key = ?1 AND snapshot_key = ?2 LIMIT ?3",
        )?
        .query_map(params![stream_key, snapshot_key, STEP_PARTS], |row| {
            Ok((row.get(0)?, unsigned(row, 1)?))
        })?
        .collect::<Result<_, _>>()?;
    for (part_key, _) in &parts {
        db.prepare_cached("DELETE FROM snapshot_parts WHERE part_key = ?1")?
            .execute([part_key])?;
    }
    let bytes: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    if parts.len() < STEP_PARTS as usize {
        // Only the manifest remains.
        snapshots::count_bytes(db, stream_key, snapshot_key, 0, size_bytes)?;
        db.prepare_cached("DELETE FROM snapshots WHERE snapshot_key = ?1")?
            .execute([snapshot_key])?;
    } else {
        snapshots::count_bytes(db, stream_key, snapshot_key, 0, bytes)?;
    }
    Ok(true)
}
