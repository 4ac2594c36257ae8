//! Uploads, and the look-up of a blob for a download: the hot path. The rest of blobs is `records::blobs`, their bytes are
//! in [`crate::objects`].

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use synckit_protocol::{
    BlobId, KeyId, ObjectKey, SealedHash, UploadId, limits::UPLOAD_WHOLE_BYTES_MAX, wire::UnixSeconds,
};

use super::{
    columns::{Unsigned, id, unsigned},
    executor::{Transaction, run},
    failure::Failure,
    streams,
};
use crate::{Blob, NewUpload, PendingUpload, StreamId, UploadBegin, records, rules::quotas::Quotas};

pub(super) fn begin_upload(db: &Connection, upload: &NewUpload, quotas: &Quotas) -> Result<UploadBegin, Failure> {
    let stream_key = run(records::streams::find_or_create(&Transaction(db), upload.stream))?;
    let existing = any_blob(db, stream_key, upload.blob_id)?;
    run(records::blobs::begin_upload(
        &Transaction(db),
        (stream_key, existing),
        upload,
        quotas,
    ))
}

pub(super) fn pending_uploads(
    db: &Connection,
    stream: StreamId,
    blob_id: BlobId,
    size: u64,
    upload_id: Option<UploadId>,
) -> Result<Vec<PendingUpload>, Failure> {
    let Some(stream) = streams::find(db, stream)? else {
        return Ok(Vec::new());
    };
    let mut statement = db.prepare_cached(
        "SELECT upload_id, blob_id, object_key, size_bytes, expires_at, multipart_id, sealed_hash FROM uploads
         WHERE stream_key = ?1 AND blob_id = ?2 AND size_bytes = ?3 AND (?4 IS NULL OR upload_id = ?4)
         ORDER BY upload_key DESC",
    )?;
    let upload_id = upload_id.as_ref().map(UploadId::as_bytes);
    let uploads = statement.query_map(
        params![stream.key, blob_id.as_bytes(), Unsigned(size), upload_id],
        |row| {
            Ok(PendingUpload {
                upload_id: id(row, 0, UploadId::from_bytes)?,
                blob_id: id(row, 1, BlobId::from_bytes)?,
                object_key: id(row, 2, ObjectKey::from_bytes)?,
                size: unsigned(row, 3)?,
                expires_at: unsigned(row, 4)?,
                multipart_id: row.get(5)?,
                sealed_hash: row.get::<_, Option<[u8; 32]>>(6)?.map(SealedHash::from_bytes),
            })
        },
    )?;
    Ok(uploads.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Blob> {
    Ok(Blob {
        blob_id: id(row, 0, BlobId::from_bytes)?,
        object_key: id(row, 1, ObjectKey::from_bytes)?,
        size: unsigned(row, 2)?,
        key_id: id(row, 3, KeyId::from_bytes)?,
        created_at: unsigned(row, 4)?,
    })
}

/// A blob, deleted or not.
fn any_blob(db: &Connection, stream_key: i64, blob_id: BlobId) -> Result<Option<Blob>, Failure> {
    let blob = db
        .prepare_cached(
            "SELECT blob_id, object_key, size_bytes, key_id, created_at FROM blobs
             WHERE stream_key = ?1 AND blob_id = ?2",
        )?
        .query_row(params![stream_key, blob_id.as_bytes()], read)
        .optional()?;
    Ok(blob)
}

pub(super) fn confirm_upload(
    db: &Connection,
    stream: StreamId,
    upload_id: UploadId,
    sealed_hash: SealedHash,
    now: UnixSeconds,
) -> Result<bool, Failure> {
    let Some(stream) = streams::find(db, stream)? else {
        return Ok(false);
    };
    let confirmed = db
        .prepare_cached(
            "DELETE FROM uploads WHERE stream_key = ?1 AND upload_id = ?2 AND (size_bytes <= ?4 OR expires_at > ?3)
             RETURNING blob_id, object_key, size_bytes, key_id, ?3",
        )?
        .query_row(
            params![
                stream.key,
                upload_id.as_bytes(),
                Unsigned(now),
                Unsigned(UPLOAD_WHOLE_BYTES_MAX)
            ],
            read,
        )
        .optional()?;
    let Some(new) = confirmed else {
        return Ok(false);
    };
    let replaced = any_blob(db, stream.key, new.blob_id)?;
    if let Some(old) = replaced {
        // Its bytes leave with the row: none of them may stay counted as deleted.
        run(records::blobs::bring_back(&Transaction(db), stream.key, old.blob_id))?;
        run(records::blobs::condemn_replaced(
            &Transaction(db),
            stream.key,
            &old,
            now,
        ))?;
    }
    db.prepare_cached(
        "INSERT INTO blobs (stream_key, blob_id, object_key, size_bytes, sealed_hash, key_id, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (stream_key, blob_id) DO UPDATE SET object_key = excluded.object_key,
             size_bytes = excluded.size_bytes, sealed_hash = excluded.sealed_hash, key_id = excluded.key_id,
             created_at = excluded.created_at",
    )?
    .execute(params![
        stream.key,
        new.blob_id.as_bytes(),
        new.object_key.as_bytes(),
        Unsigned(new.size),
        sealed_hash.as_bytes(),
        new.key_id.as_bytes(),
        Unsigned(new.created_at)
    ])?;
    db.prepare_cached(
        "UPDATE streams SET blob_bytes = blob_bytes + ?2 - ?3, blob_count = blob_count + ?4 WHERE stream_key = ?1",
    )?
    .execute(params![
        stream.key,
        Unsigned(new.size),
        Unsigned(replaced.map_or(0, |old| old.size)),
        u8::from(replaced.is_none())
    ])?;
    Ok(true)
}

pub(super) fn find(db: &Connection, stream: StreamId, blob_id: BlobId) -> Result<Option<Blob>, Failure> {
    let blob = db
        .prepare_cached(
            "SELECT blob_id, object_key, size_bytes, blobs.key_id, created_at FROM streams JOIN blobs USING (stream_key)
             WHERE user_id = ?1 AND app_id = ?2 AND blob_id = ?3 AND deleted_at IS NULL",
        )?
        .query_row(params![stream.user_id.as_bytes(), stream.app_id.as_bytes(), blob_id.as_bytes()], read)
        .optional()?;
    Ok(blob)
}
