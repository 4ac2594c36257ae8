//! One row, three ways: what both sides began with, what the log has, and what this device has.

use std::collections::BTreeMap;

use synckit_crypto::batch::Timestamp;

use super::{
    schema::{ColumnMerge, Schema},
    state::{Folded, changed_at},
};
use crate::rows::{Row, Value};

/// A merged row, and the values that lost.
pub(super) struct MergedRow {
    pub(super) row: Row,
    pub(super) lost: Row,
}

/// An edit of this device.
pub(super) struct Mine<'a> {
    pub(super) row: &'a Row,
    pub(super) base: Option<&'a Row>,
    /// Values from before this time have lost already.
    pub(super) lost_until: Option<Timestamp>,
    pub(super) time: Timestamp,
    /// When each column changed, if not then.
    pub(super) changed: &'a BTreeMap<String, Timestamp>,
}

/// Merges column by column. Where both sides changed a column, the later one wins, and the log if both are as late.
pub(super) fn merge(schema: &Schema, table: &str, mine: &Mine<'_>, theirs: &Row, log: &Folded) -> MergedRow {
    let mut merged = MergedRow {
        row: Row::new(),
        lost: Row::new(),
    };
    for column in columns(mine.row, theirs) {
        let here = schema.value(table, mine.row, column);
        let there = schema.value(table, theirs, column);
        let base = mine.base.map(|base| schema.value(table, base, column));
        let value = if base == Some(here) {
            there.clone()
        } else if base == Some(there) {
            here.clone()
        } else if let Some(sum) = counted(schema, table, column, [base, Some(here), Some(there)]) {
            // Before the next case: two devices that count the same number of things have counted twice as many.
            sum
        } else if here == there {
            there.clone()
        } else {
            let changed_there = changed_at(theirs, &log.changed, column, log.time);
            let changed_here = changed_at(mine.row, mine.changed, column, mine.time);
            let (won, lost, time) = if changed_here > changed_there {
                (here, there, changed_there)
            } else {
                (there, here, changed_here)
            };
            if mine.lost_until.is_none_or(|until| time > until) {
                merged.lost.set(column, lost.clone());
            }
            won.clone()
        };
        merged.row.set(column, value);
    }
    merged
}

/// The names of the columns that one of two rows has.
pub(super) fn columns<'a>(left: &'a Row, right: &'a Row) -> std::collections::BTreeSet<&'a str> {
    left.iter().chain(right.iter()).map(|(column, _)| column).collect()
}

/// The sum of two differences. Numbers that would leave the 64-bit integers are no counter.
fn counted(schema: &Schema, table: &str, column: &str, values: [Option<&Value>; 3]) -> Option<Value> {
    let is_counter = schema.column(table, column)?.merge == ColumnMerge::Counter;
    let [
        Some(Value::Integer(base)),
        Some(Value::Integer(here)),
        Some(Value::Integer(there)),
    ] = values
    else {
        return None;
    };
    let sum = here.checked_sub(*base)?.checked_add(*there)?;
    is_counter.then_some(Value::Integer(sum))
}
