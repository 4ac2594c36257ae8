//! Rows whose parent is gone. The change is sent, so that every device gets it from the log.

use std::collections::BTreeSet;

use super::{
    rules::{Rule, Rules},
    schema::{OnDelete, Reference, Schema},
    state::{Key, State},
};
use crate::rows::{Row, Value};

impl State {
    /// Lets rows follow their parents. `false`: every parent is where it should be.
    ///
    /// A row of the log whose parent is gone in the log is left alone: half a transaction of another device, the rest of
    /// which is to come.
    pub(super) fn follow_parents(&mut self, schema: &Schema, rules: Rules) -> bool {
        if !rules.hold(Rule::ForeignKeys) {
            return false;
        }
        let mut orphans = self.orphans(schema, |key, parent| self.left_by(key, parent));
        let is_done = orphans.is_empty();
        while !orphans.is_empty() {
            for (key, row, reference) in &orphans {
                self.follow(schema, key, row.clone(), reference);
            }
            // Of a row that was never sent nothing tells later that it is gone: its children follow at once.
            let followed: BTreeSet<Key> = orphans.into_iter().map(|(key, ..)| key).collect();
            orphans = self.orphans(schema, |_, parent| {
                followed.contains(parent) && self.current(parent).is_none()
            });
        }
        !is_done
    }

    /// The rows that a parent left, and the reference to it.
    fn orphans<'s>(&self, schema: &'s Schema, is_left: impl Fn(&Key, &Key) -> bool) -> Vec<(Key, Row, &'s Reference)> {
        let orphans = self.rows().filter_map(|(key, row)| {
            let mut references = schema.references(&key.table).iter();
            let reference = references.find(|reference| {
                let parent = schema.parent(&key.table, row, reference);
                reference.on_delete != OnDelete::Dangle && parent.is_some_and(|parent| is_left(key, &parent))
            })?;
            Some((key.clone(), row.clone(), reference))
        });
        orphans.collect()
    }

    fn left_by(&self, key: &Key, parent: &Key) -> bool {
        let by_an_edit = self.unsent.contains_key(key) || self.unsent.contains_key(parent);
        by_an_edit && self.is_gone(parent)
    }

    fn follow(&mut self, schema: &Schema, key: &Key, mut row: Row, reference: &Reference) {
        let time = self.time_of_edit(key, Default::default());
        let column = reference.column.as_str();
        let value = match reference.on_delete {
            OnDelete::Cascade | OnDelete::Dangle => None,
            OnDelete::SetNull => Some(Value::Null),
            OnDelete::SetDefault => Some(schema.default_of(&key.table, column).clone()),
        };
        // A default that is the missing row itself leads nowhere.
        match value.filter(|value| Some(value) != row.get(column)) {
            Some(value) => {
                self.lose(
                    key,
                    row.get(column).map(|lost| (column, lost.clone())).into_iter().collect(),
                );
                row.set(column, value);
                self.keep(schema, key, Some(row), time);
            }
            None => {
                self.lose(key, row);
                self.keep(schema, key, None, time);
            }
        }
    }
}
