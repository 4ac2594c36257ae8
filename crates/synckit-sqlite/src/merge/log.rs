//! Entries of the log become the fold, one after the other.

use std::collections::BTreeMap;

use synckit_crypto::batch::Timestamp;

use super::{
    rules::{Rule, Rules},
    schema::Schema,
    state::{Base, Folded, Key, NEVER, State, after, changed_at},
};
use crate::rows::{Row, RowChange, RowOp, Since};

/// What this device's columns store for the values of an entry.
pub type Image<'a> = &'a dyn Fn(&str, &Row) -> Row;

/// A batch of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its id.
    pub id: synckit_protocol::BatchId,
    /// Its entries.
    pub changes: Vec<RowChange>,
}

impl State {
    /// Reads the next batch of the log. The device's own batch is its acknowledgement: it is taken before anything is
    /// merged, so that an edit is not merged with itself.
    pub fn read(&mut self, schema: &Schema, rules: Rules, image: Image<'_>, batch: &Batch) {
        let is_own = self.outbox.as_ref().is_some_and(|outbox| outbox.id == batch.id);
        for change in &batch.changes {
            self.fold_in(schema, rules, image, change);
        }
        if is_own {
            self.outbox = None;
            if rules.hold(Rule::Outbox) {
                batch.changes.iter().for_each(|change| self.acknowledge(schema, change));
            }
        }
    }

    /// Puts one entry on top of the fold.
    pub fn fold_in(&mut self, schema: &Schema, rules: Rules, image: Image<'_>, change: &RowChange) {
        let key = Key {
            table: change.table.clone(),
            id: change.id.clone(),
        };
        let before = self.fold.remove(&key);
        let row = change.op.row().map(|row| {
            let row = if rules.hold(Rule::Images) {
                image(&key.table, row)
            } else {
                row.clone()
            };
            let kept = before.as_ref().and_then(|before| before.row.as_ref());
            match change.op {
                // A row of a snapshot has all columns, and may be another one than a row of the same id that was deleted since.
                RowOp::Whole(..) => row,
                _ if rules.hold(Rule::Columns) => with_absent(row, kept),
                _ => with_nulls(schema, &key.table, row),
            }
        });
        let changed = match (&change.op, &row) {
            (RowOp::Whole(_, since), Some(row)) => told(schema, &key.table, row, since, change.time),
            _ => changed(schema, &key.table, before.as_ref(), row.as_ref(), change.time),
        };
        self.fold.insert(
            key,
            Folded {
                row,
                time: change.time,
                changed,
            },
        );
    }

    /// The server has this change of ours: what was edited meanwhile was edited on top of it.
    fn acknowledge(&mut self, schema: &Schema, change: &RowChange) {
        let key = Key {
            table: change.table.clone(),
            id: change.id.clone(),
        };
        let sent = self.folded(&key).cloned();
        if let Some(mut unsent) = self.unsent.remove(&key)
            && unsent.row != sent
        {
            unsent.time = unsent.time.max(after(change.time));
            unsent.changed = self.times_of(schema, &key, unsent.row.as_ref());
            unsent.base = sent.map_or(Base::Nothing, Base::Row);
            self.unsent.insert(key, unsent);
        }
    }
}

/// A column that the entry lacks was unknown to its writer: it stays as it is.
fn with_absent(mut row: Row, before: Option<&Row>) -> Row {
    for (column, value) in before.into_iter().flat_map(Row::iter) {
        if row.get(column).is_none() {
            row.set(column, value.clone());
        }
    }
    row
}

/// What the rule is against: a column that the entry lacks is taken for NULL.
fn with_nulls(schema: &Schema, table: &str, mut row: Row) -> Row {
    for column in schema.table(table).into_iter().flat_map(|table| table.columns.keys()) {
        if row.get(column).is_none() {
            row.set(column.as_str(), crate::rows::Value::Null);
        }
    }
    row
}

/// When the columns of a row of a snapshot changed, as [`changed`] says it of the entries that led to it.
fn told(
    schema: &Schema,
    table: &str,
    row: &Row,
    since: &BTreeMap<String, Since>,
    last: Timestamp,
) -> BTreeMap<String, Timestamp> {
    let at = |column: &str, value| match since.get(column) {
        None => last,
        Some(Since::Changed(time)) => *time,
        Some(Since::Added(_)) if schema.default_of(table, column) == value => NEVER,
        Some(Since::Added(time)) => *time,
    };
    row.iter()
        .map(|(column, value)| (column.to_owned(), at(column, value)))
        .collect()
}

fn changed(
    schema: &Schema,
    table: &str,
    before: Option<&Folded>,
    row: Option<&Row>,
    time: Timestamp,
) -> BTreeMap<String, Timestamp> {
    let old = before.and_then(|before| Some((before.row.as_ref()?, before)));
    let columns = row.into_iter().flat_map(Row::iter);
    columns
        .map(|(column, value)| {
            let same = old.filter(|(old, _)| schema.value(table, old, column) == value);
            let since = same.map(|(old, before)| changed_at(old, &before.changed, column, before.time));
            (column.to_owned(), since.unwrap_or(time))
        })
        .collect()
}
