//! What the store measures of itself, for the metrics.

use std::{ffi::OsString, fs, path::Path, sync::atomic::Ordering};

use super::{SqliteStore, columns::unsigned, writer::GROUP_SIZES};
use crate::{CommitGroups, StoreError, StoreFigures};

/// Reads everything. The sums go over one row for each stream, without any of its data.
pub(super) async fn read(store: &SqliteStore) -> Result<StoreFigures, StoreError> {
    let parts = &store.parts;
    let path = parts.path.clone();
    let mut figures = store
        .read(move |db| {
            let sums = "SELECT count(*), coalesce(sum(batch_bytes), 0), coalesce(sum(snapshot_bytes), 0),
                 coalesce(sum(blob_bytes), 0) FROM streams";
            let figures = db.prepare_cached(sums)?.query_row([], |row| {
                Ok(StoreFigures {
                    streams: unsigned(row, 0)?,
                    batch_bytes: unsigned(row, 1)?,
                    snapshot_bytes: unsigned(row, 2)?,
                    blob_bytes: unsigned(row, 3)?,
                    database_bytes: size_of(&path),
                    write_ahead_log_bytes: size_of(&beside(&path, "-wal")),
                    ..StoreFigures::default()
                })
            })?;
            Ok(figures)
        })
        .await?;
    let (writes, _) = parts.writer.counts();
    let (queued_writes, queued_bytes) = parts.writer.queued();
    figures.writes = writes;
    figures.commits = CommitGroups(GROUP_SIZES.into_iter().zip(parts.writer.groups()).collect());
    figures.checkpoints = parts.gauge.checkpoints();
    figures.queued_writes = queued_writes as u64;
    figures.queued_bytes = queued_bytes as u64;
    figures.retention_cuts = parts.cuts.load(Ordering::Relaxed);
    Ok(figures)
}

/// The size of a file; nothing, if it is not there at the moment.
fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
