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
