//! The sweep of deleted accounts, step by step: see `docs/adr/0013-accounts-are-deleted-under-a-nameless-row.md`. The deletion
//! itself is a record.
//!
//! PostgreSQL overwrites deleted rows when it vacuums, not when they are deleted.
//!
//! Invariant: the nameless row is deleted last, so after a crash between two steps the next one finds the remaining data.

use synckit_protocol::{
    ObjectKey,
    limits::{PRESIGNED_URL_SECONDS, UPLOAD_SWEEP_SECONDS},
    wire::UnixSeconds,
};

use crate::{
    StoreError,
    records::{Executor, blobs, params},
    rules::retention::STEP_ROWS,
};

/// Whether data of a deleted account or app remains. Reads only.
pub(super) async fn is_due(db: &impl Executor) -> Result<bool, StoreError> {
    let due = db
        .query_one(
            "SELECT account_key FROM accounts WHERE is_deleted = 1
             UNION ALL SELECT app_key FROM apps WHERE is_deleted = 1 LIMIT 1",
            &[],
        )
        .await?;
    Ok(due.is_some())
}

/// Deletes a bounded amount of the data of a deleted account; returns whether there is one. Batches and snapshots are
/// retention's: it sweeps them first, like all batches below the base of a log and all condemned snapshots.
pub(super) async fn sweep_account(db: &impl Executor, now: UnixSeconds) -> Result<bool, StoreError> {
    // Locked, so that two nodes do not sweep one account at once.
    let account = db
        .query_one(
            "SELECT account_key, user_id FROM accounts WHERE is_deleted = 1 LIMIT 1 FOR NO KEY UPDATE",
            &[],
        )
        .await?;
    let Some(account) = account else { return Ok(false) };
    let (account_key, nameless): (i64, [u8; 16]) = (account.get(0)?, account.get(1)?);
    let stream = db
        .query_one(
            "SELECT stream_key FROM streams WHERE user_id = $1 LIMIT 1",
            params![&nameless],
        )
        .await?;
    match stream {
        Some(stream) => sweep_stream(db, stream.get(0)?, now).await?,
        None => {
            db.execute("DELETE FROM accounts WHERE account_key = $1", params![account_key])
                .await?;
        }
    }
    Ok(true)
}

async fn sweep_stream(db: &impl Executor, stream_key: i64, now: UnixSeconds) -> Result<(), StoreError> {
    if condemn_objects(db, stream_key, now).await? {
        return Ok(());
    }
    for sql in [
        // Another stream may get the key.
        "UPDATE condemned_objects SET stream_key = NULL, size_bytes = NULL WHERE object_key IN (
             SELECT object_key FROM condemned_objects WHERE stream_key = $1 LIMIT $2)",
        "DELETE FROM batch_answers WHERE (stream_key, device_key, last_seq) IN (
             SELECT stream_key, device_key, last_seq FROM batch_answers WHERE stream_key = $1 LIMIT $2)",
        "DELETE FROM envelopes WHERE (stream_key, version) IN (
             SELECT stream_key, version FROM envelopes WHERE stream_key = $1 LIMIT $2)",
        // The last: the others name them.
        "DELETE FROM devices WHERE stream_key = $1 AND device_key IN (
             SELECT device_key FROM devices WHERE stream_key = $1 LIMIT $2)",
    ] {
        if db.execute(sql, params![stream_key, STEP_ROWS]).await? > 0 {
            return Ok(());
        }
    }
    db.execute("DELETE FROM streams WHERE stream_key = $1", params![stream_key])
        .await?;
    Ok(())
}

/// Condemns objects of a stream, and returns whether it found any. They are swept only after every URL for writing them
/// has expired: an object that appeared after its sweep would stay for ever.
async fn condemn_objects(db: &impl Executor, stream_key: i64, now: UnixSeconds) -> Result<bool, StoreError> {
    let uploads = "DELETE FROM uploads WHERE stream_key = $1 AND upload_key IN (
             SELECT upload_key FROM uploads WHERE stream_key = $1 LIMIT $2)
         RETURNING object_key, expires_at, size_bytes";
    let confirmed = "DELETE FROM blobs WHERE (stream_key, blob_id) IN (
             SELECT stream_key, blob_id FROM blobs WHERE stream_key = $1 LIMIT $2)
         RETURNING object_key, created_at, size_bytes";
    for (sql, is_confirmed) in [(uploads, false), (confirmed, true)] {
        let rows = db.query(sql, params![stream_key, STEP_ROWS]).await?;
        for row in &rows {
            let (object_key, since, size): (ObjectKey, UnixSeconds, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let sweep_after = if is_confirmed {
                // Before its URL expired.
                since.saturating_add(PRESIGNED_URL_SECONDS + UPLOAD_SWEEP_SECONDS)
            } else {
                blobs::upload_is_swept_at(size, since, now)
            };
            blobs::condemn(db, object_key, sweep_after).await?;
        }
        if !rows.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
