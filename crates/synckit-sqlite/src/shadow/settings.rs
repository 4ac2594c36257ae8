//! Single facts that the file keeps.

use rusqlite::{Connection, OptionalExtension as _, Result, ToSql, types::FromSql};

/// The cursor of the log.
pub(crate) const CURSOR: &str = "cursor";
/// The user whose log it is.
pub(crate) const USER: &str = "user";
/// The id of the batch in the outbox.
pub(crate) const BATCH: &str = "batch";
/// What the user agreed to, until it is done.
pub(crate) const AGREED: &str = "agreed";
/// Up to where the log is the one that is gone, after a rejoin.
pub(crate) const IN_BOTH: &str = "in_both";
/// The edition of the book.
pub(crate) const EDITION: &str = "edition";
/// The version of the schema at the last look.
pub(crate) const SCHEMA_VERSION: &str = "schema_version";

pub(crate) fn read<T: FromSql>(connection: &Connection, name: &str) -> Result<Option<T>> {
    let mut find = connection.prepare_cached("SELECT value FROM synckit_state WHERE name = ?1")?;
    find.query_row([name], |row| row.get(0)).optional()
}

pub(crate) fn write(connection: &Connection, name: &str, value: impl ToSql) -> Result<()> {
    let sql = "INSERT INTO synckit_state (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2";
    connection.prepare_cached(sql)?.execute((name, value))?;
    Ok(())
}

pub(crate) fn clear(connection: &Connection, name: &str) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM synckit_state WHERE name = ?1")?
        .execute([name])?;
    Ok(())
}
