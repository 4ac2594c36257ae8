//! Uploads, and the look-up of a blob for a download: the hot path. The rest of blobs is `records::blobs`, their bytes are
//! in [`crate::objects`].

use synckit_protocol::{BlobId, SealedHash, UploadId, limits::UPLOAD_WHOLE_BYTES_MAX, wire::UnixSeconds};

use super::streams;
use crate::{
    Blob, NewUpload, PendingUpload, StoreError, StreamId, UploadBegin,
    records::{
        Executor, Row,
        blobs::{self, bring_back, condemn_replaced, pending_upload},
        params,
        streams::find_or_create,
    },
    rules::quotas::Quotas,
};

/// Locks the row of the stream, as every writer of blobs does.
pub(super) async fn begin_upload(
    db: &impl Executor,
    upload: &NewUpload,
    quotas: &Quotas,
) -> Result<UploadBegin, StoreError> {
    let stream_key = find_or_create(db, upload.stream).await?;
    if streams::lock(db, upload.stream).await?.is_none() {
        return Err(StoreError::NoSuchStream);
    }
    let existing = any_blob(db, stream_key, upload.blob_id).await?;
    blobs::begin_upload(db, (stream_key, existing), upload, quotas).await
}

/// One statement.
pub(super) async fn pending_uploads(
    db: &impl Executor,
    stream: StreamId,
    blob_id: BlobId,
    size: u64,
    upload_id: Option<UploadId>,
) -> Result<Vec<PendingUpload>, StoreError> {
    let rows = db
        .query(
            "SELECT upload_id, blob_id, object_key, size_bytes, expires_at, multipart_id, sealed_hash
             FROM streams JOIN uploads USING (stream_key)
             WHERE user_id = $1 AND app_id = $2 AND blob_id = $3 AND size_bytes = $4
                 AND ($5::bytea IS NULL OR upload_id = $5)
             ORDER BY upload_key DESC",
            params![&stream.user_id, &stream.app_id, &blob_id, size, upload_id.as_ref()],
        )
        .await?;
    rows.iter().map(pending_upload).collect()
}

fn read(row: &Row) -> Result<Blob, StoreError> {
    Ok(Blob {
        blob_id: row.get(0)?,
        object_key: row.get(1)?,
        size: row.get(2)?,
        key_id: row.get(3)?,
        created_at: row.get(4)?,
    })
}

/// A blob, deleted or not.
async fn any_blob(db: &impl Executor, stream_key: i64, blob_id: BlobId) -> Result<Option<Blob>, StoreError> {
    let row = db
        .query_one(
            "SELECT blob_id, object_key, size_bytes, key_id, created_at FROM blobs
             WHERE stream_key = $1 AND blob_id = $2",
            params![stream_key, &blob_id],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn confirm_upload(
    db: &impl Executor,
    stream: StreamId,
    upload_id: UploadId,
    sealed_hash: SealedHash,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let Some(stream) = streams::lock(db, stream).await? else {
        return Ok(false);
    };
    let confirmed = db
        .query_one(
            "DELETE FROM uploads WHERE stream_key = $1 AND upload_id = $2 AND (size_bytes <= $4 OR expires_at > $3)
             RETURNING blob_id, object_key, size_bytes, key_id, $3::bigint",
            params![stream.key, &upload_id, now, UPLOAD_WHOLE_BYTES_MAX],
        )
        .await?;
    let Some(row) = confirmed else {
        return Ok(false);
    };
    let new = read(&row)?;
    let replaced = any_blob(db, stream.key, new.blob_id).await?;
    if let Some(old) = replaced {
        // Its bytes leave with the row: none of them may stay counted as deleted.
        bring_back(db, stream.key, old.blob_id).await?;
        condemn_replaced(db, stream.key, &old, now).await?;
    }
    db.execute(
        "INSERT INTO blobs (stream_key, blob_id, object_key, size_bytes, sealed_hash, key_id, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (stream_key, blob_id) DO UPDATE SET object_key = excluded.object_key,
             size_bytes = excluded.size_bytes, sealed_hash = excluded.sealed_hash, key_id = excluded.key_id,
             created_at = excluded.created_at",
        params![
            stream.key,
            &new.blob_id,
            &new.object_key,
            new.size,
            &sealed_hash,
            &new.key_id,
            new.created_at
        ],
    )
    .await?;
    db.execute(
        "UPDATE streams SET blob_bytes = blob_bytes + $2 - $3, blob_count = blob_count + $4 WHERE stream_key = $1",
        params![
            stream.key,
            new.size,
            replaced.map_or(0, |old| old.size),
            u32::from(replaced.is_none())
        ],
    )
    .await?;
    Ok(true)
}

pub(super) async fn find(db: &impl Executor, stream: StreamId, blob_id: BlobId) -> Result<Option<Blob>, StoreError> {
    let row = db
        .query_one(
            "SELECT blob_id, object_key, size_bytes, blobs.key_id, created_at FROM streams JOIN blobs USING (stream_key)
             WHERE user_id = $1 AND app_id = $2 AND blob_id = $3 AND deleted_at IS NULL",
            params![&stream.user_id, &stream.app_id, &blob_id],
        )
        .await?;
    row.as_ref().map(read).transpose()
}
