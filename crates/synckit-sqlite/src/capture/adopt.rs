//! Columns that the app's tables got since the last look: what newer versions of the app had put into them is in the book, and
//! goes into the tables before anything is compared.

use rusqlite::Connection;

use super::read;
use crate::{
    apply::Writer,
    error::Error,
    layout::{Layout, declared::Declared},
    shadow::book::Book,
    tracking::write_declared,
};

/// Values that the app has written there itself stay.
pub(crate) fn adopt_columns(connection: &Connection, layout: &Layout, book: &Book) -> Result<(), Error> {
    let visible = book.visible(layout);
    for table in layout.tables.values() {
        let names = table.names();
        let new: Vec<&String> = names
            .iter()
            .filter(|name| !table.declared.known.contains(name))
            .collect();
        if new.is_empty() {
            continue;
        }
        let rows = read(connection, table, "1", &[])?;
        let writer = Writer::new(connection, layout, rows.clone());
        for (key, row) in &rows {
            let Some(said) = visible.get(key) else { continue };
            let mut adopted = row.clone();
            for name in &new {
                let is_default = row.get(name) == Some(layout.schema.default_of(&key.table, name));
                if let (true, Some(value)) = (is_default, said.get(name)) {
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
