//! A database in memory with the app's columns: what they store is asked of SQLite, because affinities differ between its
//! versions.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Result, params_from_iter};

use crate::{
    inspect::catalog::{ColumnInfo, TableInfo, quoted},
    rows::{Row, Value},
    sql::{Bound, value_of},
};

/// Columns of the app, without rows and constraints.
#[derive(Debug, Clone)]
pub(crate) struct Scratch(Arc<Mutex<Connection>>);

impl Scratch {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(Arc::new(Mutex::new(connection)))
    }

    pub(crate) fn add(&self, table: &TableInfo) -> Result<()> {
        let columns: Vec<String> = table
            .columns
            .iter()
            .filter(|column| !column.is_generated)
            .map(definition)
            .collect();
        let strict = if table.is_strict { " STRICT" } else { "" };
        let sql = format!("CREATE TABLE {} ({}){strict}", quoted(&table.name), columns.join(", "));
        self.with(|connection| connection.execute_batch(&sql))
    }

    /// What a column holds in a row whose writer did not name it; NULL for an expression that is not constant.
    pub(crate) fn default_of(&self, table: &str, column: &str) -> Result<Value> {
        let (table, column) = (quoted(table), quoted(column));
        self.with(|connection| {
            connection.execute(&format!("INSERT INTO {table} DEFAULT VALUES"), [])?;
            let value = connection.query_row(&format!("SELECT {column} FROM {table}"), [], |row| {
                Ok(value_of(row.get_ref(0)?))
            });
            connection.execute(&format!("DELETE FROM {table}"), [])?;
            value
        })
    }

    /// The row as the columns store it. Values that they refuse stay as they are: the table will refuse them, too.
    pub(crate) fn image(&self, table: &TableInfo, row: &Row) -> Row {
        let known = row
            .iter()
            .filter_map(|(name, value)| Some((table.column(name)?, name, value)));
        let changing: Vec<(&str, &Value)> = known
            .filter(|(column, _, value)| !is_stored_as_is(&column.declared_type, value))
            .map(|(_, name, value)| (name, value))
            .collect();
        let mut stored = row.clone();
        if let (false, Ok(values)) = (changing.is_empty(), self.stored(&table.name, &changing)) {
            for ((name, _), value) in changing.iter().zip(values) {
                stored.set(*name, value);
            }
        }
        stored
    }

    fn stored(&self, table: &str, columns: &[(&str, &Value)]) -> Result<Vec<Value>> {
        let table = quoted(table);
        let names: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
        let names = names.join(", ");
        let places = vec!["?"; columns.len()].join(", ");
        self.with(|connection| {
            let mut insert = connection.prepare_cached(&format!("INSERT INTO {table} ({names}) VALUES ({places})"))?;
            insert.execute(params_from_iter(columns.iter().map(|(_, value)| Bound(value))))?;
            let values = connection
                .prepare_cached(&format!("SELECT {names} FROM {table}"))?
                .query_row([], |row| {
                    (0..columns.len())
                        .map(|place| Ok(value_of(row.get_ref(place)?)))
                        .collect()
                });
            connection.execute(&format!("DELETE FROM {table}"), [])?;
            values
        })
    }

    /// The values of expressions over a row; `None` if the condition does not hold.
    pub(crate) fn evaluate(&self, table: &str, row: &Row, names: &[String], select: &str) -> Option<Vec<Value>> {
        let table = quoted(table);
        let columns: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        let places = vec!["?"; columns.len()].join(", ");
        let values: Vec<&Value> = names.iter().map(|name| row.get(name).unwrap_or(&Value::Null)).collect();
        let evaluated = self.with(|connection| {
            let insert = format!("INSERT INTO {table} ({}) VALUES ({places})", columns.join(", "));
            connection
                .prepare_cached(&insert)?
                .execute(params_from_iter(values.into_iter().map(Bound)))?;
            let values = connection.prepare_cached(select)?.query_row([], |row| {
                (0..row.as_ref().column_count())
                    .map(|place| Ok(value_of(row.get_ref(place)?)))
                    .collect()
            });
            connection.execute(&format!("DELETE FROM {table}"), [])?;
            values
        });
        evaluated.ok()
    }

    /// The first of all texts that a collation takes for equal to this one.
    pub(crate) fn representative(&self, collation: &str, value: &Value) -> Value {
        let seen = quoted(&format!("synckit_seen_{collation}"));
        let found = self.with(|connection| {
            connection.execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS {seen} (value TEXT COLLATE {} PRIMARY KEY) WITHOUT ROWID",
                quoted(collation)
            ))?;
            let insert = format!("INSERT OR IGNORE INTO {seen} VALUES (?1)");
            connection.prepare_cached(&insert)?.execute([Bound(value)])?;
            let find = format!("SELECT value FROM {seen} WHERE value = ?1");
            connection
                .prepare_cached(&find)?
                .query_row([Bound(value)], |row| Ok(value_of(row.get_ref(0)?)))
        });
        found.unwrap_or_else(|_| value.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        work(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn definition(column: &ColumnInfo) -> String {
    let default = column.default.as_deref().filter(|text| is_constant(text));
    let default = default.map_or_else(String::new, |text| format!(" DEFAULT {text}"));
    format!("{} {}{default}", quoted(&column.name), column.declared_type)
}

/// Whether a DEFAULT is a literal: the same at any time and on every device.
fn is_constant(text: &str) -> bool {
    let text = text.trim();
    let is_quoted = ['\'', '"']
        .iter()
        .any(|quote| text.starts_with(*quote) && text.ends_with(*quote));
    let word = text.to_ascii_lowercase();
    is_quoted
        || text.parse::<f64>().is_ok()
        || ["null", "true", "false"].contains(&word.as_str())
        || (word.starts_with("x'") && word.ends_with('\''))
        || word.starts_with("0x")
}

/// Whether every version of SQLite stores a value as it is in a column of this type.
fn is_stored_as_is(declared_type: &str, value: &Value) -> bool {
    let declared = declared_type.to_ascii_uppercase();
    match value {
        Value::Null | Value::Row(_) | Value::File(_) | Value::Blob(_) => true,
        Value::Integer(_) => declared.contains("INT"),
        Value::Text(_) => {
            !declared.contains("INT") && ["CHAR", "CLOB", "TEXT"].iter().any(|word| declared.contains(word))
        }
        Value::Real(_) => declared == "REAL" || declared == "DOUBLE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_constant() {
        for text in ["1", "-1.5", "'a'", "\"a\"", "NULL", "x'00'", "0xff", "true"] {
            assert!(is_constant(text), "{text}");
        }
        for text in ["CURRENT_TIMESTAMP", "(random())", "datetime('now')", "lower('A')"] {
            assert!(!is_constant(text), "{text}");
        }
    }
}
