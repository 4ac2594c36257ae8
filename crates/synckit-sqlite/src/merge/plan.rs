//! In which order rows are written, so that no UNIQUE and no trigger that plays a foreign key ever refuses one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    rules::{Rule, Rules},
    schema::Schema,
    state::Key,
    view::{Seats, View, parents},
};
use crate::rows::Row;

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The row goes, and nothing refers to it any more.
    Delete(Key),
    /// The row goes for a moment, or before its children do: another row needs its values of a UNIQUE, and what it waits for
    /// itself comes later.
    TakeOut(Key),
    /// The row has these values now: it is inserted or updated. Its parents are there.
    Put(Key, Row),
}

/// The steps from the rows that are in the tables to those that should be.
pub fn plan(schema: &Schema, rules: Rules, found: &BTreeMap<Key, Row>, said: &View) -> Vec<Step> {
    let gone = found
        .keys()
        .filter(|key| !said.visible.contains_key(*key))
        .cloned()
        .map(Step::Delete);
    let put = said.visible.iter().filter(|(key, row)| found.get(*key) != Some(*row));
    let put = put.map(|(key, row)| Step::Put(key.clone(), row.clone()));
    if !rules.hold(Rule::WritingOrder) {
        return gone.chain(put).collect();
    }
    Writer::new(schema, found, said).order(gone.chain(put).collect())
}

/// The tables while the steps are taken.
struct Writer<'a> {
    schema: &'a Schema,
    said: &'a View,
    present: BTreeMap<Key, Row>,
    seats: Seats,
    /// How many rows refer to a row.
    children: BTreeMap<Key, usize>,
    steps: Vec<Step>,
}

impl<'a> Writer<'a> {
    fn new(schema: &'a Schema, found: &BTreeMap<Key, Row>, said: &'a View) -> Self {
        let mut writer = Self {
            schema,
            said,
            present: BTreeMap::new(),
            seats: Seats::default(),
            children: BTreeMap::new(),
            steps: Vec::new(),
        };
        for (key, row) in found {
            writer.enter(key, row);
        }
        writer
    }

    /// Takes each step as soon as it can be taken. Where none can, a row that is in the way is taken out; where no row is
    /// in the way, rows refer to each other in a circle, and any order is as good.
    fn order(mut self, mut open: Vec<Step>) -> Vec<Step> {
        while !open.is_empty() {
            let before = open.len();
            open.retain(|step| !self.take_if_free(step));
            if open.len() == before && !self.take_out_blocker(&open) {
                let step = open.remove(0);
                self.take(&step);
            }
        }
        self.steps
    }

    fn take_if_free(&mut self, step: &Step) -> bool {
        let is_free = match step {
            Step::Delete(key) | Step::TakeOut(key) => self.children.get(key).is_none_or(|count| *count == 0),
            Step::Put(key, row) => self.seats.taken(self.schema, key, row).is_none() && self.has_parents(key, row),
        };
        if is_free {
            self.take(step);
        }
        is_free
    }

    /// A parent that is not going to be there is not waited for.
    fn has_parents(&self, key: &Key, row: &Row) -> bool {
        let mut parents = parents(self.schema, key, row).into_iter();
        parents.all(|parent| self.present.contains_key(&parent) || !self.said.visible.contains_key(&parent))
    }

    fn take_out_blocker(&mut self, open: &[Step]) -> bool {
        let waiting: BTreeSet<&Key> = open.iter().map(key).collect();
        let blocker = open.iter().filter_map(put).find_map(|(key, row)| {
            let (_, blocker) = self.seats.taken(self.schema, key, row)?;
            waiting.contains(&blocker).then_some(blocker)
        });
        blocker.is_some_and(|blocker| {
            self.take(&Step::TakeOut(blocker));
            true
        })
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Delete(key) | Step::TakeOut(key) => self.leave(key),
            Step::Put(key, row) => {
                self.leave(key);
                self.enter(key, row);
            }
        }
        self.steps.push(step.clone());
    }

    fn enter(&mut self, key: &Key, row: &Row) {
        self.seats.take(self.schema, key, row);
        for parent in parents(self.schema, key, row) {
            *self.children.entry(parent).or_default() += 1;
        }
        self.present.insert(key.clone(), row.clone());
    }

    fn leave(&mut self, key: &Key) {
        let Some(row) = self.present.remove(key) else { return };
        self.seats.leave(self.schema, key, &row);
        for parent in parents(self.schema, key, &row) {
            if let Some(count) = self.children.get_mut(&parent) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

const fn key(step: &Step) -> &Key {
    match step {
        Step::Delete(key) | Step::TakeOut(key) | Step::Put(key, _) => key,
    }
}

const fn put(step: &Step) -> Option<(&Key, &Row)> {
    match step {
        Step::Put(key, row) => Some((key, row)),
        Step::Delete(_) | Step::TakeOut(_) => None,
    }
}
