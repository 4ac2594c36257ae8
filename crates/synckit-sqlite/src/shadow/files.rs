//! Long values, which are files in the log, while they are between the server and a table.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params_from_iter};
use synckit_crypto::blob::BlobHash;

use crate::{
    error::Error,
    inspect::catalog::quoted,
    layout::TableLayout,
    rows::{FileKind, FileValue, Row, Value},
    sql::{Bound, whole_value_of},
};

/// The value with its bytes, if they are here.
pub(crate) fn bytes(connection: &Connection, file: &FileValue) -> Result<Option<Value>, Error> {
    let bytes = read(connection, file.hash)?;
    Ok(bytes.map(|bytes| match file.kind {
        FileKind::Text => Value::Text(bytes),
        FileKind::Blob => Value::Blob(bytes),
    }))
}

pub(crate) fn has(connection: &Connection, hash: BlobHash) -> Result<bool, Error> {
    let mut find = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM synckit_files WHERE hash = ?1)")?;
    Ok(find.query_row([hash.to_string()], |row| row.get(0))?)
}

pub(crate) fn read(connection: &Connection, hash: BlobHash) -> Result<Option<Vec<u8>>, Error> {
    let mut find = connection.prepare_cached("SELECT bytes FROM synckit_files WHERE hash = ?1")?;
    Ok(find.query_row([hash.to_string()], |row| row.get(0)).optional()?)
}

pub(crate) fn write(connection: &Connection, hash: BlobHash, bytes: &[u8]) -> Result<(), Error> {
    let sql = "INSERT INTO synckit_files (hash, bytes) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute((hash.to_string(), bytes))?;
    Ok(())
}

/// Keeps the long values of a row that leaves its table.
pub(crate) fn keep(connection: &Connection, table: &TableLayout, place: &(String, Vec<Value>)) -> Result<(), Error> {
    let values = long_values(connection, table, place)?;
    values
        .iter()
        .try_for_each(|(hash, bytes)| write(connection, *hash, bytes))
}

/// The long values of a row that is in its table.
pub(crate) fn long_values(
    connection: &Connection,
    table: &TableLayout,
    (condition, values): &(String, Vec<Value>),
) -> Result<Vec<(BlobHash, Vec<u8>)>, Error> {
    let mut all = Vec::new();
    for name in table.names() {
        let (column, rows) = (quoted(&name), quoted(&table.info.name));
        let long = format!(
            "SELECT {column} FROM {rows} WHERE ({condition}) AND length(CAST({column} AS BLOB)) > {}",
            crate::rows::INLINE_BYTES_MAX
        );
        let mut select = connection.prepare_cached(&long)?;
        let found = select.query_map(params_from_iter(values.iter().map(Bound)), |row| {
            Ok(whole_value_of(row.get_ref(0)?))
        })?;
        for value in found {
            if let Value::Text(bytes) | Value::Blob(bytes) = value? {
                all.push((BlobHash::of(&bytes), bytes));
            }
        }
    }
    Ok(all)
}

/// Forgets the files, but some, and those of values that lost.
pub(crate) fn clear(connection: &Connection, kept: &BTreeSet<BlobHash>) -> Result<(), Error> {
    let kept: BTreeSet<String> = kept.iter().map(BlobHash::to_string).collect();
    let sql = "SELECT hash FROM synckit_files WHERE hash NOT IN (SELECT hash FROM synckit_lost_files)";
    let mut select = connection.prepare_cached(sql)?;
    let all: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for hash in all.iter().filter(|hash| !kept.contains(*hash)) {
        connection
            .prepare_cached("DELETE FROM synckit_files WHERE hash = ?1")?
            .execute([hash])?;
    }
    Ok(())
}

/// Keeps the long values of a conflict for as long as that is kept.
pub(crate) fn keep_lost(connection: &Connection, conflict: i64, lost: &Row) -> Result<(), Error> {
    let sql = "INSERT INTO synckit_lost_files (n, hash) SELECT ?1, hash FROM synckit_files WHERE hash = ?2 ON CONFLICT DO NOTHING";
    for (_, value) in lost.iter() {
        if let Value::File(file) = value {
            connection
                .prepare_cached(sql)?
                .execute((conflict, file.hash.to_string()))?;
        }
    }
    Ok(())
}
