//! The beginning of uploads, confirmed blobs, and the objects that wait for the sweep. The rest of uploads is written for each engine.
//!
//! Invariant: an object is condemned in the transaction that deletes the last row that pointed at it, and no later row
//! points at it.

use synckit_protocol::{
    BlobId, ObjectKey, UploadId,
    limits::{
        BLOB_UNDELETE_SECONDS, PRESIGNED_URL_SECONDS, SECOND_SWEEP_SECONDS, UPLOAD_SWEEP_SECONDS,
        UPLOAD_WHOLE_BYTES_MAX,
    },
    wire::UnixSeconds,
};

use super::{Executor, Row, Value, params, streams, usage};
use crate::{
    Blob, NewUpload, PendingUpload, StoreError, StreamId, UploadBegin,
    rules::quotas::{self, PlanRoom, Quota, Quotas},
};

fn read(row: &Row) -> Result<Blob, StoreError> {
    Ok(Blob {
        blob_id: row.get(0)?,
        object_key: row.get(1)?,
        size: row.get(2)?,
        key_id: row.get(3)?,
        created_at: row.get(4)?,
    })
}

/// An upload from the columns `upload_id, blob_id, object_key, size_bytes, expires_at, multipart_id, sealed_hash`.
pub(crate) fn pending_upload(row: &Row) -> Result<PendingUpload, StoreError> {
    Ok(PendingUpload {
        upload_id: row.get(0)?,
        blob_id: row.get(1)?,
        object_key: row.get(2)?,
        size: row.get(3)?,
        expires_at: row.get(4)?,
        multipart_id: row.get(5)?,
        sealed_hash: row.get(6)?,
    })
}

/// [`crate::Store::upload`].
///
/// # Errors
/// Those of the engine.
pub async fn upload(
    db: &impl Executor,
    stream: StreamId,
    upload_id: UploadId,
) -> Result<Option<PendingUpload>, StoreError> {
    let Some(stream_key) = streams::find(db, stream).await? else {
        return Ok(None);
    };
    let row = db
        .query_one(
            "SELECT upload_id, blob_id, object_key, size_bytes, expires_at, multipart_id, sealed_hash FROM uploads
             WHERE stream_key = $1 AND upload_id = $2",
            params![stream_key, &upload_id],
        )
        .await?;
    row.as_ref().map(pending_upload).transpose()
}

/// [`crate::Store::name_multipart`].
///
/// # Errors
/// Those of the engine.
pub async fn name_multipart(
    db: &impl Executor,
    stream: StreamId,
    upload_id: UploadId,
    multipart_id: &str,
) -> Result<bool, StoreError> {
    let Some(stream_key) = streams::find(db, stream).await? else {
        return Ok(false);
    };
    let named = db
        .execute(
            "UPDATE uploads SET multipart_id = $3 WHERE stream_key = $1 AND upload_id = $2 AND multipart_id IS NULL",
            params![stream_key, &upload_id, multipart_id],
        )
        .await?;
    Ok(named > 0)
}

/// [`crate::Store::abandon_upload`].
///
/// # Errors
/// Those of the engine.
pub async fn abandon_upload(
    db: &impl Executor,
    stream: StreamId,
    upload_id: UploadId,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let Some(stream_key) = streams::find(db, stream).await? else {
        return Ok(false);
    };
    let row = db
        .query_one(
            "DELETE FROM uploads WHERE stream_key = $1 AND upload_id = $2 RETURNING object_key",
            params![stream_key, &upload_id],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    condemn(db, row.get(0)?, now).await?;
    Ok(true)
}

/// [`crate::Store::end_upload`].
///
/// # Errors
/// Those of the engine.
pub async fn end_upload(
    db: &impl Executor,
    stream: StreamId,
    upload_id: UploadId,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let Some(stream_key) = streams::find(db, stream).await? else {
        return Ok(false);
    };
    let ended = db
        .execute(
            "UPDATE uploads SET expires_at = $3 WHERE stream_key = $1 AND upload_id = $2 AND expires_at > $3
                 AND size_bytes > $4",
            params![stream_key, &upload_id, now, UPLOAD_WHOLE_BYTES_MAX],
        )
        .await?;
    Ok(ended > 0)
}

/// [`crate::Store::blobs`].
///
/// # Errors
/// Those of the engine.
pub async fn list(
    db: &impl Executor,
    stream: StreamId,
    after: Option<BlobId>,
    limit: u32,
) -> Result<Vec<Blob>, StoreError> {
    let Some(stream_key) = streams::find(db, stream).await? else {
        return Ok(Vec::new());
    };
    // Every id is greater than the empty string of bytes.
    let after = after.as_ref().map_or(Value::Bytes(&[]), Value::from);
    let rows = db
        .query(
            "SELECT blob_id, object_key, size_bytes, key_id, created_at FROM blobs
             WHERE stream_key = $1 AND blob_id > $2 AND deleted_at IS NULL ORDER BY blob_id LIMIT $3",
            params![stream_key, after, limit],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// [`crate::Store::delete_blob`].
///
/// # Errors
/// Those of the engine.
pub async fn delete(
    db: &impl Executor,
    stream: StreamId,
    blob_id: BlobId,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let Some(stream_key) = streams::find(db, stream).await? else {
        return Ok(false);
    };
    let deleted = db
        .query_one(
            "UPDATE blobs SET deleted_at = $3 WHERE stream_key = $1 AND blob_id = $2 AND deleted_at IS NULL
             RETURNING size_bytes",
            params![stream_key, &blob_id, now],
        )
        .await?;
    let Some(deleted) = deleted else { return Ok(false) };
    let size: u64 = deleted.get(0)?;
    db.execute(
        "UPDATE streams SET deleted_bytes = deleted_bytes + $2 WHERE stream_key = $1",
        params![stream_key, size],
    )
    .await?;
    Ok(true)
}

/// Whether a blob is deleted and not yet swept.
///
/// # Errors
/// Those of the engine.
pub async fn is_deleted(db: &impl Executor, stream_key: i64, blob_id: BlobId) -> Result<bool, StoreError> {
    let deleted = db
        .query_one(
            "SELECT blob_id FROM blobs WHERE stream_key = $1 AND blob_id = $2 AND deleted_at IS NOT NULL",
            params![stream_key, &blob_id],
        )
        .await?;
    Ok(deleted.is_some())
}

/// Brings a blob back, if it is deleted and not yet swept.
///
/// # Errors
/// Those of the engine.
pub async fn bring_back(db: &impl Executor, stream_key: i64, blob_id: BlobId) -> Result<(), StoreError> {
    let deleted = db
        .query_one(
            "UPDATE blobs SET deleted_at = NULL WHERE stream_key = $1 AND blob_id = $2 AND deleted_at IS NOT NULL
             RETURNING size_bytes",
            params![stream_key, &blob_id],
        )
        .await?;
    let Some(deleted) = deleted else { return Ok(()) };
    let size: u64 = deleted.get(0)?;
    db.execute(
        "UPDATE streams SET deleted_bytes = deleted_bytes - $2 WHERE stream_key = $1",
        params![stream_key, size],
    )
    .await?;
    Ok(())
}

/// Leaves an object to the sweep, which may delete it from `sweep_after` on.
///
/// # Errors
/// Those of the engine.
pub async fn condemn(db: &impl Executor, object_key: ObjectKey, sweep_after: UnixSeconds) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO condemned_objects (object_key, sweep_after) VALUES ($1, $2)",
        params![&object_key, sweep_after],
    )
    .await?;
    Ok(())
}

/// Leaves the object of a replaced blob to the sweep, an hour later, when nobody reads it any more. It counts until then: else
/// an account that replaces a blob again and again fills the disk.
///
/// # Errors
/// Those of the engine.
pub async fn condemn_replaced(
    db: &impl Executor,
    stream_key: i64,
    replaced: &Blob,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO condemned_objects (object_key, sweep_after, stream_key, size_bytes) VALUES ($1, $2, $3, $4)",
        params![
            &replaced.object_key,
            now.saturating_add(PRESIGNED_URL_SECONDS),
            stream_key,
            replaced.size
        ],
    )
    .await?;
    db.execute(
        "UPDATE streams SET replaced_bytes = replaced_bytes + $2, replaced_count = replaced_count + 1
         WHERE stream_key = $1",
        params![stream_key, replaced.size],
    )
    .await?;
    Ok(())
}

/// [`crate::Store::sweepable_objects`].
///
/// # Errors
/// Those of the engine.
pub async fn sweepable(db: &impl Executor, now: UnixSeconds, limit: u32) -> Result<Vec<ObjectKey>, StoreError> {
    condemn_stale_uploads(db, now, limit).await?;
    condemn_deleted_blobs(db, now, limit).await?;
    let rows = db
        .query(
            "SELECT object_key FROM condemned_objects WHERE sweep_after <= $1
             ORDER BY sweep_after, object_key LIMIT $2",
            params![now, limit],
        )
        .await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// When nobody can write the object of an upload any more that gives out no URL from `now` on.
///
/// One in parts may have ended before its time, when it had just given out a URL.
pub fn upload_is_swept_at(size: u64, expires_at: UnixSeconds, now: UnixSeconds) -> UnixSeconds {
    let urls_end = if size > UPLOAD_WHOLE_BYTES_MAX {
        expires_at.min(now).saturating_add(PRESIGNED_URL_SECONDS)
    } else {
        expires_at
    };
    urls_end.saturating_add(UPLOAD_SWEEP_SECONDS)
}

async fn condemn_stale_uploads(db: &impl Executor, now: UnixSeconds, limit: u32) -> Result<(), StoreError> {
    let Some(expired_before) = now.checked_sub(UPLOAD_SWEEP_SECONDS) else {
        return Ok(());
    };
    // The same as `upload_is_swept_at`, for an index.
    let stale = db
        .query(
            "SELECT upload_key, object_key FROM uploads
             WHERE expires_at <= $1 AND (size_bytes <= $2 OR expires_at <= $3) ORDER BY expires_at LIMIT $4",
            params![
                expired_before,
                UPLOAD_WHOLE_BYTES_MAX,
                expired_before.saturating_sub(PRESIGNED_URL_SECONDS),
                limit
            ],
        )
        .await?;
    for row in stale {
        let upload_key: i64 = row.get(0)?;
        db.execute("DELETE FROM uploads WHERE upload_key = $1", params![upload_key])
            .await?;
        condemn(db, row.get(1)?, now).await?;
    }
    Ok(())
}

async fn condemn_deleted_blobs(db: &impl Executor, now: UnixSeconds, limit: u32) -> Result<(), StoreError> {
    let Some(deleted_before) = now.checked_sub(BLOB_UNDELETE_SECONDS) else {
        return Ok(());
    };
    let deleted = db
        .query(
            "SELECT blob_id, object_key, size_bytes, key_id, created_at, stream_key FROM blobs
             WHERE deleted_at <= $1 ORDER BY deleted_at LIMIT $2",
            params![deleted_before, limit],
        )
        .await?;
    for row in deleted {
        let (blob, stream_key): (_, i64) = (read(&row)?, row.get(5)?);
        db.execute(
            "DELETE FROM blobs WHERE stream_key = $1 AND blob_id = $2",
            params![stream_key, &blob.blob_id],
        )
        .await?;
        db.execute(
            "UPDATE streams SET blob_bytes = blob_bytes - $2, deleted_bytes = deleted_bytes - $2,
                 blob_count = blob_count - 1 WHERE stream_key = $1",
            params![stream_key, blob.size],
        )
        .await?;
        condemn(db, blob.object_key, now).await?;
    }
    Ok(())
}

/// [`crate::Store::objects_deleted`].
///
/// # Errors
/// Those of the engine.
pub async fn deleted(db: &impl Executor, keys: &[ObjectKey], now: UnixSeconds) -> Result<u64, StoreError> {
    let mut first_times = 0;
    for key in keys {
        let forgotten = db
            .execute(
                "DELETE FROM condemned_objects WHERE object_key = $1 AND sweep_after <= $2 AND deletions > 0",
                params![key, now],
            )
            .await?;
        if forgotten > 0 {
            continue;
        }
        let first = db
            .query_one(
                "UPDATE condemned_objects SET deletions = 1, sweep_after = $3
                 WHERE object_key = $1 AND sweep_after <= $2 AND deletions = 0 RETURNING stream_key, size_bytes",
                params![key, now, now.saturating_add(SECOND_SWEEP_SECONDS)],
            )
            .await?;
        let Some(row) = first else { continue };
        first_times += 1;
        let (stream_key, size): (Option<i64>, Option<u64>) = (row.get(0)?, row.get(1)?);
        if let (Some(stream_key), Some(size)) = (stream_key, size) {
            db.execute(
                "UPDATE streams SET replaced_bytes = replaced_bytes - $2, replaced_count = replaced_count - 1
                 WHERE stream_key = $1",
                params![stream_key, size],
            )
            .await?;
        }
    }
    Ok(first_times)
}

/// [`crate::Store::postpone_objects`].
///
/// # Errors
/// Those of the engine.
pub async fn postpone(db: &impl Executor, keys: &[ObjectKey], until: UnixSeconds) -> Result<(), StoreError> {
    for key in keys {
        // Another node may have deleted it meanwhile: its second deletion is a day later, and stays there.
        db.execute(
            "UPDATE condemned_objects SET sweep_after = $2 WHERE object_key = $1 AND sweep_after < $2",
            params![key, until],
        )
        .await?;
    }
    Ok(())
}

/// [`crate::Store::begin_upload`], in a stream that is locked, of a blob that exists or not.
///
/// # Errors
/// Those of the engine.
pub async fn begin_upload(
    db: &impl Executor,
    (stream_key, existing): (i64, Option<Blob>),
    upload: &NewUpload,
    quotas: &Quotas,
) -> Result<UploadBegin, StoreError> {
    // What counts already makes room for what replaces it.
    let counted = match existing {
        Some(blob) if !is_deleted(db, stream_key, blob.blob_id).await? => blob.size,
        _ => 0,
    };
    match existing {
        Some(_) if !upload.replace && counted > 0 => return Ok(UploadBegin::AlreadyExists),
        Some(deleted) if !upload.replace && !upload.brings_back => return Ok(UploadBegin::Deleted(deleted.size)),
        Some(deleted) if !upload.replace => {
            if let Some(limit) = over_plan(db, stream_key, upload.room, (0, deleted.size)).await? {
                return Ok(UploadBegin::OverQuota(limit));
            }
            bring_back(db, stream_key, upload.blob_id).await?;
            return Ok(UploadBegin::AlreadyExists);
        }
        _ => {}
    }
    if let Some(limit) = over_plan(db, stream_key, upload.room, (counted, upload.size)).await? {
        return Ok(UploadBegin::OverQuota(limit));
    }
    let mut usage = usage::usage(db, upload.stream.user_id).await?;
    if let Some(replaced) = existing {
        usage.blobs = usage.blobs.saturating_sub(1);
        usage.stored_bytes = usage.stored_bytes.saturating_sub(replaced.size);
    }
    let exceeded = match quotas::upload(quotas, &usage, upload.size) {
        Some(Quota::Bytes) => {
            let taken = usage.stored_bytes.saturating_add(usage.pending_bytes);
            let replaced = usage::replaced_bytes(db, upload.stream.user_id).await?;
            quotas::beside_replaced(&quotas::for_files(quotas), taken, replaced, upload.size)
        }
        other => other,
    };
    if let Some(quota) = exceeded {
        return Ok(UploadBegin::OverQuota(quota));
    }
    if upload.only_asks {
        return Ok(UploadBegin::Needed);
    }
    db.execute(
        "INSERT INTO uploads (stream_key, upload_id, object_key, blob_id, size_bytes, sealed_hash, key_id, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            stream_key,
            &upload.upload_id,
            &upload.object_key,
            &upload.blob_id,
            upload.size,
            upload.sealed_hash.as_ref(),
            &upload.key_id,
            upload.expires_at
        ],
    )
    .await?;
    Ok(UploadBegin::Begun)
}

/// The limit of the app that a blob of `size` would exceed, if it takes the place of so many counted bytes. What one user has announced
/// counts against that user alone.
async fn over_plan(
    db: &impl Executor,
    stream_key: i64,
    room: PlanRoom,
    (replaced, size): (u64, u64),
) -> Result<Option<Quota>, StoreError> {
    let user_bytes = if room.user_bytes_max.is_some() {
        let counted = usage::counted_bytes(db, stream_key).await?.saturating_sub(replaced);
        counted.saturating_add(usage::announced_bytes(db, stream_key).await?)
    } else {
        0
    };
    Ok(room.for_files().exceeded(user_bytes, size))
}
