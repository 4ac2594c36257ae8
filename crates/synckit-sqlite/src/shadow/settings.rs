//! Single facts that the file keeps.

use rusqlite::{Connection, OptionalExtension as _, Result, ToSql, types::FromSql};

/// The cursor of the log.
pub(crate) const CURSOR: &str = "cursor";
/// The user whose log it is.
pub(crate) const USER: &str = "user";
/// The id of the batch in the outbox.
pub(crate) const BATCH: &str = "batch";
/// The user agreed to go on with the history of a restored server, until that is done.
pub(crate) const RESTORED: &str = "restored";
/// The batch that the user agreed to skip, until a sync has ended well.
pub(crate) const SKIPPED: &str = "skipped";
/// The place of a batch that may be skipped by now, and of which only this device may have the rows.
pub(crate) const REJOIN_DUE: &str = "rejoin_due";
/// The history that the file has gone over to, after the last rejoin.
pub(crate) const HISTORY: &str = "history";
/// Up to where the log is the one that is gone, after a rejoin.
pub(crate) const IN_BOTH: &str = "in_both";
/// After a rejoin, until all are: the last file of a row that was uploaded again.
pub(crate) const UPLOADED: &str = "uploaded";
/// The number of the last conflict.
pub(crate) const CONFLICTS: &str = "conflicts";
/// The position of the newest snapshot that this file knows of.
pub(crate) const SNAPSHOT: &str = "snapshot";
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
