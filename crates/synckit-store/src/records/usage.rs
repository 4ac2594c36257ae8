//! The data of an account that counts against its quotas. The rows of its streams contain the sizes.

use synckit_protocol::UserId;

use super::{Executor, params};
use crate::{StoreError, rules::quotas::Usage};

/// Sealed bytes that an account stores, in every app.
///
/// # Errors
/// Those of the engine.
pub async fn stored_bytes(db: &impl Executor, user_id: UserId) -> Result<u64, StoreError> {
    let row = db
        .query_one(
            "SELECT CAST(coalesce(sum(batch_bytes + snapshot_bytes + blob_bytes), 0) AS bigint)
             FROM streams WHERE user_id = $1",
            params![&user_id],
        )
        .await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Sealed bytes that count in one stream: of batches, snapshots and confirmed blobs that are not deleted.
///
/// # Errors
/// Those of the engine.
pub async fn counted_bytes(db: &impl Executor, stream_key: i64) -> Result<u64, StoreError> {
    let row = db
        .query_one(
            "SELECT batch_bytes + snapshot_bytes + blob_bytes - deleted_bytes FROM streams WHERE stream_key = $1",
            params![stream_key],
        )
        .await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Sealed bytes that are announced in one stream and not confirmed.
///
/// # Errors
/// Those of the engine.
pub async fn announced_bytes(db: &impl Executor, stream_key: i64) -> Result<u64, StoreError> {
    let row = db
        .query_one(
            "SELECT CAST(coalesce(sum(size_bytes), 0) AS bigint) FROM uploads WHERE stream_key = $1",
            params![stream_key],
        )
        .await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Of a log that is longer after its newest snapshot, in batches, nothing counts as replaced: every write past a quota counts them.
pub const TAIL_BATCHES_MAX: u64 = 10_000;

/// Sealed bytes of an account that its newest snapshots have replaced, and that are not deleted yet: the log up to them, older
/// snapshots, and parts that were never completed.
///
/// # Errors
/// Those of the engine.
pub async fn replaced_bytes(db: &impl Executor, user_id: UserId) -> Result<u64, StoreError> {
    let streams = db
        .query(
            "SELECT streams.stream_key, batch_bytes + snapshot_bytes - size_bytes, snapshot_seq
             FROM streams JOIN snapshots ON snapshots.stream_key = streams.stream_key AND snapshots.seq = snapshot_seq AND state = 'kept'
             WHERE user_id = $1 AND snapshot_seq > 0",
            params![&user_id],
        )
        .await?;
    let mut replaced = 0_u64;
    for stream in streams {
        let (key, bytes, snapshot): (i64, u64, u64) = (stream.get(0)?, stream.get(1)?, stream.get(2)?);
        let tail = db
            .query_one(
                "SELECT count(*), CAST(coalesce(sum(sealed_bytes), 0) AS bigint) FROM (
                     SELECT sealed_bytes FROM batches WHERE stream_key = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3
                 ) AS tail",
                params![key, snapshot, TAIL_BATCHES_MAX + 1],
            )
            .await?;
        let (batches, tail_bytes): (u64, u64) = match tail {
            Some(row) => (row.get(0)?, row.get(1)?),
            None => (0, 0),
        };
        if batches <= TAIL_BATCHES_MAX {
            replaced = replaced.saturating_add(bytes.saturating_sub(tail_bytes));
        }
    }
    Ok(replaced)
}

/// The usage of an account that limits uploads.
///
/// # Errors
/// Those of the engine.
pub async fn usage(db: &impl Executor, user_id: UserId) -> Result<Usage, StoreError> {
    let of_streams = db
        .query_one(
            "SELECT CAST(coalesce(sum(blob_count + replaced_count), 0) AS bigint),
                 CAST(coalesce(sum(replaced_bytes), 0) AS bigint)
             FROM streams WHERE user_id = $1",
            params![&user_id],
        )
        .await?;
    let (blobs, replaced_bytes): (u64, u64) = match of_streams {
        Some(row) => (row.get(0)?, row.get(1)?),
        None => (0, 0),
    };
    let uploads = db
        .query_one(
            "SELECT count(*), CAST(coalesce(sum(size_bytes), 0) AS bigint)
             FROM streams JOIN uploads USING (stream_key) WHERE user_id = $1",
            params![&user_id],
        )
        .await?;
    let (pending_uploads, announced_bytes): (u64, u64) = match uploads {
        Some(row) => (row.get(0)?, row.get(1)?),
        None => (0, 0),
    };
    Ok(Usage {
        stored_bytes: stored_bytes(db, user_id).await?,
        pending_bytes: announced_bytes.saturating_add(replaced_bytes),
        blobs,
        pending_uploads,
    })
}
