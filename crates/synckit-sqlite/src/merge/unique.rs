//! UNIQUE between what is unsent and what the log has: the log wins, and no unsent row waits outside its table for it.
//! (Rows that wait vanish from the user's eyes, and sets of them differ for ever.)

use std::collections::BTreeMap;

use synckit_crypto::batch::Timestamp;

use super::{
    columns::{Mine, merge},
    rules::{Rule, Rules},
    schema::Schema,
    state::{Base, Folded, Key, State},
    view::Clash,
};
use crate::rows::{Row, RowId, Value};

impl State {
    /// Resolves one clash in which an unsent edit takes part. `false`: there is none.
    pub(super) fn resolve_clash(&mut self, schema: &Schema, rules: Rules) -> bool {
        if !rules.hold(Rule::UniqueOfUnsent) {
            return false;
        }
        let (_, clashes) = self.seat(schema, rules);
        clashes
            .iter()
            .any(|clash| self.go_back(schema, clash) || self.become_one(schema, clash))
    }

    /// The edited columns of a row that the log has go back to the log's values.
    fn go_back(&mut self, schema: &Schema, clash: &Clash) -> bool {
        [&clash.newcomer, &clash.seated].into_iter().any(|key| {
            let (Some(logged), Some(unsent)) = (self.folded(key).cloned(), self.unsent.get(key).cloned()) else {
                return false;
            };
            let (Some(mut row), mut lost) = (unsent.row, Row::new()) else {
                return false;
            };
            for column in &clash.columns {
                let (here, there) = (
                    schema.value(&key.table, &row, column),
                    schema.value(&key.table, &logged, column),
                );
                if here != there {
                    lost.set(column.as_str(), here.clone());
                    row.set(column.as_str(), there.clone());
                }
            }
            let went_back = lost.iter().next().is_some();
            if went_back {
                self.lose(key, lost);
                self.keep_unless_orphaned(schema, key, row, unsent.time);
            }
            went_back
        })
    }

    /// The log's value may be a row that is gone since: then the whole row follows it, or columns would go back and forth.
    fn keep_unless_orphaned(&mut self, schema: &Schema, key: &Key, row: Row, time: Timestamp) {
        let is_orphan = super::view::parents(schema, key, &row)
            .iter()
            .any(|parent| self.is_gone(parent));
        if is_orphan {
            self.lose(key, row);
            self.keep(key, None, time);
        } else {
            self.keep(key, Some(row), time);
        }
    }

    /// A row that the log never had becomes the other one.
    fn become_one(&mut self, schema: &Schema, clash: &Clash) -> bool {
        let Clash { seated, newcomer, .. } = clash;
        if self.is_new(newcomer) {
            self.become_row(schema, newcomer, seated);
        } else if self.is_new(seated) {
            self.become_row(schema, seated, newcomer);
        } else {
            return false;
        }
        true
    }

    fn is_new(&self, key: &Key) -> bool {
        self.folded(key).is_none() && self.unsent.contains_key(key)
    }

    /// What the new row has beside the defaults is kept where the other one has the default; else the other one's value
    /// stays. What referred to the new row refers to the other one.
    pub(super) fn become_row(&mut self, schema: &Schema, new: &Key, known: &Key) {
        let (Some(unsent), Some(theirs)) = (self.unsent.remove(new), self.current(known).cloned()) else {
            return;
        };
        let Some(mine) = unsent.row else { return };
        let defaults = schema.defaults(&new.table);
        let mine = Mine {
            row: &mine,
            base: Some(&defaults),
            time: Timestamp::from_micros(i64::MIN),
        };
        let log = Folded {
            row: None,
            time: Timestamp::default(),
            changed: Default::default(),
        };
        let mut merged = merge(schema, &new.table, &mine, &theirs, &log);
        for column in schema.table(&new.table).into_iter().flat_map(|table| &table.key) {
            merged
                .row
                .set(column.as_str(), schema.value(&new.table, &theirs, column).clone());
        }
        self.lose(known, merged.lost);
        let time = self.time_of_edit(known, unsent.time);
        self.put(known, merged.row, time);
        self.rename(schema, &[(new.clone(), known.clone())].into());
    }

    /// Sets an unsent row, whatever it began with.
    fn put(&mut self, key: &Key, row: Row, time: Timestamp) {
        let base = self.unsent.get(key).map(|unsent| unsent.base.clone());
        self.keep(key, Some(row), time);
        if let (Some(unsent), Some(base @ (Base::Nothing | Base::Unknown))) = (self.unsent.get_mut(key), base) {
            unsent.base = base;
        }
    }

    /// Whatever refers to a row by its old id, or by its old key, refers to it by the new one. A row whose own id is made of it
    /// moves, too.
    pub(super) fn rename(&mut self, schema: &Schema, moved: &BTreeMap<Key, Key>) {
        let renamed = moved.iter().map(|(from, to)| (from.clone(), to.clone()));
        self.renamed.extend(renamed);
        let mut references = schema.tables.values().flat_map(|table| &table.references);
        if !references.any(|reference| moved.keys().any(|from| from.table == reference.parent)) {
            return;
        }
        let targets = moved.iter().map(|(from, to)| {
            let row = self.current(to);
            let key = row.and_then(|row| schema.only_key(&to.table, row)).cloned();
            (from, (&to.id, key))
        });
        let targets: Targets<'_> = targets.collect();
        let keys: Vec<Key> = self.unsent.keys().cloned().collect();
        for key in keys {
            let Some(unsent) = self.unsent.get_mut(&key) else {
                continue;
            };
            let base = match &mut unsent.base {
                Base::Row(base) => Some(base),
                Base::Nothing | Base::Unknown => None,
            };
            let mut is_moved = false;
            for row in unsent.row.as_mut().into_iter().chain(base) {
                is_moved |= refer_anew(schema, &key.table, row, &targets);
            }
            if is_moved {
                self.move_to_own_id(schema, &key);
            }
        }
    }

    fn move_to_own_id(&mut self, schema: &Schema, key: &Key) {
        let base = match self.unsent.get(key).map(|unsent| &unsent.base) {
            Some(Base::Row(base)) => Some(base),
            _ => None,
        };
        let Some(row) = self.current(key).or(base) else { return };
        let Some(id) = schema.id_of(&key.table, row) else {
            return;
        };
        let target = Key {
            table: key.table.clone(),
            id,
        };
        if target == *key {
            return;
        }
        if self.is_stranger(key) && !self.unsent.contains_key(&target) {
            if let Some(unsent) = self.unsent.remove(key) {
                self.unsent.insert(target.clone(), unsent);
            }
            self.rename(schema, &[(key.clone(), target)].into());
        } else if self.current(&target).is_some() {
            self.become_row(schema, key, &target);
        } else if let Some(unsent) = self.unsent.remove(key) {
            let time = self.time_of_edit(&target, unsent.time);
            self.keep(&target, unsent.row, time);
            self.rename(schema, &[(key.clone(), target)].into());
        }
    }
}

/// What rows are called now: their ids, and their keys of one column.
type Targets<'a> = BTreeMap<&'a Key, (&'a RowId, Option<Value>)>;

fn refer_anew(schema: &Schema, table: &str, row: &mut Row, targets: &Targets<'_>) -> bool {
    let mut is_moved = false;
    for reference in schema.references(table) {
        let parent = schema.parent(table, row, reference);
        let Some((id, key)) = parent.and_then(|parent| targets.get(&parent)) else {
            continue;
        };
        let value = match (row.get(&reference.column), key) {
            (Some(Value::Row(_)), _) => Value::Row((*id).clone()),
            (_, Some(key)) => key.clone(),
            (_, None) => continue,
        };
        row.set(reference.column.as_str(), value);
        is_moved = true;
    }
    is_moved
}
