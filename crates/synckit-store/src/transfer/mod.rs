//! Moving a whole database to the other engine.
//!
//! Tables are copied row by row in the order of their primary keys, a bounded number of rows in each transaction. The last
//! key of a table in the target is the place to go on from, so that a transfer that was killed is continued by the next
//! one. At the end both sides are compared row by row, and every chain of the copy is walked. Only then the target becomes a
//! database that a server opens.
//!
//! Nobody may use either side meanwhile. The comparison finds most writes of a server that does.
//!
//! Invariant: a server opens a target only if it is complete and equal to its source.

use self::{ends::End, tables::Table};
pub use self::{ends::TransferEnd, error::TransferError};
use crate::{StoreError, records::Column};

mod ends;
pub(crate) mod error;
pub(crate) mod tables;

/// What a transfer has copied and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transferred {
    /// Rows of every table in the target.
    pub rows: u64,
    /// Rows that this transfer copied; an earlier one that was interrupted copied the others.
    pub copied: u64,
    /// Batches whose chains and hashes were checked.
    pub batches: u64,
}

/// Copies a whole database into an empty one, or goes on with a copy that was interrupted. `finished` is told each table and
/// the number of its rows that were copied. Blocks its thread while it works on a file.
///
/// # Errors
/// [`TransferError`].
pub async fn transfer_database(
    from: TransferEnd<'_>,
    to: TransferEnd<'_>,
    mut finished: impl FnMut(&str, u64),
) -> Result<Transferred, TransferError> {
    let tables = tables::tables()?;
    let source = End::source(from).await?;
    let target = End::target(to).await?;
    check_source(&source, &target).await?;
    let mut done = Transferred::default();
    for table in &tables {
        let copied = copy(&source, &target, table).await?;
        done.copied = done.copied.saturating_add(copied);
        finished(&table.name, copied);
    }
    for table in &tables {
        done.rows = done.rows.saturating_add(compare(&source, &target, table).await?);
    }
    done.batches = check_logs(&target).await?;
    source.ensure_unused().await?;
    target.ensure_unused().await?;
    target.finish().await?;
    Ok(done)
}

/// Refuses a target into which another server's rows were copied. The row with its OPRF seed is the first that is copied, and
/// no two servers have the same seed.
async fn check_source(source: &End, target: &End) -> Result<(), TransferError> {
    let sql = "SELECT seed_id FROM server";
    let seed = async |end: &End| -> Result<Option<Vec<u8>>, StoreError> {
        let rows = end.rows(sql, &[]).await?;
        rows.first().map_or(Ok(None), |row| row.get(0))
    };
    match seed(target).await? {
        Some(begun) if Some(&begun) != seed(source).await?.as_ref() => Err(TransferError::OtherSource),
        _ => Ok(()),
    }
}

/// Walks every chain of a copy; returns the number of batches.
async fn check_logs(end: &End) -> Result<u64, TransferError> {
    let survey = end.survey_logs().await?;
    match survey.examples.first() {
        None => Ok(survey.batches),
        Some(found) => Err(TransferError::Damaged {
            stream: found.stream,
            seq: found.seq,
            damage: found.damage,
        }),
    }
}

/// Copies the rows of a table that the target lacks; returns their number.
async fn copy(source: &End, target: &End, table: &Table) -> Result<u64, TransferError> {
    let mut after = if table.is_one_row() {
        // The schema brings it along, with other values.
        target.rows(&format!("DELETE FROM {}", table.name), &[]).await?;
        None
    } else {
        let (sql, values) = table.last_key();
        let last = target.rows(sql, &values).await?;
        last.first().map(|row| row.columns().to_vec())
    };
    let mut copied: u64 = 0;
    loop {
        let (sql, values) = table.page(after.as_deref());
        let rows = source.rows(sql, &values).await?;
        let Some(last) = rows.last() else { return Ok(copied) };
        after = Some(table.key_of(last));
        copied = copied.saturating_add(rows.len() as u64);
        target.insert(table, &rows).await?;
    }
}

/// Compares a table; returns the number of its rows.
async fn compare(source: &End, target: &End, table: &Table) -> Result<u64, TransferError> {
    let mut after: Option<Vec<Column>> = None;
    let mut compared: u64 = 0;
    loop {
        let (sql, values) = table.page(after.as_deref());
        let (of_source, of_target) = (source.rows(sql, &values).await?, target.rows(sql, &values).await?);
        if of_source != of_target {
            return Err(TransferError::Different {
                table: table.name.clone(),
            });
        }
        let Some(last) = of_source.last() else {
            return Ok(compared);
        };
        compared = compared.saturating_add(of_source.len() as u64);
        after = Some(table.key_of(last));
    }
}
