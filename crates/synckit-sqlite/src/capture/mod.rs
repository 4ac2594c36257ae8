//! What the app did to its tables: the rows that were touched, as they are now.

pub(crate) mod adopt;
pub(crate) mod birth;
pub(crate) mod triggers;

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, ToSql};
use synckit_crypto::batch::Timestamp;

use crate::{
    error::Error,
    inspect::catalog::quoted,
    layout::{KeyLayout, Layout, TableLayout},
    merge::{Found, Key, OnDelete, Rules, View},
    rows::{Row, RowId, Value},
    shadow::{
        book::{Book, HELD},
        numbers::{Numbers, new_id},
        reader::{Raw, raw_rows, translated},
    },
    sql::{Bound, value_of},
};

/// The rows that were looked at.
#[derive(Debug, Default)]
struct Seen {
    rows: BTreeMap<Key, Row>,
    looked_for: BTreeSet<Key>,
    noted: BTreeSet<Key>,
}

/// Takes over what the app did since the last look. `is_unwatched`: our triggers were gone for a while, so that every row has to
/// be looked at. Returns whether there was anything.
pub(crate) fn capture(
    connection: &Connection,
    layout: &Layout,
    book: &mut Book,
    visible: &mut BTreeMap<Key, Row>,
    is_unwatched: bool,
    now: Timestamp,
) -> Result<bool, Error> {
    if !is_unwatched && !has_notes(connection, layout)? {
        return Ok(false);
    }
    let mut seen = Seen::default();
    for table in layout.tables.values() {
        look(connection, layout, table, visible, &mut seen, is_unwatched)?;
    }
    let said = View {
        visible: std::mem::take(visible),
        parked: BTreeMap::new(),
    };
    let found = Found {
        rows: &seen.rows,
        noted: &seen.noted,
        looked_for: Some(&seen.looked_for),
        missing: &layout.missing,
    };
    let held = book.state.capture(&layout.schema, Rules::ALL, &said, &found, now);
    for key in seen.rows.keys() {
        book.outside.remove(key);
    }
    book.outside.extend(held.into_iter().map(|key| (key, HELD.to_owned())));
    *visible = said.visible;
    for key in seen.rows.into_keys().chain(seen.looked_for) {
        book.look_again(layout, key, visible);
    }
    Ok(true)
}

/// Whether anything was touched.
pub(crate) fn has_notes(connection: &Connection, layout: &Layout) -> Result<bool, Error> {
    let mut sql =
        "SELECT EXISTS (SELECT 1 FROM synckit_map WHERE noted) OR EXISTS (SELECT 1 FROM synckit_tables WHERE dirty)"
            .to_owned();
    for table in layout
        .tables
        .values()
        .filter(|table| matches!(table.key, KeyLayout::Columns(_)))
    {
        sql += &format!(" OR EXISTS (SELECT 1 FROM {})", triggers::notes_of(table));
    }
    Ok(connection.query_row(&sql, [], |row| row.get(0))?)
}

/// Forgets all notes: what was noted is known, or was done by us.
pub(crate) fn clear_notes(connection: &Connection, layout: &Layout) -> Result<(), Error> {
    // A row that lost its number to another one is found by its id, and gets a new number if it comes back.
    connection.execute("DELETE FROM synckit_map WHERE noted AND k IS NULL", [])?;
    connection.execute("UPDATE synckit_map SET noted = 0 WHERE noted", [])?;
    connection.execute("UPDATE synckit_tables SET dirty = 0 WHERE dirty", [])?;
    for table in layout
        .tables
        .values()
        .filter(|table| matches!(table.key, KeyLayout::Columns(_)))
    {
        connection.execute(&format!("DELETE FROM {}", triggers::notes_of(table)), [])?;
    }
    Ok(())
}

fn look(
    connection: &Connection,
    layout: &Layout,
    table: &TableLayout,
    visible: &BTreeMap<Key, Row>,
    seen: &mut Seen,
    is_unwatched: bool,
) -> Result<(), Error> {
    let noted = noted_rows(connection, table)?;
    let is_noted = !noted.keys.is_empty() || !noted.rows.is_empty();
    let mut looked_for = noted.keys.clone();
    let mut rows = noted.rows;
    if is_unwatched {
        cut_reused_numbers(connection, layout, table, visible, &noted.keys)?;
    }
    // INSERT OR REPLACE displaces rows through UNIQUE without a trigger: then there are fewer rows than there should be.
    let is_displaced = is_noted && !is_complete(connection, table, visible, &looked_for, &rows)?;
    if is_unwatched || noted.is_dirty || is_displaced {
        rows = read(connection, table, "1", &[])?;
        looked_for.extend(keys_of(visible, table).cloned());
    }
    seen.noted.extend(noted.keys);
    if noted.is_dirty || is_displaced {
        seen.noted.extend(looked_for.iter().cloned());
    }
    looked_for.extend(rows.keys().cloned());
    seen.looked_for.extend(looked_for);
    seen.rows.extend(rows);
    Ok(())
}

fn keys_of<'a>(visible: &'a BTreeMap<Key, Row>, table: &TableLayout) -> impl Iterator<Item = &'a Key> {
    let first = Key {
        table: table.declared.name.clone(),
        id: RowId::new(""),
    };
    let name = first.table.clone();
    visible
        .range(first..)
        .map(|(key, _)| key)
        .take_while(move |key| key.table == name)
}

pub(crate) fn read(
    connection: &Connection,
    table: &TableLayout,
    condition: &str,
    parameters: &[&dyn ToSql],
) -> Result<BTreeMap<Key, Row>, Error> {
    let raw = raw_rows(connection, table, condition, parameters)?;
    let rows = raw.into_iter().map(|raw| translated(connection, table, raw));
    Ok(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

/// What the triggers noted of one table.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    pub(crate) keys: BTreeSet<Key>,
    /// Those that are in the table.
    pub(crate) rows: BTreeMap<Key, Row>,
    pub(crate) is_dirty: bool,
}

pub(crate) fn noted_rows(connection: &Connection, table: &TableLayout) -> Result<Noted, Error> {
    match &table.key {
        KeyLayout::Mapped(key) => noted_numbers(connection, table, key),
        KeyLayout::Columns(columns) => noted_values(connection, table, columns),
        KeyLayout::WholeRow => {
            let sql = "SELECT dirty FROM synckit_tables WHERE number = ?1";
            let is_dirty = connection.query_row(sql, [table.declared.number], |row| row.get(0))?;
            Ok(Noted {
                is_dirty,
                ..Noted::default()
            })
        }
    }
}

fn noted_numbers(connection: &Connection, table: &TableLayout, column: &str) -> Result<Noted, Error> {
    let number = table.declared.number;
    let mut select = connection.prepare_cached("SELECT k, id FROM synckit_map WHERE noted AND t = ?1")?;
    let found = select.query_map([number], |row| {
        Ok((row.get::<_, Option<i64>>(0)?, value_of(row.get_ref(1)?)))
    })?;
    let found: Vec<(Option<i64>, Value)> = found.collect::<Result<_, _>>()?;
    let mut noted = Noted::default();
    let condition = format!("{} = ?1", quoted(column));
    for (place, id) in found {
        // A row that was made and lost its number in between never was anywhere else.
        let id = match (place, id) {
            (Some(place), _) => Numbers(connection).id(number, place)?,
            (None, Value::Text(id)) => String::from_utf8(id).ok().map(RowId::new),
            (None, _) => None,
        };
        let Some(id) = id else { continue };
        noted.keys.insert(Key {
            table: table.declared.name.clone(),
            id,
        });
        if let Some(place) = place {
            noted.rows.extend(read(connection, table, &condition, &[&place])?);
        }
    }
    Ok(noted)
}

fn noted_values(connection: &Connection, table: &TableLayout, columns: &[String]) -> Result<Noted, Error> {
    let mut select = connection.prepare_cached(&format!("SELECT * FROM {}", triggers::notes_of(table)))?;
    let notes = select.query_map([], |row| {
        (0..columns.len())
            .map(|place| Ok(value_of(row.get_ref(place)?)))
            .collect::<Result<Vec<_>, _>>()
    })?;
    let notes: Vec<Vec<Value>> = notes.collect::<Result<_, _>>()?;
    let conditions: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(place, name)| format!("{} IS ?{}", quoted(name), place + 1))
        .collect();
    let condition = conditions.join(" AND ");
    let mut noted = Noted::default();
    for note in notes {
        let values: Vec<Bound<'_>> = note.iter().map(Bound).collect();
        let parameters: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
        noted.rows.extend(read(connection, table, &condition, &parameters)?);
        // The key alone, as if the row were there.
        let row = columns.iter().map(String::as_str).zip(note.iter().cloned()).collect();
        let key = translated(connection, table, Raw { number: None, row })?;
        noted.keys.extend(key.map(|(key, _)| key));
    }
    Ok(noted)
}

/// Whether the table has as many rows as are known of it.
fn is_complete(
    connection: &Connection,
    table: &TableLayout,
    visible: &BTreeMap<Key, Row>,
    looked_for: &BTreeSet<Key>,
    rows: &BTreeMap<Key, Row>,
) -> Result<bool, Error> {
    let untouched = keys_of(visible, table)
        .filter(|key| !looked_for.contains(*key) && !rows.contains_key(*key))
        .count();
    let condition = match &table.key {
        KeyLayout::Columns(columns) => {
            let parts: Vec<String> = columns
                .iter()
                .map(|name| format!("{} IS NOT NULL", quoted(name)))
                .collect();
            parts.join(" AND ")
        }
        _ => "1".to_owned(),
    };
    let sql = format!("SELECT count(*) FROM {} WHERE {condition}", quoted(&table.info.name));
    let count: i64 = connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
    Ok(usize::try_from(count).is_ok_and(|count| count == untouched + rows.len()))
}

/// How many rows have a key of which a part is NULL.
pub(crate) fn unnamed(connection: &Connection, layout: &Layout) -> Result<usize, Error> {
    let mut all = 0;
    for table in layout.tables.values() {
        let parts: Vec<String> = table
            .key_columns()
            .iter()
            .map(|name| format!("{} IS NULL", quoted(name)))
            .collect();
        if !parts.is_empty() {
            let condition = parts.join(" OR ");
            let sql = format!("SELECT count(*) FROM {} WHERE {condition}", quoted(&table.info.name));
            let count: i64 = connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
            all += usize::try_from(count).unwrap_or(0);
        }
    }
    Ok(all)
}

/// While our triggers were gone, SQLite may have given a number again. A row of which no telling column is what it was is
/// another row.
fn cut_reused_numbers(
    connection: &Connection,
    layout: &Layout,
    table: &TableLayout,
    visible: &BTreeMap<Key, Row>,
    noted: &BTreeSet<Key>,
) -> Result<(), Error> {
    if !matches!(table.key, KeyLayout::Mapped(_)) {
        return Ok(());
    }
    let numbers = Numbers(connection);
    for raw in raw_rows(connection, table, "1", &[])? {
        let Some(number) = raw.number.filter(|number| *number > 0) else {
            continue;
        };
        let Some((key, found)) = translated(connection, table, raw)? else {
            continue;
        };
        if let Some(said) = visible.get(&key)
            && !noted.contains(&key)
            && is_another(layout, &key, said, &found)
        {
            numbers.set(table.declared.number, number, &new_id())?;
        }
    }
    Ok(())
}

fn is_another(layout: &Layout, key: &Key, said: &Row, found: &Row) -> bool {
    let is_telling =
        |name: &str, value: &Value| *value != Value::Null && value != layout.schema.default_of(&key.table, name);
    let mut telling = said.iter().filter(|(name, value)| is_telling(name, value)).peekable();
    telling.peek().is_some() && telling.all(|(name, value)| found.get(name) != Some(value))
}

/// Foreign keys that lead nowhere, although the schema declares them: this app does not enforce them.
pub(crate) fn unenforced(layout: &Layout, book: &Book) -> Vec<(String, String)> {
    let mut found = BTreeSet::new();
    let edited = book.state.unsent.iter();
    let edited = edited.filter_map(|(key, unsent)| Some((key, unsent.row.as_ref()?)));
    for (key, row) in edited.filter(|(key, _)| !book.outside.contains_key(*key)) {
        let references = layout
            .schema
            .tables
            .get(&key.table)
            .into_iter()
            .flat_map(|table| &table.references);
        for reference in references.filter(|reference| reference.on_delete != OnDelete::Dangle) {
            if let Some(parent) = layout.schema.parent(&key.table, row, reference)
                && book.state.current(&parent).is_none()
            {
                found.insert((key.table.clone(), reference.column.clone()));
            }
        }
    }
    found.into_iter().collect()
}
