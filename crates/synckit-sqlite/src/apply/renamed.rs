//! Rows that became other rows.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::{
    error::Error,
    layout::{KeyLayout, Layout},
    merge::Key,
    rows::{Row, RowId, Value},
    shadow::{book::Book, numbers::Numbers},
};

/// Rows that became other ones: the table of their numbers, and their ids.
type Moved = BTreeMap<(i64, RowId), RowId>;

/// A row that became another one keeps its number, so that the app's references to it stay right: they lead to the other one.
pub(super) fn follow_renamed(
    connection: &Connection,
    layout: &Layout,
    book: &mut Book,
    before: &mut BTreeMap<Key, Row>,
) -> Result<(), Error> {
    let (numbers, mut moved) = (Numbers(connection), Moved::new());
    for (from, to) in std::mem::take(&mut book.state.renamed) {
        let Some(table) = layout.tables.get(&from.table) else {
            continue;
        };
        if before.contains_key(&to) || !matches!(table.key, KeyLayout::Mapped(_)) {
            continue;
        }
        let Some(row) = before.remove(&from) else { continue };
        let table = table.declared.number;
        if let Some(number) = numbers.number(table, &from.id)? {
            numbers.set(table, number, &to.id)?;
        }
        // What had become the row that becomes another one now.
        for target in moved.values_mut().filter(|target| **target == from.id) {
            *target = to.id.clone();
        }
        moved.insert((table, from.id), to.id.clone());
        before.insert(to, row);
    }
    if !moved.is_empty() {
        let rows = std::mem::take(before).into_iter();
        *before = rows.map(|(key, row)| referring(layout, &moved, key, row)).collect();
    }
    Ok(())
}

/// The row as its table has it now. Its key may be made of rows.
fn referring(layout: &Layout, moved: &Moved, key: Key, mut row: Row) -> (Key, Row) {
    let columns = layout
        .tables
        .get(&key.table)
        .into_iter()
        .flat_map(|table| &table.columns);
    let mut is_moved = false;
    for column in columns {
        if let (Some(Value::Row(id)), Some(table)) = (row.get(&column.name), column.numbers_of)
            && let Some(to) = moved.get(&(table, id.clone()))
        {
            row.set(column.name.as_str(), Value::Row(to.clone()));
            is_moved = true;
        }
    }
    let id = layout.schema.id_of(&key.table, &row).filter(|_| is_moved);
    let Key { table, id: before } = key;
    let id = id.unwrap_or(before);
    (Key { table, id }, row)
}
