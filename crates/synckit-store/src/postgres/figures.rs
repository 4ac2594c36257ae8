//! The sizes that the database knows, for the metrics.

use crate::{StoreError, StoreFigures, records::Executor};

/// The figures that are stored. The sums read one row for each stream, and none of its data.
pub(super) async fn stored(db: &impl Executor) -> Result<StoreFigures, StoreError> {
    let row = db
        .query_one(
            "SELECT count(*), CAST(coalesce(sum(batch_bytes), 0) AS bigint),
                 CAST(coalesce(sum(snapshot_bytes), 0) AS bigint), CAST(coalesce(sum(blob_bytes), 0) AS bigint),
                 pg_database_size(current_database())
             FROM streams",
            &[],
        )
        .await?;
    let Some(row) = row else {
        return Ok(StoreFigures::default());
    };
    Ok(StoreFigures {
        streams: row.get(0)?,
        batch_bytes: row.get(1)?,
        snapshot_bytes: row.get(2)?,
        blob_bytes: row.get(3)?,
        database_bytes: row.get(4)?,
        ..StoreFigures::default()
    })
}
