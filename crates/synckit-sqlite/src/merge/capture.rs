//! What the app changed becomes unsent edits.

use std::collections::{BTreeMap, BTreeSet};

use synckit_crypto::batch::Timestamp;

use super::{
    rules::{Rule, Rules},
    schema::Schema,
    state::{Base, Key, State, Unsent},
    view::View,
};
use crate::rows::Row;

/// In one look at a table, so many deletions never wait for a decision.
pub const DELETIONS_MIN: usize = 20;
/// Nor do deletions of at most one row in so many.
pub const DELETIONS_ONE_IN: usize = 10;

/// What is in the app's tables.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The rows, with the columns that this device knows.
    pub rows: &'a BTreeMap<Key, Row>,
    /// The rows that the app is known to have touched.
    pub noted: &'a BTreeSet<Key>,
    /// The rows that were looked for; `None` for all.
    pub looked_for: Option<&'a BTreeSet<Key>>,
    /// Synced tables that are not in the file.
    pub missing: &'a BTreeSet<String>,
}

/// Deletions that wait for the app's decision: they were found without a note, or there are too many of them.
pub type Held = BTreeSet<Key>;

impl State {
    /// Takes over what differs from the tables as they should be. Returns what waits for a decision and was left alone.
    pub fn capture(&mut self, schema: &Schema, rules: Rules, said: &View, found: &Found<'_>, clock: Timestamp) -> Held {
        let gone = said
            .visible
            .keys()
            .filter(|key| !found.rows.contains_key(*key))
            .filter(|key| found.looked_for.is_none_or(|keys| keys.contains(*key)))
            .cloned();
        let gone: BTreeSet<Key> = match rules.hold(Rule::Brakes) {
            true => gone.filter(|key| !found.missing.contains(&key.table)).collect(),
            false => gone.collect(),
        };
        let held = if rules.hold(Rule::Brakes) {
            held(said, found.noted, &gone)
        } else {
            Held::new()
        };
        for key in gone.difference(&held) {
            self.capture_row(schema, key, None, clock);
        }
        for (key, row) in found.rows {
            let is_changed = said
                .visible
                .get(key)
                .is_none_or(|said| !self.same_here(schema, key, said, row));
            if is_changed {
                self.capture_row(schema, key, Some(row), clock);
            }
        }
        held
    }

    /// Takes over deletions that the app decided for.
    pub fn delete(&mut self, schema: &Schema, keys: &Held, clock: Timestamp) {
        for key in keys {
            self.capture_row(schema, key, None, clock);
        }
    }

    /// Whether a row has, in every column that this device knows, the value that it should have.
    fn same_here(&self, schema: &Schema, key: &Key, said: &Row, found: &Row) -> bool {
        let mut columns = schema
            .table(&key.table)
            .into_iter()
            .flat_map(|table| table.columns.keys());
        columns.all(|column| schema.value(&key.table, said, column) == schema.value(&key.table, found, column))
    }

    fn capture_row(&mut self, schema: &Schema, key: &Key, row: Option<&Row>, clock: Timestamp) {
        let time = self.time_of_edit(key, clock);
        let row = row.map(|row| self.with_unknown_columns(schema, key, row));
        self.unsendable.remove(key);
        let changed = self.times_before(schema, key, row.as_ref());
        let earlier = self.unsent.remove(key);
        let base = match earlier {
            Some(earlier) => earlier.base,
            None => self.folded(key).cloned().map_or(Base::Nothing, Base::Row),
        };
        // Other devices may have a row that this log never had: its deletion is no return to what the log has.
        let is_known = self.fold.contains_key(key) || base == Base::Nothing;
        if row.as_ref() == self.folded(key) && self.outbox.is_none() && is_known {
            return;
        }
        self.unsent.insert(
            key.clone(),
            Unsent {
                row,
                base,
                time,
                changed,
            },
        );
    }

    /// When the columns of a row changed that an edit leaves as they are.
    fn times_before(&self, schema: &Schema, key: &Key, row: Option<&Row>) -> BTreeMap<String, Timestamp> {
        let mut changed = self.times_of(schema, key, row);
        // A value that goes back to what the log has is an edit, too.
        let current = self.current(key);
        changed.retain(|column, _| {
            let now = current.map(|now| schema.value(&key.table, now, column));
            row.and_then(|row| row.get(column)) == now
        });
        changed
    }

    /// The app's row, and the columns that only newer versions of the app know.
    fn with_unknown_columns(&self, schema: &Schema, key: &Key, row: &Row) -> Row {
        let mut row = row.clone();
        for (column, value) in self.current(key).into_iter().flat_map(Row::iter) {
            if schema.column(&key.table, column).is_none() {
                row.set(column, value.clone());
            }
        }
        row
    }
}

fn held(said: &View, noted: &BTreeSet<Key>, gone: &BTreeSet<Key>) -> Held {
    let mut sizes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for key in said.visible.keys() {
        let (rows, deleted) = sizes.entry(&key.table).or_default();
        *rows += 1;
        *deleted += usize::from(gone.contains(key));
    }
    let is_mass = |table: &str| {
        sizes
            .get(table)
            .is_some_and(|(rows, deleted)| is_mass_deletion(*deleted, *rows))
    };
    gone.iter()
        .filter(|key| !noted.contains(*key) || is_mass(&key.table))
        .cloned()
        .collect()
}

/// Whether so many deletions of so many rows wait for a decision.
///
/// # Examples
/// ```
/// use synckit_sqlite::merge::is_mass_deletion;
///
/// assert!(!is_mass_deletion(20, 20)); // a short list may be emptied
/// assert!(is_mass_deletion(21, 200));
/// assert!(!is_mass_deletion(21, 210)); // a tenth
/// ```
pub fn is_mass_deletion(deleted: usize, rows: usize) -> bool {
    deleted > DELETIONS_MIN && deleted > rows / DELETIONS_ONE_IN
}
