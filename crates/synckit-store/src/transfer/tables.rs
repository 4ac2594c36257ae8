//! The tables of the schema as data, read from the schema itself, so that a column that is added to it is copied, too.

use rusqlite::Connection;

use crate::{
    StoreError,
    records::{Column, ImpossibleValue, Row, Value},
    schema,
};

/// Rows of a table with small ones that are read at once.
const ROWS: i64 = 1000;
/// Rows of a table with sealed bytes that are read at once: up to 64 MiB of parts of snapshots.
const SEALED_ROWS: i64 = 16;

/// The sealed bytes of a batch, which the embedded store keeps in a table of their own if there are many.
const SEALED: &str = "coalesce(batches.sealed, (SELECT sealed_batches.sealed FROM sealed_batches
     WHERE sealed_batches.sealed_key = batches.sealed_key))";

/// A table, with the statements that copy it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    /// The places of the columns of the primary key.
    key: Vec<usize>,
    /// Inserts a row of all columns.
    pub(crate) insert: String,
    rows_at_once: i64,
    first_page: String,
    next_page: String,
    last_key: String,
}

impl Table {
    fn new(name: String, columns: Vec<String>, key: Vec<usize>) -> Self {
        let list = columns.join(", ");
        let shown: Vec<&str> = columns.iter().map(|column| shown(&name, column)).collect();
        let shown = shown.join(", ");
        let keys: Vec<&str> = key
            .iter()
            .filter_map(|&place| Some(columns.get(place)?.as_str()))
            .collect();
        let descending: Vec<String> = keys.iter().map(|key| format!("{key} DESC")).collect();
        let keys = keys.join(", ");
        let limit = key.len() + 1;
        Self {
            insert: format!("INSERT INTO {name} ({list}) VALUES ({})", parameters(columns.len())),
            rows_at_once: if columns.iter().any(|column| column == "sealed") {
                SEALED_ROWS
            } else {
                ROWS
            },
            first_page: format!("SELECT {shown} FROM {name} ORDER BY {keys} LIMIT $1"),
            next_page: format!(
                "SELECT {shown} FROM {name} WHERE ({keys}) > ({}) ORDER BY {keys} LIMIT ${limit}",
                parameters(key.len())
            ),
            last_key: format!("SELECT {keys} FROM {name} ORDER BY {} LIMIT $1", descending.join(", ")),
            name,
            columns,
            key,
        }
    }

    /// The statement that reads the rows after a key, and its values.
    pub(super) fn page<'a>(&self, after: Option<&'a [Column]>) -> (&str, Vec<Value<'a>>) {
        let mut values: Vec<Value<'a>> = after.unwrap_or_default().iter().map(Value::from).collect();
        values.push(Value::Number(self.rows_at_once));
        let sql = if after.is_some() {
            &self.next_page
        } else {
            &self.first_page
        };
        (sql, values)
    }

    /// The statement that reads the last key.
    pub(super) fn last_key(&self) -> (&str, [Value<'static>; 1]) {
        (&self.last_key, [Value::Number(1)])
    }

    /// The key of a row.
    pub(super) fn key_of(&self, row: &Row) -> Vec<Column> {
        let key = self.key.iter().filter_map(|&place| row.columns().get(place));
        key.cloned().collect()
    }

    /// Whether it has one row, which is there from the start.
    pub(super) fn is_one_row(&self) -> bool {
        self.name == "server"
    }
}

/// A column as it is read: equal for equal data on every engine.
fn shown<'a>(table: &str, column: &'a str) -> &'a str {
    match (table, column) {
        ("batches", "sealed_key") => "CAST(NULL AS BIGINT)",
        ("batches", "sealed") => SEALED,
        _ => column,
    }
}

fn parameters(count: usize) -> String {
    (1..=count)
        .map(|number| format!("${number}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Every table of the schema that holds data of its own. A table refers only to earlier ones.
pub(super) fn tables() -> Result<Vec<Table>, StoreError> {
    let read = || -> rusqlite::Result<Vec<Table>> {
        let db = Connection::open_in_memory()?;
        for migration in schema::MIGRATIONS {
            db.execute_batch(migration)?;
        }
        let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'sealed_batches' ORDER BY rowid";
        let mut names = db.prepare(names)?;
        let names = names.query_map([], |row| row.get(0))?;
        names.map(|name| table(&db, name?)).collect()
    };
    let tables = read().map_err(|error| StoreError::Database(Box::new(error)))?;
    if tables.iter().any(|table| table.key.is_empty()) {
        return Err(ImpossibleValue("table without a primary key").into());
    }
    Ok(tables)
}

fn table(db: &Connection, name: String) -> rusqlite::Result<Table> {
    let mut info = db.prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")?;
    let info = info.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let info: Vec<(String, u32)> = info.collect::<Result<_, _>>()?;
    let mut key: Vec<(u32, usize)> = (0..)
        .zip(&info)
        .filter_map(|(place, (_, rank))| (*rank > 0).then_some((*rank, place)))
        .collect();
    key.sort_unstable();
    let key = key.into_iter().map(|(_, place)| place).collect();
    Ok(Table::new(
        name,
        info.into_iter().map(|(column, _)| column).collect(),
        key,
    ))
}
