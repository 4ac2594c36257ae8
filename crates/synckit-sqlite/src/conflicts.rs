//! Values that lost: listed, shown, restored, forgotten.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _};
use synckit_client::Timestamp;

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
    /// A row that went with its parent is restored after that, whose last values are a conflict as well.
    ///
    /// # Errors
    /// [`Error::NoConflict`]; [`Error::ParentGone`] if a row that it refers to is not there: restore that first;
    /// [`Error::RowGone`] if the row was deleted since, and only some of its values are here;
    /// [`Error::Database`] if the table refuses the values; [`Error::Client`] if a long value must be downloaded, and cannot be.
    /// Nothing is changed then.
    pub async fn restore(&self, conflict: i64) -> Result<(), Error> {
        let mut restored = self.with(move |replica| replica.restore(conflict)).await;
        if matches!(restored, Err(Error::NoFile(_))) {
            // The end of a sync forgets files that no row waits for.
            let _turn = self.0.turn.lock().await;
            while let Err(Error::NoFile(file)) = restored {
                // Another device's value: the server has it.
                let bytes = self.fetch(file).await?;
                self.with(move |replica| replica.take_file(file.hash, &bytes)).await?;
                restored = self.with(move |replica| replica.restore(conflict)).await;
            }
        }
        // No other connection has committed.
        self.0.woken.notify_one();
        restored
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

/// A conflict as the file has it.
struct Kept {
    number: i64,
    key: Key,
    time: i64,
    lost: Row,
    is_whole: bool,
}

const KEPT: &str = "SELECT n, tbl, id, time, lost, whole FROM synckit_conflicts";

fn kept(found: &rusqlite::Row<'_>) -> Result<Kept, Error> {
    let (table, id): (_, String) = (found.get(1)?, found.get(2)?);
    let id = RowId::new(id);
    Ok(Kept {
        number: found.get(0)?,
        key: Key { table, id },
        time: found.get(3)?,
        lost: row_of(Some(found.get(4)?))?.ok_or(Error::Damaged)?,
        is_whole: found.get(5)?,
    })
}

fn find(connection: &Connection, number: i64) -> Result<Kept, Error> {
    let mut select = connection.prepare_cached(&format!("{KEPT} WHERE n = ?1"))?;
    let found = select.query_row([number], |row| Ok(kept(row))).optional()?;
    found.ok_or(Error::NoConflict(number))?
}

impl Replica {
    fn conflicts(&mut self) -> Result<Vec<Conflict>, Error> {
        let work = self.begin()?;
        let mut all = Vec::new();
        {
            let mut select = work.transaction.prepare_cached(&format!("{KEPT} ORDER BY n"))?;
            let mut rows = select.query([])?;
            while let Some(found) = rows.next()? {
                let Kept {
                    number,
                    key,
                    time,
                    lost,
                    ..
                } = kept(found)?;
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
        let Kept {
            key, lost, is_whole, ..
        } = find(&work.transaction, number)?;
        let current = work.book.state.current(&key);
        if current.is_none() && !is_whole {
            return Err(Error::RowGone(number));
        }
        let is_here = |column: &str| work.layout.schema.column(&key.table, column).is_some();
        let lost: Row = lost
            .iter()
            .filter(|(column, _)| is_here(column))
            .map(|(column, value)| (column, value.clone()))
            .collect();
        let mut row = work.layout.known(&key.table, &current.cloned().unwrap_or_default());
        for (column, value) in lost.iter() {
            row.set(column, value.clone());
        }
        let is_here = work.book.visible_row(&work.layout, &key).is_some();
        check_parents(&work, &key, if is_here { &lost } else { &row })?;
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
fn check_parents(work: &Work<'_>, key: &Key, row: &Row) -> Result<(), Error> {
    let layout: &Layout = &work.layout;
    let enforced = layout.schema.references(&key.table).iter();
    for reference in enforced.filter(|reference| reference.on_delete != OnDelete::Dangle) {
        if row.get(&reference.column).is_some()
            && let Some(parent) = layout.schema.parent(&key.table, row, reference)
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
