//! Which edition of the book a file has: a number drawn with each change, so that a process knows whether what it has in memory is
//! what the file has. The app's own edits do not change the book.

use rusqlite::{Connection, Result};

use super::settings;

pub(crate) fn read(connection: &Connection) -> Result<Option<i64>> {
    settings::read(connection, settings::EDITION)
}

pub(crate) fn renew(connection: &Connection) -> Result<Option<i64>> {
    let drawn: i64 = connection
        .prepare_cached("SELECT random()")?
        .query_row([], |row| row.get(0))?;
    settings::write(connection, settings::EDITION, drawn)?;
    Ok(Some(drawn))
}
