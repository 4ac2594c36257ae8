//! An export as a SQLite database: a table for each table of the app, its rows in their newest state, and every change.
//!
//! ```text
//! <table>           synckit_row_id, synckit_timestamp_us, synckit_data, and a column for each top-level field of its rows
//! synckit_changes   every change in the order of the log, `data` as JSON
//! synckit_tables    the name here of each table of the app
//! synckit_columns   the column here of each field of a row
//! synckit_export    the user, and the progress
//! ```
//!
//! JSON becomes SQLite: null and absent NULL, true and false 1 and 0, integers INTEGER (TEXT from 2^63 on), other
//! numbers REAL, strings TEXT, arrays and objects TEXT of their JSON. `synckit_data` holds values without a column: a
//! row that is not an object, and fields past the thousandth. `synckit_changes` has everything exactly.
//!
//! Invariant: changes, rows and the cursor after them are committed together.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rusqlite::{
    Connection, params, params_from_iter,
    types::{ToSqlOutput, Value as Cell},
};
use serde::Serialize;
use serde_json::{Map, Value};
use synckit_client::{ChangeEntry, ChangeOp, Cursor};

use super::place::{Owner, Saved, open_private_file};

/// The most columns of one table, far below SQLite's limit of 2,000.
const COLUMNS_MAX: usize = 1_000;
/// The most tables of rows. Changes of further tables are only in `synckit_changes`.
const TABLES_MAX: usize = 2_000;
/// The prefix of names that this module uses itself.
const OWN_PREFIX: &str = "synckit_";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS synckit_export (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1), user_id TEXT NOT NULL, app_id TEXT NOT NULL,
        cursor TEXT NOT NULL, changes INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS synckit_changes (
        change_number INTEGER PRIMARY KEY, table_name TEXT NOT NULL, op TEXT NOT NULL, row_id TEXT NOT NULL,
        timestamp_us INTEGER NOT NULL, data TEXT);
    CREATE TABLE IF NOT EXISTS synckit_tables (table_name TEXT PRIMARY KEY, sqlite_name TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS synckit_columns (
        table_name TEXT NOT NULL, field TEXT NOT NULL, sqlite_name TEXT NOT NULL, PRIMARY KEY (table_name, field));
";

/// The growing database.
#[derive(Debug)]
pub(super) struct Tables {
    db: Connection,
    path: PathBuf,
    tables: HashMap<String, Table>,
    taken: Taken,
    written: Saved,
}

/// One table of the app.
#[derive(Debug)]
struct Table {
    sqlite_name: String,
    columns: HashMap<String, String>,
    taken: Taken,
}

#[derive(Debug, Serialize)]
pub(super) struct TableReport {
    pub(super) table: String,
    pub(super) sqlite_name: String,
    pub(super) rows: u64,
}

/// Names in use. SQLite ignores the case of ASCII letters.
#[derive(Debug, Default)]
struct Taken(HashSet<String>);

impl Taken {
    /// The wanted name if it is free, or else a numbered one.
    fn choose(&mut self, wanted: &str, kind: &str) -> String {
        let lower = wanted.to_ascii_lowercase();
        let is_possible = !lower.is_empty()
            && !lower.contains('\0')
            && !lower.starts_with("sqlite_")
            && !lower.starts_with(OWN_PREFIX)
            && !self.0.contains(&lower);
        let name = if is_possible {
            wanted.to_owned()
        } else {
            format!("{OWN_PREFIX}{kind}_{}", self.0.len() + 1)
        };
        self.0.insert(name.to_ascii_lowercase());
        name
    }
}

impl Tables {
    /// Continues in a database, or creates one.
    pub(super) fn open(path: &Path, owner: &Owner) -> anyhow::Result<Self> {
        let open = || -> anyhow::Result<Self> {
            drop(open_private_file(path)?);
            let db = Connection::open(path)?;
            db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
            db.pragma_update(None, "synchronous", "normal")?;
            db.set_prepared_statement_cache_capacity(256);
            db.execute_batch(SCHEMA)?;
            db.execute(
                "INSERT OR IGNORE INTO synckit_export VALUES (1, ?1, ?2, ?3, 0)",
                params![
                    owner.user_id.to_string(),
                    owner.app_id.to_string(),
                    Cursor::START.to_string()
                ],
            )?;
            let (cursor, changes): (String, u64) =
                db.query_row("SELECT cursor, changes FROM synckit_export", [], |row| {
                    Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
                })?;
            let mut this = Self {
                db,
                path: path.to_owned(),
                tables: HashMap::new(),
                taken: Taken::default(),
                written: Saved {
                    cursor: cursor.parse()?,
                    changes,
                    bytes: 0,
                },
            };
            this.read_names()?;
            this.db.execute_batch("BEGIN IMMEDIATE")?;
            Ok(this)
        };
        open().with_context(|| format!("cannot write {}", path.display()))
    }

    /// The position and the number of changes written so far.
    pub(super) fn written(&self) -> Saved {
        self.written
    }

    pub(super) fn write(&mut self, changes: &[ChangeEntry], next: Cursor) -> anyhow::Result<()> {
        for change in changes {
            self.written.changes += 1;
            self.record(change)?;
            self.fold(change)?;
        }
        self.written.cursor = next;
        Ok(())
    }

    /// Commits all written changes.
    pub(super) fn save(&mut self) -> anyhow::Result<Saved> {
        self.db.execute(
            "UPDATE synckit_export SET cursor = ?1, changes = ?2",
            params![self.written.cursor.to_string(), self.written.changes.cast_signed()],
        )?;
        self.db.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
        Ok(self.written)
    }

    /// Closes the database, leaving a single file.
    pub(super) fn finish(self) -> anyhow::Result<Vec<TableReport>> {
        self.db.execute_batch("COMMIT")?;
        let mut report = Vec::new();
        let mut names: Vec<(&String, &Table)> = self.tables.iter().collect();
        names.sort_by_key(|(name, _)| *name);
        for (name, table) in names {
            let count = format!("SELECT count(*) FROM {}", quoted(&table.sqlite_name));
            let rows: i64 = self.db.query_row(&count, [], |row| row.get(0))?;
            report.push(TableReport {
                table: name.clone(),
                sqlite_name: table.sqlite_name.clone(),
                rows: rows.unsigned_abs(),
            });
        }
        // The database must be one file: a copy of only one of several files would lack data.
        self.db
            .pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))?;
        self.db.close().map_err(|(_, error)| error)?;
        open_private_file(&self.path)?.sync_all()?;
        Ok(report)
    }

    fn read_names(&mut self) -> anyhow::Result<()> {
        let mut names = self.db.prepare("SELECT table_name, sqlite_name FROM synckit_tables")?;
        let mut rows = names.query([])?;
        while let Some(row) = rows.next()? {
            let (name, sqlite_name): (String, String) = (row.get(0)?, row.get(1)?);
            self.taken.0.insert(sqlite_name.to_ascii_lowercase());
            self.tables.insert(
                name,
                Table {
                    sqlite_name,
                    columns: HashMap::new(),
                    taken: Taken::default(),
                },
            );
        }
        let mut columns = self
            .db
            .prepare("SELECT table_name, field, sqlite_name FROM synckit_columns")?;
        let mut rows = columns.query([])?;
        while let Some(row) = rows.next()? {
            let (table, field, sqlite_name): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if let Some(table) = self.tables.get_mut(&table) {
                table.taken.0.insert(sqlite_name.to_ascii_lowercase());
                table.columns.insert(field, sqlite_name);
            }
        }
        Ok(())
    }

    fn record(&self, change: &ChangeEntry) -> anyhow::Result<()> {
        let data = change.data.as_ref().map(serde_json::to_string).transpose()?;
        let op = match change.op {
            ChangeOp::Insert => "insert",
            ChangeOp::Update => "update",
            ChangeOp::Delete => "delete",
        };
        self.db
            .prepare_cached("INSERT INTO synckit_changes VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                self.written.changes.cast_signed(),
                change.table,
                op,
                change.row_id,
                change.timestamp.as_micros(),
                data
            ])?;
        Ok(())
    }

    /// Updates the row to its state after the change.
    fn fold(&mut self, change: &ChangeEntry) -> anyhow::Result<()> {
        if change.op == ChangeOp::Delete {
            if let Some(table) = self.tables.get(&change.table) {
                let delete = format!("DELETE FROM {} WHERE synckit_row_id = ?1", quoted(&table.sqlite_name));
                self.db.prepare_cached(&delete)?.execute([&change.row_id])?;
            }
            return Ok(());
        }
        if !self.tables.contains_key(&change.table) {
            if self.tables.len() >= TABLES_MAX {
                return Ok(());
            }
            self.add_table(&change.table)?;
        }
        let Some(table) = self.tables.get_mut(&change.table) else {
            return Ok(());
        };
        let mut columns = vec![
            "synckit_row_id".to_owned(),
            "synckit_timestamp_us".to_owned(),
            "synckit_data".to_owned(),
        ];
        let mut cells = vec![
            Cell::Text(change.row_id.clone()),
            Cell::Integer(change.timestamp.as_micros()),
            Cell::Null,
        ];
        let mut rest = Map::new();
        match columns_of(change.data.as_ref()) {
            Some(Value::Object(fields)) => {
                for (field, value) in fields {
                    match table.column(&self.db, &change.table, field)? {
                        Some(column) => {
                            columns.push(quoted(&column));
                            cells.push(cell(value)?);
                        }
                        None => {
                            rest.insert(field.clone(), value.clone());
                        }
                    }
                }
                if !rest.is_empty() {
                    cells[2] = Cell::Text(serde_json::to_string(&rest)?);
                }
            }
            Some(other) => cells[2] = Cell::Text(serde_json::to_string(other)?),
            None => {}
        }
        let places = vec!["?"; cells.len()].join(", ");
        let replace = format!(
            "INSERT OR REPLACE INTO {} ({}) VALUES ({places})",
            quoted(&table.sqlite_name),
            columns.join(", ")
        );
        let cells = cells.into_iter().map(ToSqlOutput::Owned);
        self.db.prepare_cached(&replace)?.execute(params_from_iter(cells))?;
        Ok(())
    }

    fn add_table(&mut self, name: &str) -> anyhow::Result<()> {
        let sqlite_name = self.taken.choose(name, "table");
        self.db.execute_batch(&format!(
            "CREATE TABLE {} (synckit_row_id TEXT PRIMARY KEY NOT NULL, synckit_timestamp_us INTEGER NOT NULL, synckit_data TEXT)",
            quoted(&sqlite_name)
        ))?;
        self.db
            .execute("INSERT INTO synckit_tables VALUES (?1, ?2)", params![name, sqlite_name])?;
        self.tables.insert(
            name.to_owned(),
            Table {
                sqlite_name,
                columns: HashMap::new(),
                taken: Taken::default(),
            },
        );
        Ok(())
    }
}

impl Table {
    /// The column of a field; `None` if the table already has the most columns.
    fn column(&mut self, db: &Connection, table: &str, field: &str) -> anyhow::Result<Option<String>> {
        if let Some(column) = self.columns.get(field) {
            return Ok(Some(column.clone()));
        }
        if self.columns.len() >= COLUMNS_MAX {
            return Ok(None);
        }
        let column = self.taken.choose(field, "field");
        // Without a type, so that SQLite converts no value.
        db.execute_batch(&format!(
            "ALTER TABLE {} ADD COLUMN {}",
            quoted(&self.sqlite_name),
            quoted(&column)
        ))?;
        db.execute(
            "INSERT INTO synckit_columns VALUES (?1, ?2, ?3)",
            params![table, field, column],
        )?;
        self.columns.insert(field.to_owned(), column.clone());
        Ok(Some(column))
    }
}

fn cell(value: &Value) -> anyhow::Result<Cell> {
    Ok(match value {
        Value::Null => Cell::Null,
        Value::Bool(truth) => Cell::Integer(i64::from(*truth)),
        Value::Number(number) => match (number.as_i64(), number.is_u64(), number.as_f64()) {
            (Some(integer), _, _) => Cell::Integer(integer),
            (None, false, Some(real)) => Cell::Real(real),
            _ => Cell::Text(number.to_string()),
        },
        Value::String(text) => Cell::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => Cell::Text(serde_json::to_string(value)?),
    })
}

/// A quoted SQL name.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The columns of a row of a snapshot, without their times: `docs/rows.md`, section 5.
fn columns_of(data: Option<&Value>) -> Option<&Value> {
    let is_time = |value: &Value| value.is_i64() || value.as_object().is_some_and(|fields| fields.keys().eq(["added"]));
    match data?.as_array().map(Vec::as_slice) {
        Some([row @ Value::Object(fields), Value::Object(times)])
            if times
                .iter()
                .all(|(column, time)| fields.contains_key(column) && is_time(time)) =>
        {
            Some(row)
        }
        _ => data,
    }
}
