//! UNIQUE between what is unsent and what the log has: the log wins, and no unsent row waits outside its table for it.
//! (Rows that wait vanish from the user's eyes, and sets of them differ for ever.)

use std::{collections::BTreeMap, iter};

use synckit_crypto::batch::Timestamp;

use super::{
    columns::{Mine, merge},
    rules::{Rule, Rules},
    schema::Schema,
    state::{Base, Folded, Key, State},
    view::{Clash, places},
};
use crate::rows::{Row, RowId, Value};

impl State {
    /// Resolves clashes in which an unsent edit takes part. `false`: there is none.
    pub(super) fn resolve_clashes(&mut self, schema: &Schema, rules: Rules) -> bool {
        if !rules.hold(Rule::UniqueOfUnsent) {
            return false;
        }
        let (_, clashes) = self.seat(schema, rules);
        let (mut moved, mut is_resolved) = (Moves::default(), false);
        for clash in &clashes {
            // What was resolved before may have ended this one.
            if self.clash_lasts(schema, clash) {
                is_resolved |= self.go_back(schema, clash) || self.become_one(schema, clash, &mut moved);
            }
        }
        self.rename(schema, &moved.ends());
        is_resolved
    }

    fn clash_lasts(&self, schema: &Schema, clash: &Clash) -> bool {
        let (Some(seated), Some(newcomer)) = (self.current(&clash.seated), self.current(&clash.newcomer)) else {
            return false;
        };
        let places_of = |key: &Key, row: &Row| places(schema, key, row);
        let taken = places_of(&clash.seated, seated);
        let mut wanted = places_of(&clash.newcomer, newcomer).into_iter();
        wanted.any(|(columns, place)| columns == clash.columns && taken.iter().any(|(_, other)| *other == place))
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
            self.keep(schema, key, None, time);
        } else {
            self.keep(schema, key, Some(row), time);
        }
    }

    /// A row that the log never had becomes the other one.
    fn become_one(&mut self, schema: &Schema, clash: &Clash, moved: &mut Moves) -> bool {
        let Clash { seated, newcomer, .. } = clash;
        if self.is_new(newcomer) {
            self.unite(schema, newcomer, seated, moved);
        } else if self.is_new(seated) {
            self.unite(schema, seated, newcomer, moved);
        } else {
            return false;
        }
        true
    }

    fn is_new(&self, key: &Key) -> bool {
        self.folded(key).is_none() && self.unsent.contains_key(key)
    }

    /// As [`State::unite`]. What referred to the new row refers to the other one.
    fn become_row(&mut self, schema: &Schema, new: &Key, known: &Key) {
        let mut moved = Moves::default();
        self.unite(schema, new, known, &mut moved);
        self.rename(schema, &moved.ends());
    }

    /// What the new row has beside the defaults is kept where the other one has the default; else the other one's value
    /// stays.
    pub(super) fn unite(&mut self, schema: &Schema, new: &Key, known: &Key, moved: &mut Moves) {
        let (Some(unsent), Some(theirs)) = (self.unsent.remove(new), self.current(known).cloned()) else {
            return;
        };
        let Some(mine) = unsent.row else { return };
        // A column that it lacks has its default.
        let defaults = Row::new();
        let mine = Mine {
            row: &mine,
            base: Some(&defaults),
            lost_until: None,
            time: Timestamp::from_micros(i64::MIN),
            changed: &BTreeMap::new(),
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
        self.put(schema, known, merged.row, time);
        self.renamed.push((new.clone(), known.clone()));
        moved.0.insert(new.clone(), known.clone());
    }

    /// Sets an unsent row, whatever it began with.
    fn put(&mut self, schema: &Schema, key: &Key, row: Row, time: Timestamp) {
        let base = self.unsent.get(key).map(|unsent| unsent.base.clone());
        self.keep(schema, key, Some(row), time);
        if let (Some(unsent), Some(base @ (Base::Nothing | Base::Unknown(_)))) = (self.unsent.get_mut(key), base) {
            unsent.base = base;
        }
    }

    /// Whatever refers to a row by its old id, or by its old key, refers to it by the new one. A row whose own id is made of it
    /// moves, too.
    pub(super) fn rename(&mut self, schema: &Schema, moved: &BTreeMap<Key, Key>) {
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
            let Some(mut unsent) = self.unsent.get(&key).cloned() else {
                continue;
            };
            let base = match &mut unsent.base {
                Base::Row(base) => Some(base),
                Base::Nothing | Base::Unknown(_) => None,
            };
            let mut is_moved = false;
            for row in unsent.row.as_mut().into_iter().chain(base) {
                is_moved |= refer_anew(schema, &key.table, row, &targets);
            }
            if is_moved {
                self.unsent.insert(key.clone(), unsent);
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
            self.move_references(schema, key, target);
        } else if self.current(&target).is_some() {
            self.become_row(schema, key, &target);
        } else if let Some(unsent) = self.unsent.remove(key) {
            let time = self.time_of_edit(&target, unsent.time);
            self.keep(schema, &target, unsent.row, time);
            self.move_references(schema, key, target);
        }
    }

    fn move_references(&mut self, schema: &Schema, from: &Key, to: Key) {
        self.renamed.push((from.clone(), to.clone()));
        self.rename(schema, &[(from.clone(), to)].into());
    }
}

/// Rows that became other ones.
#[derive(Debug, Default)]
pub(super) struct Moves(BTreeMap<Key, Key>);

impl Moves {
    /// What each row is in the end. A row that became another one never comes back, so that no chain is a circle.
    pub(super) fn ends(&self) -> BTreeMap<Key, Key> {
        let ends = self.0.iter().map(|(from, to)| {
            let chain = iter::successors(Some(to), |to| self.0.get(*to));
            (from.clone(), chain.last().unwrap_or(to).clone())
        });
        ends.collect()
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
