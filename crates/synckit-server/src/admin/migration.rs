//! Moving the database of a server to the other engine.

use std::path::Path;

use synckit_store::{TransferEnd, TransferError, Transferred, transfer_database};

use crate::startup::{DataDir, DataDirError, config::Database};

/// Why a database was not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateStoreError {
    /// Both sides are the same database.
    #[error("source and target are the same database")]
    Same,
    /// A server runs on the data directory, or it cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database was not copied, or the copy is not equal.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

/// Copies the database of a server to another engine, and checks every row and every chain of the copy. The source stays as
/// it is. A run that was interrupted is continued by the next one. No server may run on either database.
///
/// `data_dir` holds the embedded database, if one side is it. Keys and blobs stay in it. `finished` is told each table and the
/// number of its rows that were copied. Blocks its thread while it works on a file.
///
/// # Errors
/// [`MigrateStoreError`].
pub async fn migrate_store(
    data_dir: &Path,
    from: &Database,
    to: &Database,
    finished: impl FnMut(&str, u64),
) -> Result<Transferred, MigrateStoreError> {
    if from == to {
        return Err(MigrateStoreError::Same);
    }
    let data_dir = DataDir::open(data_dir)?;
    let _no_server = data_dir.lock(&data_dir.begin_opening().await?)?;
    let file = data_dir.database();
    Ok(transfer_database(end_of(from, &file), end_of(to, &file), finished).await?)
}

const fn end_of<'a>(database: &'a Database, file: &'a Path) -> TransferEnd<'a> {
    match database {
        Database::Embedded => TransferEnd::File(file),
        Database::Postgres(url) => TransferEnd::Postgres(url),
    }
}
