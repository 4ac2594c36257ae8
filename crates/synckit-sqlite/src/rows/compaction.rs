//! The history of a log as one entry for each row: `docs/rows.md`, section 5.
//!
//! Invariant: whoever reads the compacted entries after any beginning of the history has what a reader of the whole history has:
//! rows, deletions, and the times of all columns. So nothing here may depend on a table, which only a device has: values stay as they
//! were written, and columns that this device does not know stay with their row. An entry that is no row by `docs/rows.md` may be
//! one for a newer version of it: it stays, and so does what follows it in its row.

use std::collections::{BTreeMap, HashMap};

use synckit_crypto::{
    batch::{ChangeEntry, Timestamp},
    snapshot::PartBody,
};

use super::{
    change::{Row, RowChange, RowOp, Since},
    row_id::RowId,
    value::Value,
};

/// Entries of a log, in their order, on the way to a snapshot.
///
/// # Examples
/// ```
/// use synckit_sqlite::rows::{Compaction, Row, RowChange, RowId, RowOp, Value};
///
/// let change = |title: &str| RowChange {
///     table: "tasks".into(),
///     id: RowId::new("1"),
///     time: Default::default(),
///     op: RowOp::Update(Row::from_iter([("title", Value::text(title))])),
/// };
/// let compaction = Compaction::default().read(vec![change("Milk").to_entry(), change("Oat milk").to_entry()]);
/// assert_eq!(compaction.entries().len(), 1);
/// ```
#[derive(Debug, Default)]
pub struct Compaction {
    rows: HashMap<(String, String), Kept>,
    /// How many entries were read.
    read: u64,
}

/// What is kept of a row.
#[derive(Debug, Default)]
struct Kept {
    /// The place of its last entry.
    place: u64,
    last: Option<Last>,
    /// The first entry that is unreadable, and all after it.
    verbatim: Vec<ChangeEntry>,
}

/// A row after its last entry.
#[derive(Debug)]
struct Last {
    /// `None` if it was deleted.
    row: Option<Row>,
    time: Timestamp,
    /// Of the columns that did not change with the last entry.
    since: BTreeMap<String, Since>,
}

impl Compaction {
    /// Takes the next entries of the log, or entries of a snapshot.
    #[must_use]
    pub fn read(mut self, entries: Vec<ChangeEntry>) -> Self {
        for entry in entries {
            let name = (entry.table.clone(), entry.row_id.clone());
            let kept = self.rows.entry(name).or_default();
            kept.place = self.read;
            self.read += 1;
            match RowChange::from_entry(&entry) {
                Ok(change) if kept.verbatim.is_empty() => kept.last = Some(Last::after(kept.last.take(), change)),
                _ => kept.verbatim.push(entry),
            }
        }
        self
    }

    /// The entries of a snapshot, in the order of the last entries of their rows.
    pub fn entries(self) -> Vec<ChangeEntry> {
        let mut rows: Vec<((String, String), Kept)> = self.rows.into_iter().collect();
        rows.sort_unstable_by_key(|(_, kept)| kept.place);
        let mut entries = Vec::with_capacity(rows.len());
        for ((table, row_id), kept) in rows {
            let id = RowId::new(row_id);
            entries.extend(kept.last.into_iter().flat_map(|last| last.entries(&table, &id)));
            entries.extend(kept.verbatim);
        }
        entries
    }
}

impl Last {
    fn after(before: Option<Self>, RowChange { time, op, .. }: RowChange) -> Self {
        let (row, since) = match op {
            RowOp::Delete => (None, BTreeMap::new()),
            RowOp::Whole(row, since) => (Some(row), since),
            RowOp::Insert(row) | RowOp::Update(row) => match before {
                Some(before) if before.row.is_some() => before.edited(row, time),
                _ => (Some(row), BTreeMap::new()),
            },
        };
        Self { row, time, since }
    }

    /// The row after an edit: a column that the entry lacks was unknown to its writer, and stays.
    fn edited(mut self, mut row: Row, time: Timestamp) -> (Option<Row>, BTreeMap<String, Since>) {
        let before = self.row.take().unwrap_or_default();
        for (column, value) in before.iter() {
            if row.get(column).is_none() {
                row.set(column, value.clone());
            }
        }
        let mut since = BTreeMap::new();
        for (column, value) in row.iter() {
            let at = match before.get(column) {
                None => Since::Added(time),
                Some(old) if old == value => self.since.get(column).copied().unwrap_or(Since::Changed(self.time)),
                Some(_) => Since::Changed(time),
            };
            if at != Since::Changed(time) {
                since.insert(column.to_owned(), at);
            }
        }
        (Some(row), since)
    }

    fn entries(self, table: &str, id: &RowId) -> Vec<ChangeEntry> {
        let entry = |time, op| {
            let (table, id) = (table.to_owned(), id.clone());
            RowChange { table, id, time, op }.to_entry()
        };
        let Some(row) = self.row else {
            return vec![entry(self.time, RowOp::Delete)];
        };
        let whole = entry(self.time, RowOp::Whole(row.clone(), self.since.clone()));
        if PartBody::row_len_max(&whole).is_ok() {
            return vec![whole];
        }
        // Two versions of an app have written more columns than fit one entry. Their times are kept but for what is in the default.
        let at = |column: &str| match self.since.get(column) {
            None => self.time,
            Some(Since::Changed(time) | Since::Added(time)) => *time,
        };
        let mut columns: Vec<_> = row.iter().map(|(column, value)| (at(column), column, value)).collect();
        columns.sort_by_key(|(time, ..)| *time);
        let columns = columns.into_iter();
        let one = |(time, column, value): (_, &str, &Value)| {
            entry(time, RowOp::Update(Row::from_iter([(column, value.clone())])))
        };
        let mut entries = vec![entry(self.time, RowOp::Delete)];
        entries.extend(columns.map(one));
        // The time of the row.
        entries.push(entry(self.time, RowOp::Update(Row::new())));
        entries
    }
}
