//! Rows of the app's tables as the merge sees them.

use rusqlite::{Connection, Result, Row as SqlRow, ToSql, params_from_iter};

use super::numbers::{Numbers, new_id};
use crate::{
    inspect::catalog::quoted,
    layout::{KeyLayout, Layout, TableLayout},
    merge::Key,
    rows::{Row, RowId, Value},
    sql::value_of,
};

/// A row as it is stored, with the number of the row if it has one, and with numbers in the place of references.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) number: Option<i64>,
    pub(crate) row: Row,
}

/// The rows under a condition.
pub(crate) fn raw_rows(
    connection: &Connection,
    table: &TableLayout,
    condition: &str,
    parameters: &[&dyn ToSql],
) -> Result<Vec<Raw>> {
    let mut columns = table.names();
    let key = match &table.key {
        KeyLayout::Mapped(key) => Some(key.clone()),
        _ => None,
    };
    columns.extend(key.clone());
    let names: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    // A table may have no synced column at all.
    let names = if names.is_empty() {
        "1".to_owned()
    } else {
        names.join(", ")
    };
    let sql = format!("SELECT {names} FROM {} WHERE {condition}", quoted(&table.info.name));
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(params_from_iter(parameters.iter()), |row| {
        raw(table, key.is_some(), row)
    })?;
    rows.collect()
}

fn raw(table: &TableLayout, has_number: bool, row: &SqlRow<'_>) -> Result<Raw> {
    let mut values = Row::new();
    for (place, column) in table.columns.iter().enumerate() {
        values.set(column.name.as_str(), value_of(row.get_ref(place)?));
    }
    let number = if has_number {
        row.get(table.columns.len())?
    } else {
        None
    };
    Ok(Raw { number, row: values })
}

/// The row with ids in the place of numbers, and its key; no key for a row of which a part of the key is NULL.
pub(crate) fn translated(connection: &Connection, table: &TableLayout, raw: Raw) -> Result<Option<(Key, Row)>> {
    let numbers = Numbers(connection);
    let mut row = raw.row;
    for column in &table.columns {
        let number = row.get(&column.name).and_then(|value| Layout::is_number(value, column));
        if let Some((parent, number)) = number
            && let Some(id) = numbers.id_or_new(parent, number)?
        {
            row.set(column.name.as_str(), Value::Row(id));
        }
    }
    let id = match raw.number {
        Some(number) => Some(id_of_number(numbers, table, number)?),
        None => id_of_values(table, &row),
    };
    let table = table.declared.name.clone();
    Ok(id.map(|id| (Key { table, id }, row)))
}

/// The id of a row that is in the table: it has one, unless it was inserted while our triggers were gone.
fn id_of_number(numbers: Numbers<'_>, table: &TableLayout, number: i64) -> Result<RowId> {
    let table = table.declared.number;
    if let Some(id) = numbers.id(table, number)? {
        return Ok(id);
    }
    let id = fixed_id(number).unwrap_or_else(new_id);
    numbers.set(table, number, &id)?;
    Ok(id)
}

/// The id of a number that no device counts up.
pub(crate) fn fixed_id(number: i64) -> Option<RowId> {
    (number <= 0).then(|| RowId::of_key(&[Value::Integer(number)]))
}

fn id_of_values(table: &TableLayout, row: &Row) -> Option<RowId> {
    let names = match &table.key {
        KeyLayout::Columns(columns) => columns.clone(),
        _ => row.iter().map(|(name, _)| name.to_owned()).collect(),
    };
    let values: Vec<Value> = names
        .iter()
        .map(|name| row.get(name).cloned().unwrap_or(Value::Null))
        .collect();
    let is_named = table.key == KeyLayout::WholeRow || !values.contains(&Value::Null);
    is_named.then(|| RowId::of_key(&values))
}
