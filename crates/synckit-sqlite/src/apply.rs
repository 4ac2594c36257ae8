//! Brings the app's tables to the state of the merge.
//!
//! Every row is written by its own statement, in the order of the merge's plan. A row that the database refuses waits outside its
//! table. The app's triggers run, so that its full-text indexes stay right; what they change in tracked rows is changed back, for
//! it comes through the log from the device where it was made.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, ErrorCode, config::DbConfig, params_from_iter};

use crate::{
    capture::{clear_notes, noted_rows},
    error::Error,
    inspect::catalog::quoted,
    layout::{KeyLayout, Layout, TableLayout},
    merge::{Key, Parked, Rules, Step, View, plan},
    rows::{Row, RowId, Value},
    shadow::{
        book::{BETWEEN, Book, HELD},
        files,
        numbers::Numbers,
        reader::{raw_rows, translated},
    },
    sql::{Bound, whole_value_of},
};

/// Where the log was read to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// To its end, and what is unsent was merged onto it.
    Head,
    /// Somewhere: rows that were edited here stay in their tables as they are, until they are merged.
    Between,
}

/// Writes what differs between the tables as they are, `before`, and the book. Returns the rows that changed.
pub(crate) fn apply(
    connection: &Connection,
    layout: &Layout,
    book: &mut Book,
    mut before: BTreeMap<Key, Row>,
    place: Place,
) -> Result<BTreeSet<Key>, Error> {
    if place == Place::Between && book.state.has_strangers() {
        // Rows of the log may be rows that are here already: that is known at its head.
        note_outside(layout, book, &before);
        return Ok(BTreeSet::new());
    }
    follow_renamed(connection, layout, book, &mut before)?;
    let mut writer = Writer::new(connection, layout, before);
    // What a table refused may have become possible.
    book.state.refused.clear();
    loop {
        let mut said = said(layout, book);
        if place == Place::Between {
            let edited = writer
                .present
                .iter()
                .filter(|(key, _)| book.state.unsent.contains_key(*key));
            let edited: Vec<(Key, Row)> = edited.map(|(key, row)| (key.clone(), row.clone())).collect();
            said.visible.extend(edited);
        }
        let refused = writer.write(&said)?;
        if refused.is_empty() {
            writer.undo_triggers(&said)?;
            break;
        }
        book.state.refused.extend(refused);
    }
    note_outside(layout, book, &writer.present);
    clear_notes(connection, layout)?;
    Ok(writer.changed)
}

/// The tables as they should be, with the columns that they have. A row whose deletion waits for a decision stays deleted.
fn said(layout: &Layout, book: &Book) -> View {
    let mut view = book.state.view(&layout.schema, Rules::ALL);
    view.visible
        .retain(|key, _| layout.tables.contains_key(&key.table) && !book.is_held(key));
    for (key, row) in &mut view.visible {
        *row = layout.known(&key.table, row);
    }
    view
}

/// Every row that is not in its table is outside, for whatever reason.
fn note_outside(layout: &Layout, book: &mut Book, present: &BTreeMap<Key, Row>) {
    let parked = book.state.view(&layout.schema, Rules::ALL).parked;
    let rows = book
        .state
        .rows()
        .into_keys()
        .filter(|key| layout.tables.contains_key(&key.table) && !present.contains_key(*key));
    let outside = rows.map(|key| {
        let why = match parked.get(key) {
            _ if book.is_held(key) => HELD.to_owned(),
            Some(Parked::Unique { by }) => format!("unique: {} {}", by.table, by.id),
            Some(Parked::Parent { missing }) => format!("parent: {} {}", missing.table, missing.id),
            Some(Parked::Refused { message }) => format!("refused: {message}"),
            None => BETWEEN.to_owned(),
        };
        (key.clone(), why)
    });
    book.outside = outside.collect();
}

/// Rows that became other ones: the table of their numbers, and their ids.
type Moved = BTreeMap<(i64, RowId), RowId>;

/// A row that became another one keeps its number, so that the app's references to it stay right: they lead to the other one.
fn follow_renamed(
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

/// A condition, and the values of its parameters.
pub(crate) type Condition = (String, Vec<Value>);

/// The tables while they are written.
pub(crate) struct Writer<'a> {
    connection: &'a Connection,
    layout: &'a Layout,
    /// The rows in the tables.
    present: BTreeMap<Key, Row>,
    /// The local columns of rows that are out of their table for a moment.
    taken: BTreeMap<Key, Vec<(String, Value)>>,
    changed: BTreeSet<Key>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(connection: &'a Connection, layout: &'a Layout, present: BTreeMap<Key, Row>) -> Self {
        let (taken, changed) = (BTreeMap::new(), BTreeSet::new());
        Self {
            connection,
            layout,
            present,
            taken,
            changed,
        }
    }

    /// Returns the rows that the database refused, and what it said.
    fn write(&mut self, said: &View) -> Result<BTreeMap<Key, String>, Error> {
        let differs = |key: &Key| self.present.get(key) != said.visible.get(key);
        let keys: BTreeSet<Key> = self
            .present
            .keys()
            .chain(said.visible.keys())
            .filter(|key| differs(key))
            .cloned()
            .collect();
        let found = only(&self.present, &keys);
        let there = View {
            visible: only(&said.visible, &keys),
            parked: BTreeMap::new(),
        };
        let mut refused = BTreeMap::new();
        for step in plan(&self.layout.schema, Rules::ALL, &found, &there) {
            match self.take(&step) {
                Ok(()) => {}
                Err(Error::Database(error)) if is_refusal(&error) && !self.connection.is_autocommit() => {
                    let (Step::Put(key, _) | Step::Delete(key) | Step::TakeOut(key)) = step;
                    refused.insert(key, error.to_string());
                }
                Err(error @ Error::NoFile(_)) => {
                    let (Step::Put(key, _) | Step::Delete(key) | Step::TakeOut(key)) = step;
                    refused.insert(key, error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        self.changed.extend(keys);
        Ok(refused)
    }

    fn take(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Delete(key) => self.delete(key),
            Step::TakeOut(key) => {
                let local = self.local_values(key)?;
                self.keep_files(key)?;
                self.taken.insert(key.clone(), local);
                self.delete(key)
            }
            Step::Put(key, row) => {
                if self.present.contains_key(key) {
                    self.update(key, row)?;
                } else {
                    self.insert(key, row)?;
                }
                self.present.insert(key.clone(), row.clone());
                Ok(())
            }
        }
    }

    /// Keeps the long values of a row that leaves its table, or is sent.
    pub(crate) fn keep_files(&self, key: &Key) -> Result<(), Error> {
        if !self.present.contains_key(key) {
            return Ok(());
        }
        let table = self.table(key)?;
        files::keep(self.connection, table, &self.place(table, key, 0)?)
    }

    fn table(&self, key: &Key) -> Result<&TableLayout, Error> {
        self.layout.tables.get(&key.table).ok_or(Error::Damaged)
    }

    fn delete(&mut self, key: &Key) -> Result<(), Error> {
        let table = self.table(key)?;
        let (condition, values) = self.place(table, key, 0)?;
        let sql = format!("DELETE FROM {} WHERE {condition}", quoted(&table.info.name));
        self.connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values.iter().map(Bound)))?;
        self.present.remove(key);
        Ok(())
    }

    pub(crate) fn update(&self, key: &Key, row: &Row) -> Result<(), Error> {
        let table = self.table(key)?;
        let before = self.present.get(key);
        let changed = row
            .iter()
            .filter(|(name, value)| before.and_then(|before| before.get(name)) != Some(*value));
        let (names, mut values): (Vec<&str>, Vec<Value>) = self.stored(table, changed)?.into_iter().unzip();
        if names.is_empty() {
            return Ok(());
        }
        let sets: Vec<String> = names.iter().map(|name| format!("{} = ?", quoted(name))).collect();
        let (condition, place) = self.place(table, key, names.len())?;
        values.extend(place);
        let sql = format!(
            "UPDATE {} SET {} WHERE {condition}",
            quoted(&table.info.name),
            sets.join(", ")
        );
        self.connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values.iter().map(Bound)))?;
        Ok(())
    }

    fn insert(&mut self, key: &Key, row: &Row) -> Result<(), Error> {
        let local = self.taken.remove(key).unwrap_or_default();
        let table = self.table(key)?;
        let mut columns: Vec<(String, Value)> = self
            .stored(table, row.iter())?
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        columns.extend(local);
        if let KeyLayout::Mapped(column) = &table.key {
            let rows = Some((table.info.name.as_str(), column.as_str()));
            let number = Numbers(self.connection).number_or_new(table.declared.number, rows, &key.id)?;
            columns.push((column.clone(), Value::Integer(number)));
        }
        let names: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
        let places = vec!["?"; columns.len()].join(", ");
        let sql = match names.is_empty() {
            true => format!("INSERT INTO {} DEFAULT VALUES", quoted(&table.info.name)),
            false => format!(
                "INSERT INTO {} ({}) VALUES ({places})",
                quoted(&table.info.name),
                names.join(", ")
            ),
        };
        let values = columns.iter().map(|(_, value)| Bound(value));
        self.connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))?;
        Ok(())
    }

    /// Values as this file stores them: numbers in the place of rows.
    fn stored<'r>(
        &self,
        table: &TableLayout,
        row: impl Iterator<Item = (&'r str, &'r Value)>,
    ) -> Result<Vec<(&'r str, Value)>, Error> {
        let mut stored = Vec::new();
        for (name, value) in row {
            let column = table.columns.iter().find(|column| column.name == name);
            let parent = column.and_then(|column| column.numbers_of);
            let value = match (value, parent) {
                (Value::Row(id), Some(parent)) => self.number(parent, id)?,
                (Value::Row(id), None) => Value::text(id.as_str()),
                (Value::File(file), _) => files::bytes(self.connection, file)?.ok_or(Error::NoFile(file.hash))?,
                (value, _) => value.clone(),
            };
            stored.push((name, value));
        }
        Ok(stored)
    }

    fn number(&self, parent: i64, id: &RowId) -> Result<Value, Error> {
        let table = self
            .layout
            .tables
            .values()
            .find(|table| table.declared.number == parent);
        let rows = table.and_then(|table| match &table.key {
            KeyLayout::Mapped(column) => Some((table.info.name.as_str(), column.as_str())),
            _ => None,
        });
        Ok(Value::Integer(
            Numbers(self.connection).number_or_new(parent, rows, id)?,
        ))
    }

    /// Where a row of the table is, after so many other parameters.
    fn place(&self, table: &TableLayout, key: &Key, others: usize) -> Result<Condition, Error> {
        let names = match &table.key {
            KeyLayout::Mapped(column) => {
                let number = Numbers(self.connection).number(table.declared.number, &key.id)?;
                return Ok((
                    format!("{} = ?{}", quoted(column), others + 1),
                    vec![number.map_or(Value::Null, Value::Integer)],
                ));
            }
            KeyLayout::Columns(columns) => columns.clone(),
            KeyLayout::WholeRow => table.names(),
        };
        let row = self.present.get(key).ok_or(Error::Damaged)?;
        let values = row
            .iter()
            .filter(|(name, value)| names.iter().any(|known| known == name) && !matches!(value, Value::File(_)));
        let (names, values): (Vec<&str>, Vec<Value>) = self.stored(table, values)?.into_iter().unzip();
        // The first comparison finds the row by its index, the second one is exact.
        let conditions: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(place, name)| {
                format!(
                    "{0} IS ?{1} AND {0} COLLATE BINARY IS ?{1}",
                    quoted(name),
                    others + place + 1
                )
            })
            .collect();
        let all = if conditions.is_empty() {
            "1".to_owned()
        } else {
            conditions.join(" AND ")
        };
        Ok((all, values))
    }

    fn local_values(&self, key: &Key) -> Result<Vec<(String, Value)>, Error> {
        let table = self.table(key)?;
        let is_local = |name: &str| {
            table
                .declared
                .local
                .iter()
                .any(|local| local.eq_ignore_ascii_case(name))
        };
        let local = table
            .info
            .columns
            .iter()
            .filter(|column| !column.is_generated && is_local(&column.name));
        let names: Vec<String> = local.map(|column| column.name.clone()).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let (condition, values) = self.place(table, key, 0)?;
        let list: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {condition}",
            list.join(", "),
            quoted(&table.info.name)
        );
        let mut select = self.connection.prepare_cached(&sql)?;
        Ok(select.query_row(params_from_iter(values.iter().map(Bound)), |row| {
            let values = names.iter().enumerate();
            values
                .map(|(place, name)| Ok((name.clone(), whole_value_of(row.get_ref(place)?))))
                .collect()
        })?)
    }

    /// Sets what the app's triggers wrote back to what the merge said. Triggers are off meanwhile.
    fn undo_triggers(&mut self, said: &View) -> Result<(), Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name NOT LIKE 'synckit!_%' ESCAPE '!')";
        if !self.connection.query_row(sql, [], |row| row.get::<_, bool>(0))? {
            return Ok(());
        }
        for table in self.layout.tables.values() {
            let noted = noted_rows(self.connection, table)?;
            let (keys, rows) = match noted.is_dirty {
                false => (noted.keys, noted.rows),
                true => {
                    let mut rows = BTreeMap::new();
                    for raw in raw_rows(self.connection, table, "1", &[])? {
                        rows.extend(translated(self.connection, table, raw)?);
                    }
                    let keys = self
                        .present
                        .keys()
                        .filter(|key| key.table == table.declared.name)
                        .cloned();
                    (keys.chain(rows.keys().cloned()).collect(), rows)
                }
            };
            for key in keys.into_iter().chain(rows.keys().cloned().collect::<Vec<_>>()) {
                match rows.get(&key) {
                    Some(row) => self.present.insert(key, self.layout.known(&table.declared.name, row)),
                    None => self.present.remove(&key),
                };
            }
        }
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        let refused = self.write(said);
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true)?;
        // What was written a moment ago is not refused now, unless a trigger keeps it so: then it stays as the trigger has it.
        refused.map(drop)
    }
}

fn only(rows: &BTreeMap<Key, Row>, keys: &BTreeSet<Key>) -> BTreeMap<Key, Row> {
    keys.iter()
        .filter_map(|key| Some((key.clone(), rows.get(key)?.clone())))
        .collect()
}

fn is_refusal(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig | ErrorCode::Unknown)
    )
}
