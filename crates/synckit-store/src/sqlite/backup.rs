//! A copy of a database in one step, even while a server uses it.
//!
//! `VACUUM INTO` reads the database in one transaction. Concurrent writes therefore cannot restart it, as they restart the
//! backup of SQLite's shell. It copies no free pages, and so no deleted data.
//!
//! Invariant: a function of this module returns an inspection of a whole, checked and synced file of mode 0600, or an
//! error and leaves no file.

use std::{fs, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

use super::{
    copies,
    failure::{Failure, database},
    inspect::{DatabaseInspection, IntegrityCheck},
};
use crate::{
    StoreError,
    private_files::{create_private_file, sync_dir},
};

/// How long the copy waits for a server that starts or stops.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

impl DatabaseInspection {
    /// Copies the database file at `source` to `target`, which must not exist, and checks the copy. A server may use the
    /// source. The time is that of reading, writing and reading the database.
    ///
    /// # Errors
    /// [`StoreError::OtherSchema`] for a database that this program does not know; [`StoreError::Damaged`];
    /// [`StoreError::Full`]; [`StoreError::Database`], also if `source` is no database.
    pub fn of_copy(source: &Path, target: &Path) -> Result<Self, StoreError> {
        let copied = copy(source, target).and_then(|()| checked(target));
        if copied.is_err() {
            // The first error is the one to report.
            let _ = fs::remove_file(target);
        }
        copied
    }
}

fn copy(source: &Path, target: &Path) -> Result<(), StoreError> {
    let text = target.to_str().ok_or_else(|| {
        database(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "the path of the copy is not UTF-8",
        ))
    })?;
    // Not read-only: without a server, SQLite must create, read and remove the write-ahead log.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(source, flags).map_err(Failure::from)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(Failure::from)?;
    connection
        .pragma_update(None, "trusted_schema", false)
        .map_err(Failure::from)?;
    // SQLite takes an empty file for a new one, and would create one with the mode of the process.
    let file = create_private_file(target).map_err(database)?;
    connection.execute("VACUUM INTO ?1", [text]).map_err(Failure::from)?;
    let copy = Connection::open_with_flags(target, flags).map_err(Failure::from)?;
    copies::release(&copy)?;
    copy.close().map_err(|(_, error)| Failure::from(error))?;
    file.sync_all()
        .and_then(|()| sync_dir(target.parent().unwrap_or(Path::new("."))))
        .map_err(database)
}

fn checked(target: &Path) -> Result<DatabaseInspection, StoreError> {
    let inspection = DatabaseInspection::open(target)?;
    let known = DatabaseInspection::known_schema();
    let found = inspection.schema()?;
    if found != Some(known) {
        return Err(StoreError::OtherSchema { found, known });
    }
    match inspection.check(IntegrityCheck::Whole)? {
        Some(findings) if !findings.is_empty() => Err(StoreError::Damaged(findings.join("; "))),
        _ => Ok(inspection),
    }
}
