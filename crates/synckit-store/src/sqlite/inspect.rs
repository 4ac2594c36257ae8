//! Reads a database file that a server may be using, for `synckit doctor`.
//!
//! The connection is opened read-only, never migrates, never checkpoints, and makes no file. A database
//! without a write-ahead log beside it is in use by no process; it is read as an immutable file, because an ordinary
//! connection would first make the log and its index.
//!
//! Invariant: a server on the same file never waits for this module, and finds no byte changed.

use std::{
    collections::HashMap,
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use synckit_protocol::{ObjectKey, SealedHash};

use super::{
    columns::{id, unsigned},
    connection,
    executor::{Transaction, run},
    failure::{Failure, database},
    schema_parts,
};
use crate::{
    StoreError,
    survey::{self, DatabaseFacts, LogSurvey, LogWalk, ObjectExtent, ObjectSurvey, ObjectWalk},
};

/// Findings of the integrity check that are returned.
const FINDINGS_MAX: u32 = 10;
/// Objects of a range, about.
const OBJECTS_AT_ONCE: u64 = 500_000;
/// Directories that objects are spread over by the first byte of their keys.
const SHARDS: u64 = 256;

/// A database file, open for reading only.
#[derive(Debug)]
pub struct DatabaseInspection {
    connection: Connection,
    path: PathBuf,
    /// No process used it when it was opened.
    is_immutable: bool,
}

/// How closely a database is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegrityCheck {
    /// Every page and every row, not whether indexes agree with their tables; for so long at most. While it reads, a server
    /// that writes cannot empty its write-ahead log.
    Quick(Duration),
    /// Everything, for as long as it takes.
    Whole,
}

impl DatabaseInspection {
    /// The newest schema that this server knows.
    pub fn known_schema() -> u32 {
        connection::known_schema()
    }

    /// Opens a database file for reading.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the file does not exist or cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let is_immutable = !beside(path, "-wal").exists();
        let opened = if is_immutable {
            let uri = immutable_uri(path)?;
            Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
        } else {
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        };
        let connection = opened.map_err(Failure::from)?;
        (|| {
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            // Reads the header, so that a file that is no database is found here.
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        })()
        .map_err(Failure::from)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            is_immutable,
        })
    }

    /// Whether a process began to use the file while it was read as an immutable one: then the results may be wrong.
    pub fn was_disturbed(&self) -> bool {
        self.is_immutable && beside(&self.path, "-wal").exists()
    }

    /// The schema of the database; `None` if it has none yet.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn schema(&self) -> Result<Option<u32>, StoreError> {
        connection::schema_version(&self.connection)
    }

    /// The parts of the newest schema that the database lacks: columns, keys, indexes, checks. Only for a database whose schema
    /// this server knows.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn missing_parts(&self) -> Result<Vec<String>, StoreError> {
        let found = schema_parts::parts(&self.connection).map_err(Failure::from)?;
        Ok(schema_parts::expected()?.difference(&found).cloned().collect())
    }

    /// Looks for damage with SQLite's own checks. Returns the damage, at most ten lines, and `None` if the check did
    /// not come to its end.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn check(&self, extent: IntegrityCheck) -> Result<Option<Vec<String>>, StoreError> {
        let (pragma, limit) = match extent {
            IntegrityCheck::Quick(limit) => ("quick_check", Some(limit)),
            IntegrityCheck::Whole => ("integrity_check", None),
        };
        let interrupt = self.connection.get_interrupt_handle();
        let (finished, waiting) = mpsc::channel::<()>();
        let timer = limit.map(|limit| {
            std::thread::spawn(move || {
                if waiting.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                    interrupt.interrupt();
                }
            })
        });
        let checked = (|| {
            let mut check = self.connection.prepare(&format!("PRAGMA {pragma}({FINDINGS_MAX})"))?;
            let lines = check.query_map([], |row| row.get::<_, String>(0))?;
            lines.collect::<Result<Vec<_>, _>>()
        })();
        drop(finished);
        if let Some(timer) = timer {
            // It has nothing to say, and ends at once.
            let _ = timer.join();
        }
        match checked {
            Ok(lines) => Ok(Some(lines.into_iter().filter(|line| line != "ok").collect())),
            Err(error) => match error.sqlite_error_code() {
                Some(ErrorCode::OperationInterrupted) => Ok(None),
                // The damage is so bad that the check itself cannot continue.
                Some(ErrorCode::DatabaseCorrupt) => Ok(Some(vec![error.to_string()])),
                _ => Err(Failure::from(error).into()),
            },
        }
    }

    /// Reads the facts. Only for a database whose schema this server knows.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn facts(&self) -> Result<DatabaseFacts, StoreError> {
        self.read(async |db| survey::facts(db).await)
    }

    /// Walks every chain, and hashes every sealed batch. Only for a database whose schema this server knows. The time
    /// is that of reading the database.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the database cannot be read.
    pub fn survey_logs(&self) -> Result<LogSurvey, StoreError> {
        let mut walk = LogWalk::new();
        while self.read(async |db| walk.step(db).await)? {}
        Ok(walk.survey)
    }

    /// Compares the objects in the database with the files in a directory, by names and sizes. Only for a database
    /// whose schema this server knows.
    ///
    /// # Errors
    /// [`StoreError::Database`], also if the directory cannot be read.
    pub fn survey_objects(&self, directory: &Path, extent: ObjectExtent) -> Result<ObjectSurvey, StoreError> {
        let mut walk = self.read(async |db| ObjectWalk::begin(db, directory, extent).await)?;
        while let Some(objects) = self.read(async |db| walk.read(db).await)? {
            walk.compare(objects)?;
        }
        Ok(walk.survey)
    }

    /// Runs work in one transaction.
    fn read<T>(&self, work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let transaction = self.connection.unchecked_transaction().map_err(Failure::from)?;
        Ok(run(work(&Transaction(&transaction)))?)
    }

    /// Ranges of the first byte of object keys that together are all of them, each with so few objects that these fit into
    /// memory. Only for a database whose schema this server knows.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn object_ranges(&self) -> Result<Vec<RangeInclusive<u8>>, StoreError> {
        let known = self
            .connection
            .query_row("SELECT count(*) FROM blobs", [], |row| unsigned(row, 0))
            .map_err(Failure::from)?;
        let step = (SHARDS * OBJECTS_AT_ONCE / known.max(1)).clamp(1, SHARDS);
        let byte = |shard: u64| u8::try_from(shard).unwrap_or(u8::MAX);
        let firsts = (0..SHARDS).step_by(usize::try_from(step).unwrap_or(1));
        Ok(firsts.map(|first| byte(first)..=byte(first + step - 1)).collect())
    }

    /// The objects of a range that blobs name, with their sizes and hashes. Only for a database whose schema this server knows.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn objects(&self, range: &RangeInclusive<u8>) -> Result<HashMap<ObjectKey, (u64, SealedHash)>, StoreError> {
        let read = || -> rusqlite::Result<HashMap<ObjectKey, (u64, SealedHash)>> {
            self.connection
                .prepare_cached(
                    "SELECT object_key, size_bytes, sealed_hash FROM blobs
                     WHERE substr(object_key, 1, 1) BETWEEN ?1 AND ?2",
                )?
                .query_map([[*range.start()], [*range.end()]], |row| {
                    let stored = (unsigned(row, 1)?, id(row, 2, SealedHash::from_bytes)?);
                    Ok((ObjectKey::from_bytes(row.get(0)?), stored))
                })?
                .collect()
        };
        Ok(read().map_err(Failure::from)?)
    }
}

/// A file that SQLite keeps beside the database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn immutable_uri(path: &Path) -> Result<String, StoreError> {
    let path = std::path::absolute(path).map_err(database)?;
    let text = path.to_str().ok_or_else(|| {
        database(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path of the database is not UTF-8",
        ))
    })?;
    let mut uri = String::from("file:");
    // On Windows a drive letter would be taken for a host.
    if !text.starts_with('/') {
        uri.push('/');
    }
    for character in text.chars() {
        match character {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            '\\' if cfg!(windows) => uri.push('/'),
            other => uri.push(other),
        }
    }
    uri.push_str("?immutable=1");
    Ok(uri)
}
