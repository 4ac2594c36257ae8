//! Values that lost: listed, shown, restored, forgotten.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _};
use synckit_client::{BlobTarget, Timestamp};

use crate::{
    apply::Writer,
    database::SyncedDatabase,
    error::Error,
    layout::Layout,
    merge::{Key, OnDelete},
    replica::{Replica, Work},
    rows::{Row, RowId},
    shadow::book::row_of,
};

/// Values that a merge did not keep: two devices changed a column of one row, or a row went with its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// What names it in [`SyncedDatabase::restore`] and [`SyncedDatabase::forget`].
    pub number: i64,
    /// The row's table.
    pub table: String,
    /// The row, as the log names it.
    pub id: RowId,
    /// When this device merged.
    pub at: Timestamp,
    /// The values that lost; of a row that is gone, all of them.
    pub lost: Row,
    /// The row as it is now, if it is in its table.
    pub now: Option<Row>,
}

impl SyncedDatabase {
    /// The values that lost on this device, oldest first.
    ///
    /// # Errors
    /// [`Error::NothingTracked`], [`Error::FileReplaced`], [`Error::Database`].
    pub async fn conflicts(&self) -> Result<Vec<Conflict>, Error> {
        self.with(Replica::conflicts).await
    }

    /// Puts values that lost back into their row, or a row that is gone into its table, as if the user had typed them: the next sync
    /// sends them. The conflict is then forgotten. Values of columns that the table does not have are left out.
    ///
    /// # Errors
    /// [`Error::NoConflict`]; [`Error::ParentGone`] if a row that it refers to is not there: restore that first;
    /// [`Error::Database`] if the table refuses the values; [`Error::Client`] if a long value must be downloaded, and cannot be.
    /// Nothing is changed then.
    pub async fn restore(&self, conflict: i64) -> Result<(), Error> {
        loop {
            match self.with(move |replica| replica.restore(conflict)).await {
                // Another device's value: the server has it.
                Err(Error::NoFile(hash)) => {
                    let mut bytes = Vec::new();
                    let target = BlobTarget::writer(&mut bytes);
                    self.0.client.blob_get(&hash, target, |_| {}).await?;
                    self.with(move |replica| replica.take_file(hash, &bytes)).await?;
                }
                restored => {
                    // No other connection has committed.
                    self.0.woken.notify_one();
                    return restored;
                }
            }
        }
    }

    /// Forgets one conflict. Returns whether there was one.
    ///
    /// # Errors
    /// [`Error::NothingTracked`], [`Error::FileReplaced`], [`Error::Database`].
    pub async fn forget(&self, conflict: i64) -> Result<bool, Error> {
        let forgotten = self.with(move |replica| replica.forget("n = ?1", conflict)).await?;
        Ok(forgotten > 0)
    }

    /// Forgets conflicts from before a time. Returns how many.
    ///
    /// # Errors
    /// [`Error::NothingTracked`], [`Error::FileReplaced`], [`Error::Database`].
    pub async fn forget_conflicts_before(&self, time: SystemTime) -> Result<usize, Error> {
        let time = Timestamp::from(time).as_micros();
        self.with(move |replica| replica.forget("time < ?1", time)).await
    }
}

/// A conflict as the file has it: its number, its row, the time, and what lost.
type Kept = (i64, Key, i64, Row);

fn kept(found: &rusqlite::Row<'_>) -> Result<Kept, Error> {
    let (table, id): (_, String) = (found.get(1)?, found.get(2)?);
    let id = RowId::new(id);
    let lost = row_of(Some(found.get(4)?))?.ok_or(Error::Damaged)?;
    Ok((found.get(0)?, Key { table, id }, found.get(3)?, lost))
}

fn find(connection: &Connection, number: i64) -> Result<(Key, Row), Error> {
    let sql = "SELECT n, tbl, id, time, lost FROM synckit_conflicts WHERE n = ?1";
    let mut select = connection.prepare_cached(sql)?;
    let found = select.query_row([number], |row| Ok(kept(row))).optional()?;
    let (_, key, _, lost) = found.ok_or(Error::NoConflict(number))??;
    Ok((key, lost))
}

impl Replica {
    fn conflicts(&mut self) -> Result<Vec<Conflict>, Error> {
        let work = self.begin()?;
        let mut all = Vec::new();
        {
            let sql = "SELECT n, tbl, id, time, lost FROM synckit_conflicts ORDER BY n";
            let mut select = work.transaction.prepare_cached(sql)?;
            let mut rows = select.query([])?;
            while let Some(found) = rows.next()? {
                let (number, key, time, lost) = kept(found)?;
                all.push(Conflict {
                    number,
                    at: Timestamp::from_micros(time),
                    lost,
                    now: work.book.visible_row(&work.layout, &key),
                    table: key.table,
                    id: key.id,
                });
            }
        }
        work.finish()?;
        Ok(all)
    }

    fn restore(&mut self, number: i64) -> Result<(), Error> {
        let work = self.begin()?;
        let (key, lost) = find(&work.transaction, number)?;
        let is_here = |column: &str| work.layout.schema.column(&key.table, column).is_some();
        let lost: Row = lost
            .iter()
            .filter(|(column, _)| is_here(column))
            .map(|(column, value)| (column, value.clone()))
            .collect();
        check_parents(&work, &key, &lost)?;
        let mut row = work.book.state.current(&key).cloned().unwrap_or_default();
        row = work.layout.known(&key.table, &row);
        for (column, value) in lost.iter() {
            row.set(column, value.clone());
        }
        work.finish_with_edit(|writer, connection| {
            write(writer, &key, &row)?;
            forget(connection, "n = ?1", number)?;
            Ok(())
        })
    }

    fn forget(&mut self, condition: &str, value: i64) -> Result<usize, Error> {
        let work = self.begin()?;
        let forgotten = forget(&work.transaction, condition, value)?;
        work.finish()?;
        Ok(forgotten)
    }
}

fn write(writer: &mut Writer<'_>, key: &Key, row: &Row) -> Result<(), Error> {
    if writer.has(key) {
        writer.update(key, row)
    } else {
        writer.insert(key, row)
    }
}

fn forget(connection: &Connection, condition: &str, value: i64) -> Result<usize, Error> {
    let sql = format!("DELETE FROM synckit_lost_files WHERE n IN (SELECT n FROM synckit_conflicts WHERE {condition})");
    connection.execute(&sql, [value])?;
    let sql = format!("DELETE FROM synckit_conflicts WHERE {condition}");
    Ok(connection.execute(&sql, [value])?)
}

/// A foreign key leads to a row that is there.
fn check_parents(work: &Work<'_>, key: &Key, lost: &Row) -> Result<(), Error> {
    let layout: &Layout = &work.layout;
    let enforced = layout.schema.references(&key.table).iter();
    for reference in enforced.filter(|reference| reference.on_delete != OnDelete::Dangle) {
        if lost.get(&reference.column).is_some()
            && let Some(parent) = layout.schema.parent(&key.table, lost, reference)
            && parent != *key
            && work.book.visible_row(layout, &parent).is_none()
        {
            return Err(Error::ParentGone {
                table: key.table.clone(),
                column: reference.column.clone(),
            });
        }
    }
    Ok(())
}
