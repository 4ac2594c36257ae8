//! The sizes that the database knows, for the metrics.

use std::{ffi::OsString, fs, path::Path};

use rusqlite::Connection;

use super::{columns::unsigned, failure::Failure};
use crate::StoreFigures;

/// The figures that are stored. The sums read one row for each stream, and none of its data.
pub(super) fn stored(db: &Connection, path: &Path) -> Result<StoreFigures, Failure> {
    let sums = "SELECT count(*), coalesce(sum(batch_bytes), 0), coalesce(sum(snapshot_bytes), 0),
         coalesce(sum(blob_bytes), 0) FROM streams";
    let figures = db.prepare_cached(sums)?.query_row([], |row| {
        Ok(StoreFigures {
            streams: unsigned(row, 0)?,
            batch_bytes: unsigned(row, 1)?,
            snapshot_bytes: unsigned(row, 2)?,
            blob_bytes: unsigned(row, 3)?,
            database_bytes: size_of(path),
            write_ahead_log_bytes: size_of(&beside(path, "-wal")),
            ..StoreFigures::default()
        })
    })?;
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
