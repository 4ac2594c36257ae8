//! What this device knows, in memory while a transaction works on it.

use std::collections::BTreeMap;

use rusqlite::{Connection, Result, types::Value as SqlValue};
use serde::Serialize as _;
use serde_json::{Map, Value as Json, json};
use synckit_crypto::batch::Timestamp;

use super::{edition, files, settings};
use crate::{
    error::Error,
    layout::Layout,
    merge::{Base, Conflict, Folded, Key, Outbox, State, Unsent},
    rows::{Row, RowChange, RowId, RowOp},
};

/// Why a row is not in its table, when its deletion waits for the app's decision.
pub(crate) const HELD: &str = "held";

/// Why a row is not in its table, when nothing but the next step is in its way.
pub(crate) const BETWEEN: &str = "between";

/// The state of the merge, and which rows are not in their tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    pub(crate) state: State,
    /// Rows that are not in their tables, and why.
    pub(crate) outside: BTreeMap<Key, String>,
    /// What the file says as long as no other process saved its book.
    edition: Option<i64>,
}

impl Book {
    /// The rows in the tables, with the columns that this device has.
    pub(crate) fn visible(&self, layout: &Layout) -> BTreeMap<Key, Row> {
        let rows = self.state.rows();
        let inside = rows.filter(|(key, _)| !self.outside.contains_key(*key) && layout.tables.contains_key(&key.table));
        inside
            .map(|(key, row)| (key.clone(), layout.known(&key.table, row)))
            .collect()
    }

    /// A row, if it is in its table.
    pub(crate) fn visible_row(&self, layout: &Layout, key: &Key) -> Option<Row> {
        let is_inside = !self.outside.contains_key(key) && layout.tables.contains_key(&key.table);
        let row = self.state.current(key).filter(|_| is_inside)?;
        Some(layout.known(&key.table, row))
    }

    /// Brings one of the rows in the tables up to date.
    pub(crate) fn look_again(&self, layout: &Layout, key: Key, visible: &mut BTreeMap<Key, Row>) {
        match self.visible_row(layout, &key) {
            Some(row) => visible.insert(key, row),
            None => visible.remove(&key),
        };
    }

    pub(crate) fn is_held(&self, key: &Key) -> bool {
        self.outside.get(key).is_some_and(|why| why == HELD)
    }

    /// Whether the file has nothing else.
    pub(crate) fn is_current(&self, connection: &Connection) -> Result<bool, Error> {
        Ok(self.edition.is_some() && self.edition == edition::read(connection)?)
    }

    pub(crate) fn load(connection: &Connection) -> Result<Self, Error> {
        let mut book = Self::default();
        let mut select = connection.prepare_cached("SELECT tbl, id, row, time, changed FROM synckit_fold")?;
        let mut rows = select.query([])?;
        while let Some(found) = rows.next()? {
            let time = Timestamp::from_micros(found.get(3)?);
            let row = row_of(found.get(2)?)?;
            let changed = changed_of(row.as_ref(), time, found.get(4)?)?;
            book.state.fold.insert(key_of(found)?, Folded { row, time, changed });
        }
        let mut select = connection.prepare_cached("SELECT tbl, id, row, base, time, changed FROM synckit_unsent")?;
        let mut rows = select.query([])?;
        while let Some(found) = rows.next()? {
            let base = match found.get(3)? {
                SqlValue::Blob(bytes) => Base::Row(row_of(Some(bytes))?.ok_or(Error::Damaged)?),
                SqlValue::Null => Base::Nothing,
                SqlValue::Integer(both) => Base::Unknown(Timestamp::from_micros(both)),
                _ => return Err(Error::Damaged),
            };
            let time = Timestamp::from_micros(found.get(4)?);
            let row = row_of(found.get(2)?)?;
            let changed = changed_of(row.as_ref(), time, found.get(5)?)?;
            let unsent = Unsent {
                row,
                base,
                time,
                changed,
            };
            book.state.unsent.insert(key_of(found)?, unsent);
        }
        let mut select = connection.prepare_cached("SELECT tbl, id, why FROM synckit_parked")?;
        let mut rows = select.query([])?;
        while let Some(found) = rows.next()? {
            book.outside.insert(key_of(found)?, found.get(2)?);
        }
        book.state.outbox = outbox(connection)?;
        book.state.fold.settle();
        book.state.unsent.settle();
        book.edition = edition::read(connection)?;
        Ok(book)
    }

    /// Writes what was touched since the book was kept, and says so to other processes.
    pub(crate) fn save(&mut self, connection: &Connection, before: &Kept, now: Timestamp) -> Result<(), Error> {
        let is_touched = self.state.fold.touched().next().is_some()
            || self.state.unsent.touched().next().is_some()
            || before.outside != self.outside
            || before.outbox != self.state.outbox
            || !self.state.conflicts.is_empty();
        if !is_touched {
            return Ok(());
        }
        for (key, folded) in self.state.fold.touched() {
            save_folded(connection, key, folded)?;
        }
        for (key, unsent) in self.state.unsent.touched() {
            save_unsent(connection, key, unsent)?;
        }
        for (key, why) in changed(&before.outside, &self.outside) {
            save_outside(connection, key, why)?;
        }
        if before.outbox != self.state.outbox {
            save_outbox(connection, self.state.outbox.as_ref())?;
        }
        for Conflict { key, lost } in std::mem::take(&mut self.state.conflicts) {
            // No number is given twice: an app may still show a conflict that was forgotten.
            let number = settings::read(connection, settings::CONFLICTS)?
                .unwrap_or(0_i64)
                .saturating_add(1);
            settings::write(connection, settings::CONFLICTS, number)?;
            let sql = "INSERT INTO synckit_conflicts (n, tbl, id, lost, time, whole) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            connection.prepare_cached(sql)?.execute((
                number,
                &key.table,
                key.id.as_str(),
                bytes_of(&lost)?,
                now.as_micros(),
                self.state.current(&key).is_none(),
            ))?;
            files::keep_lost(connection, number, &lost)?;
        }
        self.state.fold.settle();
        self.state.unsent.settle();
        self.edition = edition::renew(connection)?;
        Ok(())
    }

    /// What is compared when the book is saved. The other parts know what was touched.
    pub(crate) fn kept(&self) -> Kept {
        Kept {
            outside: self.outside.clone(),
            outbox: self.state.outbox.clone(),
        }
    }
}

/// Parts of a book as they were loaded.
#[derive(Debug)]
pub(crate) struct Kept {
    outside: BTreeMap<Key, String>,
    outbox: Option<Outbox>,
}

fn remove(connection: &Connection, table: &str, key: &Key) -> Result<(), Error> {
    let sql = format!("DELETE FROM {table} WHERE tbl = ?1 AND id = ?2");
    connection
        .prepare_cached(&sql)?
        .execute((&key.table, key.id.as_str()))?;
    Ok(())
}

fn save_folded(connection: &Connection, key: &Key, folded: Option<&Folded>) -> Result<(), Error> {
    let Some(folded) = folded else {
        return remove(connection, "synckit_fold", key);
    };
    let sql = "INSERT OR REPLACE INTO synckit_fold (tbl, id, row, time, changed) VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.prepare_cached(sql)?.execute((
        &key.table,
        key.id.as_str(),
        folded.row.as_ref().map(bytes_of).transpose()?,
        folded.time.as_micros(),
        changed_text(&folded.changed, folded.time),
    ))?;
    Ok(())
}

fn save_unsent(connection: &Connection, key: &Key, unsent: Option<&Unsent>) -> Result<(), Error> {
    let Some(unsent) = unsent else {
        return remove(connection, "synckit_unsent", key);
    };
    let base = match &unsent.base {
        Base::Nothing => SqlValue::Null,
        Base::Unknown(both) => SqlValue::Integer(both.as_micros()),
        Base::Row(row) => SqlValue::Blob(bytes_of(row)?),
    };
    let sql =
        "INSERT OR REPLACE INTO synckit_unsent (tbl, id, row, base, time, changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(sql)?.execute((
        &key.table,
        key.id.as_str(),
        unsent.row.as_ref().map(bytes_of).transpose()?,
        base,
        unsent.time.as_micros(),
        changed_text(&unsent.changed, unsent.time),
    ))?;
    Ok(())
}

fn save_outside(connection: &Connection, key: &Key, why: Option<&String>) -> Result<(), Error> {
    let Some(why) = why else {
        return remove(connection, "synckit_parked", key);
    };
    let sql = "INSERT OR REPLACE INTO synckit_parked (tbl, id, why) VALUES (?1, ?2, ?3)";
    connection
        .prepare_cached(sql)?
        .execute((&key.table, key.id.as_str(), why))?;
    Ok(())
}

/// The entries that were added, replaced or removed.
fn changed<'a, V: PartialEq>(
    before: &'a BTreeMap<Key, V>,
    after: &'a BTreeMap<Key, V>,
) -> impl Iterator<Item = (&'a Key, Option<&'a V>)> {
    let put = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    put.map(|(key, value)| (key, Some(value)))
        .chain(gone.map(|key| (key, None)))
}

fn outbox(connection: &Connection) -> Result<Option<Outbox>, Error> {
    let Some(id) = settings::read::<String>(connection, settings::BATCH)? else {
        return Ok(None);
    };
    let mut select = connection.prepare_cached("SELECT tbl, id, row, time, op FROM synckit_outbox ORDER BY n")?;
    let mut rows = select.query([])?;
    let mut changes = Vec::new();
    while let Some(found) = rows.next()? {
        let Key { table, id } = key_of(found)?;
        let row = row_of(found.get(2)?)?;
        let op = match (found.get::<_, String>(4)?.as_str(), row) {
            ("insert", Some(row)) => RowOp::Insert(row),
            ("update", Some(row)) => RowOp::Update(row),
            ("delete", None) => RowOp::Delete,
            _ => return Err(Error::Damaged),
        };
        let time = Timestamp::from_micros(found.get(3)?);
        changes.push(RowChange { table, id, time, op });
    }
    let id = id.parse().map_err(|_| Error::Damaged)?;
    Ok(Some(Outbox { id, changes }))
}

fn save_outbox(connection: &Connection, outbox: Option<&Outbox>) -> Result<(), Error> {
    connection.execute("DELETE FROM synckit_outbox", [])?;
    let Some(outbox) = outbox else {
        return Ok(settings::clear(connection, settings::BATCH)?);
    };
    settings::write(connection, settings::BATCH, outbox.id.to_string())?;
    let sql = "INSERT INTO synckit_outbox (tbl, id, row, time, op) VALUES (?1, ?2, ?3, ?4, ?5)";
    for change in &outbox.changes {
        let op = match change.op {
            RowOp::Insert(_) => "insert",
            // A device sends edits; whole rows are of snapshots.
            RowOp::Update(_) | RowOp::Whole(..) => "update",
            RowOp::Delete => "delete",
        };
        let row = change.op.row().map(bytes_of).transpose()?;
        connection.prepare_cached(sql)?.execute((
            &change.table,
            change.id.as_str(),
            row,
            change.time.as_micros(),
            op,
        ))?;
    }
    Ok(())
}

fn key_of(found: &rusqlite::Row<'_>) -> Result<Key> {
    let id: String = found.get(1)?;
    Ok(Key {
        table: found.get(0)?,
        id: RowId::new(id),
    })
}

/// CBOR, because numbers keep every bit in it.
fn bytes_of(row: &Row) -> Result<Vec<u8>, Error> {
    let mut bytes = minicbor_serde::Serializer::new(Vec::new());
    bytes.serialize_unit_as_null(true);
    row.to_json().serialize(&mut bytes).map_err(|_| Error::Damaged)?;
    Ok(bytes.into_encoder().into_writer())
}

pub(crate) fn row_of(bytes: Option<Vec<u8>>) -> Result<Option<Row>, Error> {
    let Some(bytes) = bytes else { return Ok(None) };
    let json: Json = minicbor_serde::from_slice(&bytes).map_err(|_| Error::Damaged)?;
    Row::from_json(Some(&json)).map(Some).map_err(|_| Error::Damaged)
}

/// The times of columns that did not change with the last entry or edit.
fn changed_text(changed: &BTreeMap<String, Timestamp>, last: Timestamp) -> Option<String> {
    let older = changed.iter().filter(|(_, time)| **time != last);
    let older: Map<String, Json> = older
        .map(|(column, time)| (column.clone(), json!(time.as_micros())))
        .collect();
    (!older.is_empty()).then(|| Json::Object(older).to_string())
}

fn changed_of(row: Option<&Row>, time: Timestamp, text: Option<String>) -> Result<BTreeMap<String, Timestamp>, Error> {
    let mut changed: BTreeMap<String, Timestamp> = row
        .into_iter()
        .flat_map(Row::iter)
        .map(|(column, _)| (column.to_owned(), time))
        .collect();
    if let Some(text) = text {
        let older: BTreeMap<String, i64> = serde_json::from_str(&text).map_err(|_| Error::Damaged)?;
        changed.extend(
            older
                .into_iter()
                .map(|(column, time)| (column, Timestamp::from_micros(time))),
        );
    }
    Ok(changed)
}
