//! Rows that were in the file before it was synced: the same row of every installation gets the same id (`docs/rows.md`,
//! section 4).

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use synckit_crypto::batch::Timestamp;

use crate::{
    error::Error,
    layout::{KeyLayout, Layout, TableLayout},
    merge::{Base, Key, Unsent},
    rows::{Row, RowId, Value},
    shadow::{
        book::{BETWEEN, Book},
        numbers::Numbers,
        reader::{Raw, fixed_id, raw_rows, translated},
    },
};

/// Rows without an id, by table and number.
type Waiting<'a> = BTreeMap<(i64, i64), (&'a TableLayout, Row)>;

/// Names every row of the tables that are tracked from now on. They are unsent, and begin with themselves: where another
/// installation edited or deleted such a row, that stays.
pub(crate) fn birth(
    connection: &Connection,
    layout: &Layout,
    new: &BTreeSet<String>,
    book: &mut Book,
) -> Result<(), Error> {
    let tables: Vec<&TableLayout> = layout
        .tables
        .values()
        .filter(|table| new.contains(&table.declared.name))
        .collect();
    name_rows(connection, &tables)?;
    // What the log has of these tables comes with the next look.
    let logged = book
        .state
        .rows()
        .map(|(key, _)| key)
        .filter(|key| new.contains(&key.table));
    let logged: Vec<Key> = logged.cloned().collect();
    book.outside
        .extend(logged.into_iter().map(|key| (key, BETWEEN.to_owned())));
    for table in tables {
        for raw in raw_rows(connection, table, "1", &[])? {
            let Some((key, row)) = translated(connection, table, raw)? else {
                continue;
            };
            let unsent = Unsent {
                row: Some(row.clone()),
                base: Base::Row(row),
                time: Timestamp::default(),
                changed: BTreeMap::new(),
            };
            book.outside.remove(&key);
            book.state.unsent.insert(key, unsent);
        }
    }
    Ok(())
}

/// Rows are named after those that they refer to. Where rows refer to each other in a circle, numbers stay in the names.
fn name_rows(connection: &Connection, tables: &[&TableLayout]) -> Result<(), Error> {
    let mut waiting = Waiting::new();
    for table in tables.iter().filter(|table| matches!(table.key, KeyLayout::Mapped(_))) {
        for Raw { number, row } in raw_rows(connection, table, "1", &[])? {
            waiting.extend(number.map(|number| ((table.declared.number, number), (*table, row))));
        }
    }
    let mut named = BTreeMap::new();
    while !waiting.is_empty() {
        let ready =
            |(table, row): &(&TableLayout, Row)| !refers_to(table, row).any(|parent| waiting.contains_key(&parent));
        let mut now: Vec<(i64, i64)> = waiting
            .iter()
            .filter(|(_, row)| ready(row))
            .map(|(place, _)| *place)
            .collect();
        if now.is_empty() {
            now = waiting.keys().copied().collect();
        }
        for place in now {
            if let Some((table, row)) = waiting.remove(&place) {
                name_row(Numbers(connection), table, place.1, row, &mut named)?;
            }
        }
    }
    Ok(())
}

fn refers_to<'a>(table: &'a TableLayout, row: &'a Row) -> impl Iterator<Item = (i64, i64)> + 'a {
    let columns = table.columns.iter();
    columns.filter_map(|column| Layout::is_number(row.get(&column.name)?, column))
}

fn name_row(
    numbers: Numbers<'_>,
    table: &TableLayout,
    number: i64,
    mut row: Row,
    named: &mut BTreeMap<(i64, Row), u64>,
) -> Result<(), Error> {
    for column in &table.columns {
        let parent = row.get(&column.name).and_then(|value| Layout::is_number(value, column));
        if let Some((parent, number)) = parent
            && let Some(id) = numbers.id(parent, number)?
        {
            row.set(column.name.as_str(), Value::Row(id));
        }
    }
    let ordinal = named.entry((table.declared.number, row.clone())).or_default();
    let id = fixed_id(number).unwrap_or_else(|| RowId::of_birth(&table.declared.name, &row, *ordinal));
    *ordinal += 1;
    Ok(numbers.set(table.declared.number, number, &id)?)
}
