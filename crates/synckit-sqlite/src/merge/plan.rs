//! In which order rows are written, so that no UNIQUE and no trigger that plays a foreign key ever refuses one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    rules::{Rule, Rules},
    schema::Schema,
    state::Key,
    view::{Place, Seats, View, parents as parents_of, places, targets},
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

/// What a step waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    /// Another row has the values of a UNIQUE.
    Place(Place),
    /// A row that it refers to is not there yet.
    Parent(Key),
    /// Rows refer to the row that goes.
    Children(Key),
}

/// The tables while the steps are taken.
struct Writer<'a> {
    schema: &'a Schema,
    said: &'a View,
    present: BTreeMap<Key, Row>,
    seats: Seats,
    /// How many rows refer to a row, and will not when all is done.
    children: BTreeMap<Key, usize>,
    /// The steps that were not taken, in their order.
    open: BTreeMap<usize, Step>,
    /// The rows of these steps.
    moving: BTreeSet<Key>,
    waiting: BTreeMap<Obstacle, Vec<usize>>,
    /// Steps that may be possible now.
    ready: BTreeSet<usize>,
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
            open: BTreeMap::new(),
            moving: BTreeSet::new(),
            waiting: BTreeMap::new(),
            ready: BTreeSet::new(),
            steps: Vec::new(),
        };
        for (key, row) in found {
            writer.enter(key, row);
        }
        writer
    }

    /// Takes each step as soon as it can be taken. Where none can, a row that is in the way is taken out; where no row is
    /// in the way, rows refer to each other in a circle, and any order is as good.
    fn order(mut self, open: Vec<Step>) -> Vec<Step> {
        self.moving = open.iter().map(|step| key(step).clone()).collect();
        self.open = open.into_iter().enumerate().collect();
        self.ready = self.open.keys().copied().collect();
        loop {
            while let Some(number) = self.ready.pop_first() {
                self.take_if_free(number);
            }
            let Some(first) = self.open.keys().next().copied() else {
                return self.steps;
            };
            if !self.take_out_blocker() {
                self.take_open(first);
            }
        }
    }

    fn take_if_free(&mut self, number: usize) {
        let Some(step) = self.open.get(&number) else { return };
        match self.obstacle(step) {
            None => self.take_open(number),
            Some(obstacle) => self.waiting.entry(obstacle).or_default().push(number),
        }
    }

    fn take_open(&mut self, number: usize) {
        if let Some(step) = self.open.remove(&number) {
            self.moving.remove(key(&step));
            self.take(&step);
        }
    }

    fn obstacle(&self, step: &Step) -> Option<Obstacle> {
        match step {
            Step::Delete(key) | Step::TakeOut(key) => {
                let has_children = self.children.get(key).is_some_and(|count| *count > 0);
                has_children.then(|| Obstacle::Children(key.clone()))
            }
            Step::Put(key, row) => {
                let mut places = places(self.schema, key, row).into_iter().map(|(_, place)| place);
                let place = places.find(|place| self.seats.holder(place).is_some_and(|holder| holder != key));
                place.map(Obstacle::Place).or_else(|| self.missing_parent(key, row))
            }
        }
    }

    /// A parent that is not going to be there is not waited for. Triggers may enforce references that the schema does not
    /// declare, so all of them count.
    fn missing_parent(&self, key: &Key, row: &Row) -> Option<Obstacle> {
        let mut parents = targets(self.schema, key, row).into_iter();
        let missing =
            parents.find(|parent| !self.present.contains_key(parent) && self.said.visible.contains_key(parent));
        missing.map(Obstacle::Parent)
    }

    fn take_out_blocker(&mut self) -> bool {
        let mut blockers = self.waiting.keys().filter_map(|obstacle| match obstacle {
            Obstacle::Place(place) => self.seats.holder(place),
            Obstacle::Parent(_) | Obstacle::Children(_) => None,
        });
        let blocker = blockers.find(|blocker| self.moving.contains(blocker)).cloned();
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
        for parent in self.left_parents(key, row) {
            *self.children.entry(parent).or_default() += 1;
        }
        self.present.insert(key.clone(), row.clone());
        self.wake(&Obstacle::Parent(key.clone()));
    }

    fn leave(&mut self, key: &Key) {
        let Some(row) = self.present.remove(key) else { return };
        self.seats.leave(self.schema, key, &row);
        for (_, place) in places(self.schema, key, &row) {
            self.wake(&Obstacle::Place(place));
        }
        for parent in self.left_parents(key, &row) {
            let count = self.children.entry(parent.clone()).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.wake(&Obstacle::Children(parent));
            }
        }
    }

    /// The rows that a row refers to, but those to which it will refer although they are not there.
    fn left_parents(&self, key: &Key, row: &Row) -> BTreeSet<Key> {
        let mut parents = targets(self.schema, key, row);
        if let Some(said) = self.said.visible.get(key) {
            let (enforced, kept) = (parents_of(self.schema, key, row), targets(self.schema, key, said));
            parents.retain(|parent| enforced.contains(parent) || !kept.contains(parent));
        }
        parents
    }

    fn wake(&mut self, obstacle: &Obstacle) {
        self.ready.extend(self.waiting.remove(obstacle).into_iter().flatten());
    }
}

const fn key(step: &Step) -> &Key {
    match step {
        Step::Put(key, _) | Step::Delete(key) | Step::TakeOut(key) => key,
    }
}
