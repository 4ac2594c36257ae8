//! A SQLite database as a dataset: every ordinary table, whatever its key.
//!
//! A row's id is its key as a JSON array: `[85]`, `["DE","Europe/Berlin"]`. A table without a primary key, or with one in
//! which NULL stands (SQLite allows that), goes by rowid. A key longer than a row id should be becomes its SHA-256.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Cell, Row, Table};
use crate::failure::Failure;

/// The longest row id that is written out.
const ROW_ID_BYTES_MAX: usize = 512;

/// A database that is open for reading.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    tables: Vec<SourceTable>,
}

/// A table, and how to read it.
#[derive(Debug)]
struct SourceTable {
    table: Table,
    /// What names a row, as SQL.
    key: Vec<String>,
}

impl Database {
    /// Opens a database for reading, and says which tables are left out.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<String>), Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> anyhow::Result<(Self, Vec<String>)> {
            let connection = Connection::open_with_flags(path, flags)?;
            let (tables, left_out) = read_tables(&connection)?;
            Ok((Self { connection, tables }, left_out))
        };
        open()
            .map_err(plain)
            .with_context(|| format!("cannot read the database {}", path.display()))
            .map_err(|error| {
                Failure::new(
                    error,
                    "if another program is using it, or it needs recovery, give a copy of it",
                )
            })
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        self.tables.iter().map(|source| source.table.clone()).collect()
    }

    pub(super) fn row_count(&self) -> anyhow::Result<u64> {
        let mut rows = 0;
        for source in &self.tables {
            rows += row_count(&self.connection, &source.table.name)?;
        }
        Ok(rows)
    }

    /// Calls `visit` for every row, all of one moment of the database.
    pub(super) fn visit(&self, visit: &mut dyn FnMut(&Table, Row) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let snapshot = self.connection.unchecked_transaction()?;
        for source in &self.tables {
            let table = &source.table;
            let columns = table.columns.iter().map(|column| quoted(column));
            let selected: Vec<String> = source.key.iter().cloned().chain(columns).collect();
            let sql = format!("SELECT {} FROM main.{}", selected.join(", "), quoted(&table.name));
            let mut statement = snapshot.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
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

/// The ordinary tables of a database, and what is left out.
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

/// The columns and the key of a table; `None` if nothing names its rows.
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

/// The name of a row, made of its key.
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

/// What SQLite says is wrong, once: the library says it again with the number of the error.
fn plain(error: anyhow::Error) -> anyhow::Error {
    match error.downcast() {
        Ok(rusqlite::Error::SqliteFailure(_, Some(message))) => anyhow!(message),
        Ok(error) => error.into(),
        Err(error) => error,
    }
}

/// How many rows a table has.
pub(crate) fn row_count(connection: &Connection, table: &str) -> anyhow::Result<u64> {
    let sql = format!("SELECT count(*) FROM main.{}", quoted(table));
    let rows: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    Ok(rows.unsigned_abs())
}

/// A name as SQL takes it, whatever is in it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
