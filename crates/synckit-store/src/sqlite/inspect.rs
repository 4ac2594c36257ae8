//! Reads a database file that a server may be using, for `synckit doctor`.
//!
//! The connection is opened read-only, never migrates, never checkpoints, and makes no file. A database
//! without a write-ahead log beside it is in use by no process; it is read as an immutable file, because an ordinary
//! connection would first make the log and its index.
//!
//! Invariant: a server on the same file never waits for this module, and finds no byte changed.

use std::{
    collections::HashMap,
    fs, io,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, params};
use synckit_protocol::{ObjectKey, SealedHash, wire::UnixSeconds};

use super::{
    columns::{id, optional_unsigned, unsigned},
    connection,
    failure::{Failure, database},
};
use crate::{StoreError, objects::hash_of_file};

/// Findings of the integrity check that are returned.
const FINDINGS_MAX: u32 = 10;
/// Objects that a survey compares at a time.
const OBJECTS_AT_ONCE: u64 = 500_000;
/// Objects that a sample compares, about.
const OBJECTS_SAMPLED: u64 = 10_000;
/// Objects that a survey names.
const EXAMPLES_MAX: usize = 5;
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

/// Facts about a database, read from its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseFacts {
    /// Apps.
    pub apps: u64,
    /// Accounts, deleted ones that are still swept not counted.
    pub accounts: u64,
    /// Those whose password was registered under another OPRF seed than the database is bound to.
    pub stale_passwords: u64,
    /// The OPRF seed that it is bound to; `None` before the first start.
    pub seed_id: Option<[u8; 16]>,
    /// The newest time in any of its rows.
    pub newest_time: Option<UnixSeconds>,
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

/// Which objects a survey compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectExtent {
    /// All if they are few, or else some thousands.
    Sample,
    /// All, with the hash of every one: reads every file.
    All,
}

/// How the database and the directory of objects agree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectSurvey {
    /// Objects that the database knows.
    pub known: u64,
    /// Those that were compared.
    pub compared: u64,
    /// Compared ones whose file is missing.
    pub missing: u64,
    /// Compared ones whose file has another size.
    pub wrong_size: u64,
    /// Compared ones of the right size whose bytes are not those that were stored. Only where all are compared.
    pub rotten: u64,
    /// Files that the database does not know.
    pub orphaned: u64,
    /// The bytes of those.
    pub orphaned_bytes: u64,
    /// Some of the objects that are missing or have another size.
    pub examples: Vec<ObjectKey>,
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
        let facts = self.connection.query_row(
            "SELECT (SELECT count(*) FROM apps WHERE is_deleted = 0), (SELECT count(*) FROM accounts WHERE is_deleted = 0),
                 (SELECT seed_id FROM server),
                 (SELECT max(newest) FROM (
                     SELECT max(created_at) AS newest FROM accounts UNION ALL SELECT max(refreshed_at) FROM sessions
                     UNION ALL SELECT max(last_seen_at) FROM devices UNION ALL SELECT max(updated_at) FROM envelopes
                     UNION ALL SELECT max(touched_at) FROM snapshots)),
                 (SELECT count(*) FROM accounts JOIN server
                  WHERE is_deleted = 0 AND accounts.seed_id IS NOT server.seed_id)",
            [],
            |row| {
                Ok(DatabaseFacts {
                    apps: unsigned(row, 0)?,
                    accounts: unsigned(row, 1)?,
                    seed_id: row.get(2)?,
                    newest_time: optional_unsigned(row, 3)?,
                    stale_passwords: unsigned(row, 4)?,
                })
            },
        );
        Ok(facts.map_err(Failure::from)?)
    }

    /// Compares the objects in the database with the files in a directory, by names and sizes. Only for a database
    /// whose schema this server knows.
    ///
    /// # Errors
    /// [`StoreError::Database`], also if the directory cannot be read.
    pub fn survey_objects(&self, directory: &Path, extent: ObjectExtent) -> Result<ObjectSurvey, StoreError> {
        let mut survey = ObjectSurvey {
            known: self
                .connection
                .query_row(
                    "SELECT (SELECT count(*) FROM blobs) + (SELECT count(*) FROM uploads)
                         + (SELECT count(*) FROM condemned_objects)",
                    [],
                    |row| unsigned(row, 0),
                )
                .map_err(Failure::from)?,
            ..ObjectSurvey::default()
        };
        let shards_of = |objects: u64| (SHARDS * objects / survey.known.max(1)).clamp(1, SHARDS);
        let (first, end, step) = match extent {
            ObjectExtent::All => (0, SHARDS, shards_of(OBJECTS_AT_ONCE)),
            ObjectExtent::Sample => {
                let shards = shards_of(OBJECTS_SAMPLED);
                // Keys are random, so any directory is as good a sample as another; not always the same one, though.
                let first = u64::from(rand::random::<u8>()) % (SHARDS - shards + 1);
                (first, first + shards, shards)
            }
        };
        let mut from = first;
        while from < end {
            let to = (from + step).min(end);
            self.survey_shards(directory, from..to, extent, &mut survey)?;
            from = to;
        }
        Ok(survey)
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

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Lists the files first and reads the rows second. An object that appears in between is in the rows only, so it is
    /// looked up once more before it counts as missing; one that is deleted in between is looked up before its file counts
    /// as an orphan.
    fn survey_shards(
        &self,
        directory: &Path,
        shards: Range<u64>,
        extent: ObjectExtent,
        survey: &mut ObjectSurvey,
    ) -> Result<(), StoreError> {
        let Range { start: from, end: to } = shards;
        let mut files = HashMap::new();
        for shard in from..to {
            list_shard(&directory.join(format!("{shard:02x}")), &mut files).map_err(database)?;
        }
        let shard_byte = |shard: u64| vec![u8::try_from(shard).unwrap_or(u8::MAX)];
        let bounds = params![shard_byte(from), shard_byte(to - 1)];
        let mut blobs = self
            .connection
            .prepare("SELECT object_key, size_bytes, sealed_hash FROM blobs WHERE substr(object_key, 1, 1) BETWEEN ?1 AND ?2")
            .map_err(Failure::from)?;
        let mut rows = blobs.query(bounds).map_err(Failure::from)?;
        while let Some(row) = rows.next().map_err(Failure::from)? {
            let key = ObjectKey::from_bytes(row.get(0).map_err(Failure::from)?);
            let size: u64 = unsigned(row, 1).map_err(Failure::from)?;
            survey.compared += 1;
            let found = files.remove(&key).or_else(|| size_of(directory, &key));
            match found {
                Some(found) if found == size => {
                    let stored: SealedHash = id(row, 2, SealedHash::from_bytes).map_err(Failure::from)?;
                    if extent == ObjectExtent::Sample || is_whole(directory, &key, stored)? {
                        continue;
                    }
                    survey.rotten += 1;
                }
                Some(_) => survey.wrong_size += 1,
                None => survey.missing += 1,
            }
            if survey.examples.len() < EXAMPLES_MAX {
                survey.examples.push(key);
            }
        }
        let mut others = self
            .connection
            .prepare(
                "SELECT object_key FROM uploads WHERE substr(object_key, 1, 1) BETWEEN ?1 AND ?2
                 UNION ALL SELECT object_key FROM condemned_objects WHERE substr(object_key, 1, 1) BETWEEN ?1 AND ?2",
            )
            .map_err(Failure::from)?;
        let mut rows = others.query(bounds).map_err(Failure::from)?;
        while let Some(row) = rows.next().map_err(Failure::from)? {
            files.remove(&ObjectKey::from_bytes(row.get(0).map_err(Failure::from)?));
        }
        for (key, size) in files {
            if size_of(directory, &key).is_some() {
                survey.orphaned += 1;
                survey.orphaned_bytes += size;
            }
        }
        Ok(())
    }
}

/// The names of a directory that are keys, with the sizes of their files. A directory is made with its first object.
fn list_shard(path: &Path, files: &mut HashMap<ObjectKey, u64>) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let key = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // A file that went in the meantime is none.
        if let (Some(key), Ok(metadata)) = (key, entry.metadata()) {
            files.insert(key, metadata.len());
        }
    }
    Ok(())
}

/// Whether an object has the bytes that were stored. One that cannot be read has not, and one that was removed meanwhile is
/// no business of a survey.
fn is_whole(directory: &Path, key: &ObjectKey, stored: SealedHash) -> Result<bool, StoreError> {
    match hash_of_file(&path_of(directory, key)) {
        Ok(found) => Ok(found == stored),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        // The disk can no longer read the file.
        Err(error) if error.raw_os_error().is_some() => Ok(false),
        Err(error) => Err(database(error)),
    }
}

fn path_of(directory: &Path, key: &ObjectKey) -> PathBuf {
    let name = key.to_string();
    directory.join(name.get(..2).unwrap_or_default()).join(&name)
}

fn size_of(directory: &Path, key: &ObjectKey) -> Option<u64> {
    fs::metadata(path_of(directory, key))
        .ok()
        .map(|metadata| metadata.len())
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
