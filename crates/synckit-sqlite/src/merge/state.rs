//! What a device knows: the fold of the log, its own unsent edits, and the values that lost.

use std::{cmp::Ordering, collections::BTreeMap, iter};

use synckit_crypto::batch::Timestamp;
use synckit_protocol::BatchId;

use super::{ledger::Ledger, schema::Schema};
use crate::rows::{Row, RowChange, RowId};

/// A row: its table's name in the log, and its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The table.
    pub table: String,
    /// The row.
    pub id: RowId,
}

/// A row in the fold of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The row as this device's columns store it; `None` if it was deleted.
    pub row: Option<Row>,
    /// The time of its last entry.
    pub time: Timestamp,
    /// When each column last changed.
    pub changed: BTreeMap<String, Timestamp>,
}

/// An edit that is not in the log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// The row as it is here, with columns that this device does not know; `None` if it was deleted.
    pub row: Option<Row>,
    /// What the edit began with.
    pub base: Base,
    /// When it was edited.
    pub time: Timestamp,
    /// When each column last changed, in the log or here; what is missing: when the row was edited.
    pub changed: BTreeMap<String, Timestamp>,
}

/// What an edit began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// No row.
    Nothing,
    /// This row.
    Row(Row),
    /// It is not known any more: the log that had it is gone. What was in both logs, that one and the present one, is not later than
    /// this.
    Unknown(Timestamp),
}

/// A batch that is being sent. Its id and its rows never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    /// The id of the batch.
    pub id: BatchId,
    /// Its entries.
    pub changes: Vec<RowChange>,
}

/// Values that a merge did not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The row that they belonged to.
    pub key: Key,
    /// The values; for a row that is gone, all of it.
    pub lost: Row,
}

/// What a device knows of the synced tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The state of the log as far as it was read.
    pub fold: Ledger<Folded>,
    /// The edits that are not in it.
    pub unsent: Ledger<Unsent>,
    /// The batch that is being sent.
    pub outbox: Option<Outbox>,
    /// The values that lost, oldest first.
    pub conflicts: Vec<Conflict>,
    /// Rows that became another row, oldest first: what they were, and what they are.
    pub renamed: Vec<(Key, Key)>,
    /// Rows that the database refuses as they are, and what it said.
    pub refused: BTreeMap<Key, String>,
    /// Edited rows that no batch can carry, or that the server refuses, and why. They are tried again when they are edited.
    pub unsendable: BTreeMap<Key, String>,
}

impl State {
    /// A row as the log has it.
    pub(super) fn folded(&self, key: &Key) -> Option<&Row> {
        self.fold.get(key)?.row.as_ref()
    }

    /// A row as it should be here.
    pub(crate) fn current(&self, key: &Key) -> Option<&Row> {
        match self.unsent.get(key) {
            Some(unsent) => unsent.row.as_ref(),
            None => self.folded(key),
        }
    }

    /// Every row as it should be here, those that wait outside their table included, in the order of their keys.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, &Row)> {
        let (mut fold, mut unsent) = (self.fold.iter().peekable(), self.unsent.iter().peekable());
        let all = iter::from_fn(move || {
            let order = match (fold.peek(), unsent.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((logged, _)), Some((edited, _))) => logged.cmp(edited),
            };
            let logged = fold
                .next_if(|_| order.is_le())
                .map(|(key, folded)| (key, folded.row.as_ref()));
            let edited = unsent
                .next_if(|_| order.is_ge())
                .map(|(key, unsent)| (key, unsent.row.as_ref()));
            edited.or(logged)
        });
        all.filter_map(|(key, row)| Some((key, row?)))
    }

    /// Whether a row is gone, in the log or by an unsent deletion; `false` for a row that was never heard of.
    pub(super) fn is_gone(&self, key: &Key) -> bool {
        let is_known = self.fold.contains_key(key) || self.unsent.contains_key(key);
        is_known && self.current(key).is_none()
    }

    /// The time of an edit: by the clock, and later than what it replaces.
    pub(super) fn time_of_edit(&self, key: &Key, clock: Timestamp) -> Timestamp {
        let before = self.fold.get(key).map(|folded| folded.time);
        let before = before.max(self.unsent.get(key).map(|unsent| unsent.time));
        before.map_or(clock, |before| clock.max(after(before)))
    }

    pub(super) fn lose(&mut self, key: &Key, lost: Row) {
        if lost.iter().next().is_some() {
            self.conflicts.push(Conflict { key: key.clone(), lost });
        }
    }

    /// Makes `row` the unsent state of a row, or nothing unsent if it is what the log has.
    pub(super) fn keep(&mut self, schema: &Schema, key: &Key, row: Option<Row>, time: Timestamp) {
        let logged = self.folded(key).cloned();
        if row == logged {
            self.unsent.remove(key);
        } else {
            let changed = self.times_of(schema, key, row.as_ref());
            let base = logged.map_or(Base::Nothing, Base::Row);
            let unsent = Unsent {
                row,
                base,
                time,
                changed,
            };
            self.unsent.insert(key.clone(), unsent);
        }
    }

    /// When the columns of a row got the values that the log or the unsent edit has. Others are left out.
    pub(super) fn times_of(&self, schema: &Schema, key: &Key, row: Option<&Row>) -> BTreeMap<String, Timestamp> {
        let logged = self.fold.get(key).map(|log| (log.row.as_ref(), &log.changed, log.time));
        let edited = self
            .unsent
            .get(key)
            .map(|edit| (edit.row.as_ref(), &edit.changed, edit.time));
        let columns = row.into_iter().flat_map(Row::iter).filter_map(|(column, value)| {
            let since = [logged, edited]
                .into_iter()
                .flatten()
                .filter_map(|(row, changed, time)| {
                    let row = row?;
                    let is_same = schema.value(&key.table, row, column) == value;
                    is_same.then(|| changed_at(row, changed, column, time))
                });
            Some((column.to_owned(), since.max()?))
        });
        columns.collect()
    }
}

/// Before every edit.
pub(super) const NEVER: Timestamp = Timestamp::from_micros(i64::MIN);

/// When a column of a row changed. One that the row does not have never did: neither does its default, which a migration of the app
/// gives to every row.
pub(super) fn changed_at(row: &Row, changed: &BTreeMap<String, Timestamp>, column: &str, last: Timestamp) -> Timestamp {
    match row.get(column) {
        None => NEVER,
        Some(_) => changed.get(column).copied().unwrap_or(last),
    }
}

/// The first time after another.
pub(super) fn after(time: Timestamp) -> Timestamp {
    Timestamp::from_micros(time.as_micros().saturating_add(1))
}
