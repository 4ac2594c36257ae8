//! Columns that the app's tables got since the last look: what newer versions of the app had put into them is in the book, and
//! goes into the tables before anything is compared.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::read;
use crate::{
    apply::Writer,
    error::Error,
    layout::{Layout, declared::Declared},
    merge::Key,
    rows::Row,
    shadow::book::Book,
    tracking::write_declared,
};

/// Values that the app has written there itself stay. The values of a column that was renamed are no such ones: they are what
/// the column was under its old name, and lose against what other devices have written under the new one since.
pub(crate) fn adopt_columns(connection: &Connection, layout: &Layout, book: &Book) -> Result<(), Error> {
    let said: BTreeMap<&Key, &Row> = book.state.rows().collect();
    for table in layout.tables.values() {
        let (names, known) = (table.names(), &table.declared.known);
        let new: Vec<&String> = names.iter().filter(|name| !known.contains(name)).collect();
        let dropped: Vec<&String> = known.iter().filter(|name| !names.contains(name)).collect();
        if new.is_empty() {
            continue;
        }
        let rows = read(connection, table, "1", &[])?;
        let writer = Writer::new(connection, layout, rows.clone());
        for (key, row) in &rows {
            let Some(said) = said.get(key).filter(|_| !book.outside.contains_key(key)) else {
                continue;
            };
            let mut adopted = row.clone();
            for name in &new {
                let here = row.get(name);
                let is_default = here == Some(layout.schema.default_of(&key.table, name));
                let is_renamed = || {
                    let mut old = dropped.iter().filter(|old| said.get(old) == here);
                    old.any(|old| !is_later(book, key, old, name))
                };
                if let Some(value) = said.get(name)
                    && (is_default || is_renamed())
                {
                    adopted.set(name.as_str(), value.clone());
                }
            }
            if adopted != *row {
                writer.update(key, &adopted)?;
            }
        }
        write_declared(
            connection,
            &Declared {
                known: names.clone(),
                ..table.declared.clone()
            },
        )?;
    }
    Ok(())
}

/// Whether a column of a row was edited later than another one.
fn is_later(book: &Book, key: &Key, column: &str, other: &str) -> bool {
    let folded = book.state.fold.get(key);
    let logged = folded.and_then(|folded| folded.row.as_ref()?.get(column));
    let unsent = book.state.unsent.get(key).and_then(|unsent| unsent.row.as_ref());
    let is_unsent = unsent.is_some_and(|row| row.get(column) != logged);
    let changed = |name: &str| folded.and_then(|folded| folded.changed.get(name));
    is_unsent || changed(column) > changed(other)
}
