//! Recognising a copy of a database that a server had open.
//!
//! `cp`, `tar` and `rsync` read the database and its write-ahead log at different moments. Such a copy usually opens,
//! but it may lack rows or mix old pages with new ones, and SQLite does not notice. So while a server has a database
//! open, the header of the file (`user_version`) holds a number made of two properties that a copy does not keep: the
//! file's number in its file system and the time of its creation. An orderly stop sets it to 0. A file with another
//! file's number is checked completely before use.
//!
//! The number is deliberately no proof. A snapshot of the file system keeps both properties and is not noticed; it is
//! as consistent as after a power cut, which is enough. And a command that uses the file beside the server neither sets
//! nor checks the number.
//!
//! Invariant: a server never works on a copy in which this program can find damage.

use std::{fs, io, path::Path, time::UNIX_EPOCH};

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use super::{
    failure::{Failure, database},
    inspect::{DatabaseInspection, IntegrityCheck},
};
use crate::StoreError;

/// In the header of a database that no server has open.
const CLOSED: i32 = 0;

/// Marks the database as open, for its server; and checks it whole first if it is a copy of one that was open.
pub(super) fn claim(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let own = number_of(path).map_err(database)?;
    let found = mark(connection)?;
    if found == own {
        // The last server was killed. SQLite recovers from that.
        return Ok(());
    }
    if found != CLOSED {
        tracing::warn!(
            "the database is a copy of one that a server had open: it is checked whole, which takes a while"
        );
        check(path)?;
        tracing::warn!("the copy is not damaged; what the server stored after it was made is not in it");
    }
    match set(connection, own) {
        Ok(()) => {}
        // Reads continue on a disk without a free byte. A file that cannot be written cannot be torn either.
        Err(StoreError::Full(error)) => tracing::warn!(%error, "the disk is full: a copy will not be recognised"),
        Err(error) => return Err(error),
    }
    // The header, and not only the log, must have it before anything else is written.
    let blocked: bool = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(Failure::from)?;
    if blocked {
        tracing::debug!("another process uses the database, whose write-ahead log stays");
    }
    Ok(())
}

/// Marks the database as closed: a copy of it is as good as the file itself.
pub(super) fn release(connection: &Connection) -> Result<(), StoreError> {
    if mark(connection)? == CLOSED {
        return Ok(());
    }
    set(connection, CLOSED)
}

fn mark(connection: &Connection) -> Result<i32, StoreError> {
    let mark = connection.pragma_query_value(None, "user_version", |row| row.get(0));
    Ok(mark.map_err(Failure::from)?)
}

fn set(connection: &Connection, mark: i32) -> Result<(), StoreError> {
    Ok(connection
        .pragma_update(None, "user_version", mark)
        .map_err(Failure::from)?)
}

/// A number of this file that its copies do not have; never [`CLOSED`].
fn number_of(path: &Path) -> io::Result<i32> {
    let metadata = fs::metadata(path)?;
    let mut hash = Sha256::new();
    #[cfg(unix)]
    hash.update(std::os::unix::fs::MetadataExt::ino(&metadata).to_be_bytes());
    // Not every file system knows it; then the number of the file must do.
    let created = metadata
        .created()
        .ok()
        .and_then(|created| created.duration_since(UNIX_EPOCH).ok());
    hash.update(created.map_or(0, |since| since.as_nanos()).to_be_bytes());
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
    Ok(i32::from_be_bytes([a, b, c, d]) | 1)
}

fn check(path: &Path) -> Result<(), StoreError> {
    let inspection = DatabaseInspection::open(path)?;
    let mut findings = inspection.check(IntegrityCheck::Whole)?.unwrap_or_default();
    if findings.is_empty() {
        let logs = inspection.survey_logs()?;
        findings.extend(logs.examples.iter().map(|found| found.damage.to_string()));
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(StoreError::Damaged(findings.join("; ")))
    }
}
