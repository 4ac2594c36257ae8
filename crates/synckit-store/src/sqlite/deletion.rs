//! Deleting an account: gone at once for everybody who asks, its bytes piece by piece.
//!
//! One small transaction ends the sessions, deletes the account's own rows, and hands its streams to a nameless row: one
//! with an id that nobody was ever told, and without an address. From then on no query finds anything of the account,
//! whether it goes by the address, by the id of the account or by a session. What the streams hold goes in further
//! transactions, each of them short. See `docs/adr/0013-accounts-are-deleted-under-a-nameless-row.md`.
//!
//! Invariant: as long as anything of a deleted account is there, so is its nameless row, so a crash between two steps
//! loses nothing.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use synckit_protocol::{
    ObjectKey, SessionId, UserId,
    limits::{PRESIGNED_URL_SECONDS, UPLOAD_SWEEP_SECONDS},
    wire::UnixSeconds,
};

use super::{
    blobs,
    columns::{id, unsigned},
    connection::overwriting,
    executor::{Transaction, run},
    failure::Failure,
};
use crate::{records::accounts, rules::retention::STEP_ROWS};

/// A deleted account of which something is left.
const DELETED: &str = "SELECT account_key, user_id FROM accounts WHERE is_deleted = 1 LIMIT 1";

/// Runs the record's deletion so that what it deletes is overwritten.
pub(super) fn delete(db: &Connection, user_id: UserId) -> Result<Option<Vec<SessionId>>, Failure> {
    overwriting(db, || run(accounts::delete(&Transaction(db), user_id)))
}

/// Whether anything of a deleted account is left. Reads only.
pub(super) fn is_due(db: &Connection) -> Result<bool, Failure> {
    Ok(db.prepare_cached(DELETED)?.exists([])?)
}

/// Deletes a piece of what is left of a deleted account, and answers whether there was any. Batches and snapshots are
/// not here: retention sweeps them first, like everything that is below the base of a log or condemned.
pub(super) fn sweep(db: &Connection) -> Result<bool, Failure> {
    let found: Option<(i64, [u8; 16])> = db
        .prepare_cached(DELETED)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((account_key, nameless)) = found else {
        return Ok(false);
    };
    let stream_key: Option<i64> = db
        .prepare_cached("SELECT stream_key FROM streams WHERE user_id = ?1 LIMIT 1")?
        .query_row([nameless], |row| row.get(0))
        .optional()?;
    match stream_key {
        Some(stream_key) => overwriting(db, || sweep_stream(db, stream_key))?,
        None => {
            db.prepare_cached("DELETE FROM accounts WHERE account_key = ?1")?
                .execute([account_key])?;
        }
    }
    Ok(true)
}

fn sweep_stream(db: &Connection, stream_key: i64) -> Result<(), Failure> {
    if condemn_objects(db, stream_key)? {
        return Ok(());
    }
    for sql in [
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

/// An object, and from when on nobody can write it any more.
struct Loose {
    object_key: ObjectKey,
    sweep_after: UnixSeconds,
}

/// Condemns objects of a stream, and answers whether there were any. They are swept only when no URL works any more by
/// which they could be written: an object that appeared after its sweep would stay for ever.
fn condemn_objects(db: &Connection, stream_key: i64) -> Result<bool, Failure> {
    let uploads = "DELETE FROM uploads WHERE upload_key IN (
             SELECT upload_key FROM uploads WHERE stream_key = ?1 LIMIT ?2) RETURNING object_key, expires_at";
    let blobs = "DELETE FROM blobs WHERE (stream_key, blob_id) IN (
             SELECT stream_key, blob_id FROM blobs WHERE stream_key = ?1 LIMIT ?2) RETURNING object_key, created_at";
    // A blob was confirmed before its URL expired.
    for (sql, age) in [(uploads, 0), (blobs, PRESIGNED_URL_SECONDS)] {
        let read = |row: &Row<'_>| {
            Ok(Loose {
                object_key: id(row, 0, ObjectKey::from_bytes)?,
                sweep_after: unsigned(row, 1)?.saturating_add(age + UPLOAD_SWEEP_SECONDS),
            })
        };
        let loose: Vec<Loose> = db
            .prepare_cached(sql)?
            .query_map(params![stream_key, STEP_ROWS], read)?
            .collect::<Result<_, _>>()?;
        for object in &loose {
            blobs::condemn(db, object.object_key, object.sweep_after)?;
        }
        if !loose.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
