//! An embedded database as the source or the target of a transfer.
//!
//! A target is written under another name, which no server opens, and gets its own at the end.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::Connection;

use super::{
    connection::{self, Role},
    executor::{Transaction, run},
    failure::{Failure, database},
    log::INLINE_BYTES_MAX,
};
use crate::{
    StoreError,
    private_files::sync_dir,
    records::{Row, Value},
    survey::LogWalk,
    transfer::{error::TransferError, tables::Table},
};

/// How long a source waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages of the write-ahead log after which it is written into the file: nobody else does it.
const CHECKPOINT_PAGES: u32 = 4096;

/// An open file.
pub(crate) struct FileEnd {
    connection: Connection,
    path: PathBuf,
}

impl FileEnd {
    pub(crate) fn source(path: &Path) -> Result<Self, TransferError> {
        if !path.is_file() {
            return Err(TransferError::NoSource);
        }
        let connection = connection::open(path, Role::Reader, BUSY_TIMEOUT).map_err(StoreError::from)?;
        let versions = connection::schema(&connection)?;
        match versions.found {
            None => Err(TransferError::NoSource),
            Some(found) if found == versions.known => Ok(Self {
                connection,
                path: path.to_owned(),
            }),
            Some(found) => Err(StoreError::OtherSchema {
                found: Some(found),
                known: versions.known,
            }
            .into()),
        }
    }

    pub(crate) fn target(path: &Path) -> Result<Self, TransferError> {
        if path.exists() {
            return Err(TransferError::NotEmpty);
        }
        let unfinished = unfinished(path);
        connection::create_file(&unfinished)?;
        let mut connection = connection::open(&unfinished, Role::Writer, BUSY_TIMEOUT).map_err(StoreError::from)?;
        connection::migrate(&mut connection)?;
        connection
            .pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))
            .map_err(|error| StoreError::from(Failure::from(error)))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    pub(crate) fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        Transaction(&self.connection).rows(sql, values, &mut |row| {
            rows.push(row);
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    pub(crate) fn insert(&self, table: &Table, rows: &[Row]) -> Result<(), StoreError> {
        let transaction = self.connection.unchecked_transaction().map_err(Failure::from)?;
        for row in rows {
            let mut values: Vec<Value<'_>> = row.columns().iter().map(Value::from).collect();
            if table.name == "batches" {
                keep_large_bytes_apart(&transaction, table, &mut values)?;
            }
            Transaction(&transaction).changes(&table.insert, &values)?;
        }
        transaction.commit().map_err(Failure::from)?;
        Ok(())
    }

    /// Walks every chain for one transaction. `false` after the last log.
    pub(crate) fn walk(&self, walk: &mut LogWalk) -> Result<bool, StoreError> {
        let transaction = self.connection.unchecked_transaction().map_err(Failure::from)?;
        Ok(run(walk.step(&Transaction(&transaction)))?)
    }

    pub(crate) fn finish(self) -> Result<(), TransferError> {
        // The last connection empties the write-ahead log and deletes it.
        self.connection
            .close()
            .map_err(|(_, error)| StoreError::from(Failure::from(error)))?;
        let failed = |source| TransferError::Io {
            path: self.path.clone(),
            source,
        };
        fs::rename(unfinished(&self.path), &self.path).map_err(failed)?;
        match self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => sync_dir(parent).map_err(failed),
            None => sync_dir(Path::new(".")).map_err(failed),
        }
    }
}

/// The file that a transfer into `path` writes until it is whole.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

/// As [`super::log`] stores a batch.
fn keep_large_bytes_apart(db: &Connection, table: &Table, values: &mut [Value<'_>]) -> Result<(), StoreError> {
    let place = |name: &str| table.columns.iter().position(|column| column == name);
    let (Some(sealed_key), Some(sealed)) = (place("sealed_key"), place("sealed")) else {
        return Ok(());
    };
    if let Some(Value::Bytes(bytes)) = values.get(sealed).copied()
        && bytes.len() > INLINE_BYTES_MAX
    {
        db.prepare_cached("INSERT INTO sealed_batches (sealed) VALUES (?1)")
            .and_then(|mut insert| insert.execute([bytes]))
            .map_err(database)?;
        values[sealed_key] = Value::Number(db.last_insert_rowid());
        values[sealed] = Value::Null;
    }
    Ok(())
}
