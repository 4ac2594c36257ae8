//! Opening the database file: permissions, pragmas, schema.
//!
//! Invariant: a file of a newer schema is never written to.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, config::DbConfig};

use super::failure::{Failure, database};
use crate::{StoreError, records::ImpossibleValue};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The schema of a database file beside the one that this program makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersions {
    /// The version in the file; `None` if nothing was ever stored in it.
    pub found: Option<u32>,
    /// The version that [`crate::SqliteStore::open`] makes of an older file.
    pub known: u32,
}

/// Statements that a connection keeps prepared: more than the store has, so that none is ever prepared twice.
const CACHED_STATEMENTS: usize = 128;

/// The length to which the file of the write-ahead log is cut when the log starts over: what steady writes reach. A
/// commit that lengthens the file costs the file system more than one that writes over old pages.
const LOG_FILE_BYTES_MAX: i64 = 2 * super::checkpoint::WAL_BYTES_MAX.cast_signed();

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Writes, checkpoints, or both.
    Writer,
    /// Reads only, which SQLite then enforces.
    Reader,
}

/// Creates the file with mode 0600 if it is not there, and makes its directory entry durable. SQLite gives its `-wal`
/// and `-shm` files the same mode.
///
/// An existing file must not even be opened here: closing it again would drop the POSIX locks that another connection
/// of this process holds on it.
pub(super) fn create_file(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(file) => file.sync_all().and_then(|()| sync_parent(path)).map_err(file_error),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(file_error(error)),
    }
}

fn file_error(error: io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(Box::new(error)),
        _ => database(error),
    }
}

/// A file whose directory entry is not on the disk is lost in a power cut, even if its content was synced.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if cfg!(unix) {
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    } else {
        Ok(())
    }
}

/// Opens one connection.
pub(super) fn open(path: &Path, role: Role, busy_timeout: Duration) -> Result<Connection, Failure> {
    // Every connection belongs to one thread at a time, so SQLite's own mutexes would only cost.
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // Without this, SQLite looks at the values that are bound to a LIMIT and compiles the statement again for each.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    match role {
        Role::Writer => {
            let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
            if mode != "wal" {
                return Err(Failure::NoWriteAheadLog);
            }
            // FULL syncs the WAL before COMMIT returns; NORMAL would lose acknowledged pushes in a power cut.
            connection.pragma_update(None, "synchronous", "full")?;
            // On macOS a plain fsync leaves the data in the drive's cache. Elsewhere this changes nothing.
            connection.pragma_update(None, "fullfsync", true)?;
            connection.pragma_update(None, "checkpoint_fullfsync", true)?;
            // Undo data of savepoints is kept in memory: a group of jobs touches the same pages again and again, and
            // each time SQLite would write the old page into a temporary file.
            connection.pragma_update(None, "temp_store", "memory")?;
            // A log that a long reader let grow is cut back when it starts over; without this its file stays as long.
            connection.pragma_update_and_check(None, "journal_size_limit", LOG_FILE_BYTES_MAX, |_| Ok(()))?;
            // Checkpoints have a thread of their own; here a commit would pay for one.
            connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        }
        Role::Reader => connection.pragma_update(None, "query_only", true)?,
    }
    Ok(connection)
}

/// Runs work of a writer whose deletions are overwritten with zeros: readable data (addresses, names) must not remain
/// in free pages until their reuse. Not the default, because it writes every freed page.
pub(super) fn overwriting<T>(connection: &Connection, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    let result = work();
    connection.pragma_update_and_check(None, "secure_delete", false, |_| Ok(()))?;
    result
}

/// Which schema the database has, and which one this program makes.
pub(super) fn schema(connection: &Connection) -> Result<SchemaVersions, StoreError> {
    Ok(SchemaVersions {
        found: schema_version(connection)?,
        known: known_schema(),
    })
}

/// The newest schema that this server knows.
pub(super) fn known_schema() -> u32 {
    let migrations = embedded::migrations::runner();
    let newest = migrations
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max();
    newest.and_then(|version| u32::try_from(version).ok()).unwrap_or(0)
}

/// Brings the schema up to date, or refuses one that is newer than this server.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let SchemaVersions { found, known } = schema(connection)?;
    match found {
        Some(found) if found > known => return Err(StoreError::NewerSchema { found, known }),
        Some(found) if found == known => return Ok(()),
        _ => {}
    }
    // One transaction for all of them and for the note that they were made: a crash in between leaves the old schema, and
    // another process sees the old one or the new one.
    let runner = embedded::migrations::runner().set_grouped(true);
    match runner.run(connection) {
        Ok(_) => Ok(()),
        // Another process may have migrated the same file in the meantime; then no migration remains.
        Err(_) if schema_version(connection)? == Some(known) => Ok(()),
        Err(error) if is_busy(&error) => Err(StoreError::Busy),
        Err(error) => Err(database(error)),
    }
}

/// Whether a lock of another connection is behind an error.
fn is_busy(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<rusqlite::Error>())
        .any(|error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy))
}

/// The version of the newest migration that was applied, `None` in a new database.
pub(super) fn schema_version(connection: &Connection) -> Result<Option<u32>, StoreError> {
    let read = || -> rusqlite::Result<Option<u32>> {
        let history = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'refinery_schema_history'";
        if connection.query_row(history, [], |_| Ok(())).optional()?.is_none() {
            return Ok(None);
        }
        connection.query_row("SELECT max(version) FROM refinery_schema_history", [], |row| row.get(0))
    };
    read().map_err(|error| match error {
        rusqlite::Error::IntegralValueOutOfRange(..) => database(ImpossibleValue("schema version")),
        error => Failure::from(error).into(),
    })
}

/// Lets writes fail as on a full disk once the file has this size.
pub(super) fn limit_size(connection: &Connection, max_bytes: u64) -> Result<(), Failure> {
    let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = i64::try_from(max_bytes).unwrap_or(i64::MAX) / page_bytes.max(1);
    connection.pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(()))?;
    Ok(())
}
