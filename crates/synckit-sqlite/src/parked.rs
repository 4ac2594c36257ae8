//! Rows that wait, and what for.

use crate::{database::SyncedDatabase, error::Error, replica::Replica, rows::RowId, shadow::book::HELD};

/// A row that waits: outside its table, or to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParkedRow {
    /// Its table.
    pub table: String,
    /// The row, as the log names it.
    pub id: RowId,
    /// What it waits for, or what the table or the server said when it refused the row.
    pub why: String,
}

impl SyncedDatabase {
    /// The rows that [`SyncReport::parked`](crate::SyncReport::parked) and
    /// [`SyncReport::unsendable`](crate::SyncReport::unsendable) count: for support, and for those who want to know.
    ///
    /// Rows outside their table are tried again with each step of a sync, and rows that the server refused when they are edited, when
    /// the file is opened anew, and after a pause, as `docs/local-first.md` says. New rows that refer to such a row by a foreign key wait
    /// for it.
    ///
    /// # Errors
    /// [`Error::NothingTracked`], [`Error::FileReplaced`], [`Error::Database`].
    pub async fn parked(&self) -> Result<Vec<ParkedRow>, Error> {
        self.with(Replica::parked).await
    }
}

impl Replica {
    fn parked(&mut self) -> Result<Vec<ParkedRow>, Error> {
        let work = self.begin()?;
        let outside = work.book.outside.iter().filter(|(_, why)| *why != HELD);
        let kept_back = work.book.state.kept_back(&work.layout.schema);
        let kept_back = kept_back.into_iter().map(|(key, parent)| {
            let why = format!("parent: {} {}", parent.table, parent.id);
            (key, why)
        });
        let others = outside.chain(&work.book.state.unsendable);
        let others = others.map(|(key, why)| (key, why.clone()));
        let parked = others.chain(kept_back).map(|(key, why)| ParkedRow {
            table: key.table.clone(),
            id: key.id.clone(),
            why,
        });
        let parked = parked.collect();
        work.finish()?;
        Ok(parked)
    }
}
