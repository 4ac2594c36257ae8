//! What makes a row of a table the same row on every device.

use rusqlite::{Connection, Result};

use super::catalog::{TableInfo, UniqueInfo, quoted};
use crate::track::{Identity, Track};

/// What was declared, or what the schema suggests.
pub(super) fn identity(connection: &Connection, all: &[TableInfo], table: &TableInfo, track: &Track) -> Identity {
    let declared = track.declared_identity();
    declared.map_or_else(|| suggested(connection, all, table), Clone::clone)
}

fn suggested(connection: &Connection, all: &[TableInfo], table: &TableInfo) -> Identity {
    let key = table.key();
    if let [only] = key[..]
        && let Some(parent) = parent(all, table, &only.name)
    {
        return Identity::OfParent { parent };
    }
    if table.rowid_alias().is_some() {
        return Identity::Mapped;
    }
    if !key.is_empty() {
        return Identity::Columns(key.iter().map(|column| column.name.clone()).collect());
    }
    for unique in &table.uniques {
        if let Some(columns) = full_columns(table, unique)
            // Without a collation that only the app registers, the index cannot be read, and nothing can be said.
            && holds_null(connection, table, &columns).is_ok_and(|holds_null| !holds_null)
        {
            return Identity::Columns(columns);
        }
    }
    Identity::WholeRow
}

/// The other table whose key a column has to be.
fn parent(all: &[TableInfo], table: &TableInfo, column: &str) -> Option<String> {
    let foreign = table.foreign_key_of(column)?;
    let parent = all
        .iter()
        .find(|parent| parent.name.eq_ignore_ascii_case(&foreign.parent))?;
    let ([(_, there)], [key]) = (&foreign.columns[..], &parent.key()[..]) else {
        return None;
    };
    let is_key = there.as_ref().is_none_or(|there| there.eq_ignore_ascii_case(&key.name));
    (is_key && parent.name != table.name).then(|| parent.name.clone())
}

/// The columns of a UNIQUE that every row takes part in.
fn full_columns(table: &TableInfo, unique: &UniqueInfo) -> Option<Vec<String>> {
    let columns: Option<Vec<String>> = unique.columns.iter().cloned().collect();
    let columns = columns.filter(|_| !unique.is_partial)?;
    columns
        .iter()
        .all(|column| table.column(column).is_some_and(|known| !known.is_generated))
        .then_some(columns)
}

fn holds_null(connection: &Connection, table: &TableInfo, columns: &[String]) -> Result<bool> {
    let conditions: Vec<String> = columns
        .iter()
        .map(|column| format!("{} IS NULL", quoted(column)))
        .collect();
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM {} WHERE {})",
        quoted(&table.name),
        conditions.join(" OR ")
    );
    connection.query_row(&sql, [], |row| row.get(0))
}
