//! What the app's triggers do, and whether this connection can write at all: SQLite tells while it prepares a statement.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{
    Connection, Result,
    hooks::{AuthAction, AuthContext, Authorization},
};

use super::catalog::{TableInfo, quoted};

/// A column that a trigger writes, or a whole row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct TriggerWrite {
    /// The trigger.
    pub trigger: String,
    /// The table that it writes.
    pub table: String,
    /// The column that it updates; `None` if it inserts or deletes rows.
    pub column: Option<String>,
}

/// What preparing an INSERT, an UPDATE and a DELETE of a table showed.
pub(super) struct Prepared {
    pub(super) writes: BTreeSet<TriggerWrite>,
    /// What SQLite said where a statement cannot be prepared.
    pub(super) refusal: Option<String>,
}

pub(super) fn prepare(connection: &Connection, table: &TableInfo) -> Result<Prepared> {
    let writes = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&writes);
    connection.authorizer(Some(move |context: AuthContext<'_>| {
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(write(&context));
        Authorization::Allow
    }))?;
    let refusal = statements(table).iter().find_map(|sql| connection.prepare(sql).err());
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    let writes = std::mem::take(&mut *writes.lock().unwrap_or_else(PoisonError::into_inner));
    let refusal = refusal.map(|error| match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) | rusqlite::Error::SqlInputError { msg: message, .. } => {
            message
        }
        other => other.to_string(),
    });
    Ok(Prepared { writes, refusal })
}

fn write(context: &AuthContext<'_>) -> Option<TriggerWrite> {
    let (table, column) = match context.action {
        AuthAction::Update {
            table_name,
            column_name,
        } => (table_name, Some(column_name.to_owned())),
        AuthAction::Insert { table_name } | AuthAction::Delete { table_name } => (table_name, None),
        _ => return None,
    };
    Some(TriggerWrite {
        trigger: context.accessor?.to_owned(),
        table: table.to_owned(),
        column,
    })
}

/// The statements by which rows are applied.
fn statements(table: &TableInfo) -> [String; 3] {
    let columns: Vec<String> = table
        .columns
        .iter()
        .filter(|column| !column.is_generated)
        .map(|column| quoted(&column.name))
        .collect();
    let places = vec!["?"; columns.len()].join(", ");
    let sets: Vec<String> = columns.iter().map(|column| format!("{column} = ?")).collect();
    let name = quoted(&table.name);
    [
        format!("INSERT INTO {name} ({}) VALUES ({places})", columns.join(", ")),
        format!("UPDATE {name} SET {}", sets.join(", ")),
        format!("DELETE FROM {name}"),
    ]
}
