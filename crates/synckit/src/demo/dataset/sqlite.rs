//! A SQLite database as a dataset: every ordinary table, whatever its key.
//!
//! A row's id is its key as a JSON array: `[85]`, `["DE","Europe/Berlin"]`. A table without a primary key, or with NULL
//! in one (SQLite allows that), uses the rowid. A key that is too long for a row id is replaced by its SHA-256.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Cell, Row, Table};
use crate::failure::Failure;

/// The longest key that is written out as a row id.
const ROW_ID_BYTES_MAX: usize = 512;

/// A database that is open for reading.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    connection: Connection,
    tables: Vec<SourceTable>,
}

/// A table, and how to read it.
#[derive(Debug)]
struct SourceTable {
    table: Table,
    /// The key columns of a row, as SQL.
    key: Vec<String>,
}

impl Database {
    /// Opens a database for reading, and returns the skipped tables.
    pub(super) fn open(path: &Path, scratch: &Path) -> Result<(Self, Vec<String>), Failure> {
        let connection = open_without_a_trace(path, scratch)
            .with_context(|| format!("cannot read the database {}", path.display()))?;
        let (tables, left_out) = read_tables(&connection).map_err(|error| Unreadable::from(error, path))?;
        let path = path.to_owned();
        Ok((
            Self {
                path,
                connection,
                tables,
            },
            left_out,
        ))
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        self.tables.iter().map(|source| source.table.clone()).collect()
    }

    pub(super) fn row_count(&self) -> anyhow::Result<u64> {
        let mut rows = 0;
        for source in &self.tables {
            rows +=
                row_count(&self.connection, &source.table.name).map_err(|error| Unreadable::from(error, &self.path))?;
        }
        Ok(rows)
    }

    /// Calls `visit` for every row, all from one snapshot of the database.
    pub(super) fn visit(&self, visit: &mut dyn FnMut(&Table, Row) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let snapshot = self.connection.unchecked_transaction()?;
        for source in &self.tables {
            let table = &source.table;
            let columns = table.columns.iter().map(|column| quoted(column));
            let selected: Vec<String> = source.key.iter().cloned().chain(columns).collect();
            let sql = format!("SELECT {} FROM main.{}", selected.join(", "), quoted(&table.name));
            let mut statement = snapshot.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows
                .next()
                .map_err(|error| Unreadable::from(error.into(), &self.path))?
            {
                let mut cells = Vec::with_capacity(selected.len());
                for index in 0..selected.len() {
                    cells.push(Cell::from(row.get_ref(index)?));
                }
                let cells_of_row = cells.split_off(source.key.len());
                visit(
                    table,
                    Row {
                        id: row_id(&cells),
                        cells: cells_of_row,
                    },
                )?;
            }
        }
        Ok(())
    }
}

/// The ordinary tables of a database, and the skipped ones.
fn read_tables(connection: &Connection) -> anyhow::Result<(Vec<SourceTable>, Vec<String>)> {
    let mut tables = Vec::new();
    let mut left_out = Vec::new();
    let mut list = connection.prepare(
        "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let mut rows = list.query([])?;
    while let Some(row) = rows.next()? {
        let (name, kind, without_rowid): (String, String, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        match kind.as_str() {
            "table" => match read_table(connection, &name, without_rowid)? {
                Some(table) => tables.push(table),
                None => left_out.push(format!("the table {name}: nothing names its rows")),
            },
            "virtual" => left_out.push(format!("the virtual table {name}: its module computes it")),
            // Views are computed, and shadow tables belong to a virtual table.
            _ => {}
        }
    }
    Ok((tables, left_out))
}

/// The columns and the key of a table; `None` if its rows have no key.
fn read_table(connection: &Connection, name: &str, without_rowid: bool) -> anyhow::Result<Option<SourceTable>> {
    let mut columns = Vec::new();
    let mut key: Vec<(i64, String)> = Vec::new();
    // Generated columns (hidden 2 and 3) are computed from the others.
    let mut info =
        connection.prepare("SELECT name, pk FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 0 ORDER BY cid")?;
    let mut rows = info.query([name])?;
    while let Some(row) = rows.next()? {
        let (column, place): (String, i64) = (row.get(0)?, row.get(1)?);
        if place > 0 {
            key.push((place, column.clone()));
        }
        columns.push(column);
    }
    key.sort();
    let key_columns: Vec<String> = key.into_iter().map(|(_, column)| column).collect();
    let last_outside_key = columns.iter().rposition(|column| !key_columns.contains(column));
    let edited = last_outside_key.unwrap_or(columns.len().saturating_sub(1));
    let mut key: Vec<String> = key_columns.iter().map(|column| quoted(column)).collect();
    if key.is_empty() || !without_rowid && key_has_null(connection, name, &key)? {
        // A column may be named like the rowid, and then hides it.
        let hidden = |alias: &&str| columns.iter().any(|column| column.eq_ignore_ascii_case(alias));
        let Some(alias) = ["rowid", "_rowid_", "oid"].into_iter().find(|alias| !hidden(alias)) else {
            return Ok(None);
        };
        key = vec![alias.to_owned()];
    }
    Ok(Some(SourceTable {
        table: Table {
            name: name.to_owned(),
            columns,
            edited,
        },
        key,
    }))
}

fn key_has_null(connection: &Connection, table: &str, key: &[String]) -> anyhow::Result<bool> {
    let any_null: Vec<String> = key.iter().map(|column| format!("{column} IS NULL")).collect();
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM main.{} WHERE {})",
        quoted(table),
        any_null.join(" OR ")
    );
    Ok(connection.query_row(&sql, [], |row| row.get(0))?)
}

/// The row id, made of the row's key.
pub(crate) fn row_id(key: &[Cell]) -> String {
    let text = Value::Array(key.iter().map(Cell::to_json).collect()).to_string();
    if text.len() <= ROW_ID_BYTES_MAX {
        return text;
    }
    let digest = Sha256::digest(text.as_bytes());
    format!(
        "sha256:{}",
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    )
}

/// A database of the user that SQLite cannot read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the database {}: {reason}", path.display())]
pub(crate) struct Unreadable {
    path: PathBuf,
    reason: String,
}

impl Unreadable {
    /// The error of a failed read. It keeps no cause, because hints for SQLite's own errors concern the server's
    /// database.
    pub(crate) fn from(error: anyhow::Error, path: &Path) -> anyhow::Error {
        match error.downcast::<rusqlite::Error>() {
            Ok(rusqlite::Error::SqliteFailure(_, Some(reason))) => Self::because(reason, path),
            Ok(error) => Self::because(error.to_string(), path),
            Err(error) => error,
        }
    }

    fn because(reason: String, path: &Path) -> anyhow::Error {
        let path = path.to_owned();
        Self { path, reason }.into()
    }
}

/// Opens a database without creating files beside it: a reader of a write-ahead log normally creates `-wal` and `-shm`.
pub(crate) fn open_without_a_trace(path: &Path, scratch: &Path) -> anyhow::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let [log, index] = ["-wal", "-shm"].map(|ending| beside(path, ending));
    if !has_write_ahead_log(path)? || log.exists() && index.exists() {
        // With the usual locks; a user of the write-ahead log has created both files.
        return Ok(Connection::open_with_flags(path, flags)?);
    }
    if log.exists() {
        // The last user of the database crashed. The log is part of the database, and only a copy may be recovered.
        fs::create_dir_all(scratch)?;
        let copy = scratch.join("copy.sqlite");
        fs::copy(path, &copy)?;
        fs::copy(&log, beside(&copy, "-wal"))?;
        return Ok(Connection::open(&copy)?);
    }
    let uri = format!(
        "file:{}?mode=ro&immutable=1",
        percent_encoded(&std::path::absolute(path)?)
    );
    Ok(Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Whether the header declares a write-ahead log: bytes 18 and 19 are 2 (<https://www.sqlite.org/fileformat.html>,
/// section 1.3.3).
fn has_write_ahead_log(path: &Path) -> anyhow::Result<bool> {
    let mut header = Vec::new();
    File::open(path)?.take(20).read_to_end(&mut header)?;
    Ok(header.get(18..20) == Some(&[2, 2]))
}

/// An absolute path as SQLite reads it in a URI (<https://www.sqlite.org/uri.html>).
fn percent_encoded(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    // On Windows, `C:\\x` becomes `/C:/x`.
    let root = if bytes.first() == Some(&b'/') { "" } else { "/" };
    let encoded = bytes.iter().map(|byte| match byte {
        b'\\' if cfg!(windows) => "/".to_owned(),
        byte if byte.is_ascii_alphanumeric() || b"/-._~:".contains(byte) => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    encoded.fold(root.to_owned(), |text, part| text + &part)
}

/// The number of rows of a table.
pub(crate) fn row_count(connection: &Connection, table: &str) -> anyhow::Result<u64> {
    let sql = format!("SELECT count(*) FROM main.{}", quoted(table));
    let rows: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    Ok(rows.unsigned_abs())
}

/// A quoted SQL name, whatever its characters.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
