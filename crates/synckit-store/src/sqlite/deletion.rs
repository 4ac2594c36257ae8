//! Deleting an account or an app: no query finds it after one transaction; its bytes are deleted step by step.
//!
//! One small transaction ends the sessions, deletes the account's own rows, and hands its streams to a nameless row: one
//! with a secret id and without an address. From then on no query by address, account id or session finds a row of the
//! account. Further transactions delete the data of the streams, each of them short. See `docs/adr/0013-accounts-are-deleted-under-a-nameless-row.md`.
//!
//! A deleted app keeps a marked row, which admits no session and no new stream. Its streams are handed over one by one, each
//! to a nameless row of its own, which is swept before the next stream is taken.
//!
//! Invariant: the nameless row is deleted last, so after a crash between two steps the next one finds the remaining data.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use synckit_protocol::{
    AppId, ObjectKey, SessionId, UserId,
    limits::{PRESIGNED_URL_SECONDS, UPLOAD_SWEEP_SECONDS},
    wire::UnixSeconds,
};

use super::{
    columns::{id, unsigned},
    connection::overwriting,
    executor::{Transaction, run},
    failure::Failure,
};
use crate::{
    AddressChange, NewAddress,
    records::{accounts, apps, blobs},
    rules::retention::STEP_ROWS,
};

/// A deleted account whose data is not all deleted yet.
const DELETED: &str = "SELECT account_key, user_id FROM accounts WHERE is_deleted = 1 LIMIT 1";

/// Runs the record's deletion so that SQLite overwrites the deleted bytes.
pub(super) fn delete(db: &Connection, user_id: UserId) -> Result<Option<Vec<SessionId>>, Failure> {
    overwriting(db, || run(accounts::delete(&Transaction(db), user_id)))
}

/// Runs the record's change so that SQLite overwrites the old address.
pub(super) fn change_address(db: &Connection, change: &NewAddress) -> Result<AddressChange, Failure> {
    overwriting(db, || run(accounts::change_address(&Transaction(db), change)))
}

/// Deletes an account whose time has come, as [`delete`] does; returns whether there is one.
pub(super) fn delete_due(db: &Connection, now: UnixSeconds) -> Result<bool, Failure> {
    overwriting(db, || run(accounts::delete_due(&Transaction(db), now)))
}

/// Runs the record's deletion so that SQLite overwrites the deleted bytes.
pub(super) fn delete_app(db: &Connection, app_id: AppId) -> Result<bool, Failure> {
    overwriting(db, || run(apps::delete(&Transaction(db), app_id)))
}

/// Whether data of a deleted account or app remains, or the day of an account has come. Reads only.
pub(super) fn is_due(db: &Connection, now: UnixSeconds) -> Result<bool, Failure> {
    Ok(db.prepare_cached(DELETED)?.exists([])?
        || run(accounts::due(&Transaction(db), now))?.is_some()
        || db
            .prepare_cached("SELECT 1 FROM apps WHERE is_deleted = 1 LIMIT 1")?
            .exists([])?)
}

/// Deletes a bounded amount of the data of a deleted account or app; returns whether any was found. Batches and snapshots are
/// retention's: it sweeps them first, like all batches below the base of a log and all condemned snapshots.
pub(super) fn sweep(db: &Connection, now: UnixSeconds) -> Result<bool, Failure> {
    let found: Option<(i64, [u8; 16])> = db
        .prepare_cached(DELETED)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((account_key, nameless)) = found else {
        return overwriting(db, || run(apps::sweep(&Transaction(db))));
    };
    let stream_key: Option<i64> = db
        .prepare_cached("SELECT stream_key FROM streams WHERE user_id = ?1 LIMIT 1")?
        .query_row([nameless], |row| row.get(0))
        .optional()?;
    match stream_key {
        Some(stream_key) => overwriting(db, || sweep_stream(db, stream_key, now))?,
        None => {
            db.prepare_cached("DELETE FROM accounts WHERE account_key = ?1")?
                .execute([account_key])?;
        }
    }
    Ok(true)
}

fn sweep_stream(db: &Connection, stream_key: i64, now: UnixSeconds) -> Result<(), Failure> {
    if condemn_objects(db, stream_key, now)? {
        return Ok(());
    }
    for sql in [
        // Another stream may get the key.
        "UPDATE condemned_objects SET stream_key = NULL, size_bytes = NULL WHERE object_key IN (
             SELECT object_key FROM condemned_objects WHERE stream_key = ?1 LIMIT ?2)",
        "DELETE FROM batch_answers WHERE (stream_key, device_key, last_seq) IN (
             SELECT stream_key, device_key, last_seq FROM batch_answers WHERE stream_key = ?1 LIMIT ?2)",
        "DELETE FROM envelopes WHERE (stream_key, version) IN (
             SELECT stream_key, version FROM envelopes WHERE stream_key = ?1 LIMIT ?2)",
        // The last: the others name them.
        "DELETE FROM devices WHERE device_key IN (SELECT device_key FROM devices WHERE stream_key = ?1 LIMIT ?2)",
    ] {
        if db.prepare_cached(sql)?.execute(params![stream_key, STEP_ROWS])? > 0 {
            return Ok(());
        }
    }
    db.prepare_cached("DELETE FROM streams WHERE stream_key = ?1")?
        .execute([stream_key])?;
    Ok(())
}

/// Condemns objects of a stream, and returns whether it found any. They are swept only after every URL for writing them
/// has expired: an object that appeared after its sweep would stay for ever.
fn condemn_objects(db: &Connection, stream_key: i64, now: UnixSeconds) -> Result<bool, Failure> {
    let uploads = "DELETE FROM uploads WHERE upload_key IN (
             SELECT upload_key FROM uploads WHERE stream_key = ?1 LIMIT ?2)
         RETURNING object_key, expires_at, size_bytes";
    let confirmed = "DELETE FROM blobs WHERE (stream_key, blob_id) IN (
             SELECT stream_key, blob_id FROM blobs WHERE stream_key = ?1 LIMIT ?2)
         RETURNING object_key, created_at, size_bytes";
    for (sql, is_confirmed) in [(uploads, false), (confirmed, true)] {
        let read = |row: &Row<'_>| {
            let (since, size) = (unsigned(row, 1)?, unsigned(row, 2)?);
            let sweep_after = if is_confirmed {
                // Before its URL expired.
                since.saturating_add(PRESIGNED_URL_SECONDS + UPLOAD_SWEEP_SECONDS)
            } else {
                blobs::upload_is_swept_at(size, since, now)
            };
            Ok((id(row, 0, ObjectKey::from_bytes)?, sweep_after))
        };
        let loose: Vec<(ObjectKey, UnixSeconds)> = db
            .prepare_cached(sql)?
            .query_map(params![stream_key, STEP_ROWS], read)?
            .collect::<Result<_, _>>()?;
        for (object_key, sweep_after) in &loose {
            run(blobs::condemn(&Transaction(db), *object_key, *sweep_after))?;
        }
        if !loose.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
