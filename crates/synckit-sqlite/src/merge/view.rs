//! Which rows are in their tables, and which wait outside: a pure function of the state, so that devices that have read
//! the same log have the same tables, in whatever order and pages they read it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    rules::{Rule, Rules},
    schema::{OnDelete, Schema},
    state::{Key, State},
};
use crate::rows::{Row, Value};

/// The tables as they should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The rows in their tables.
    pub visible: BTreeMap<Key, Row>,
    /// The rows that wait outside, and what for.
    pub parked: BTreeMap<Key, Parked>,
}

/// What a row waits for. It is looked at again whenever the state changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parked {
    /// Another row has its values of a UNIQUE.
    Unique {
        /// The row in the table.
        by: Key,
    },
    /// The row that it refers to is not there.
    Parent {
        /// The row that is missing.
        missing: Key,
    },
    /// The database refuses the row as it is.
    Refused {
        /// What the database said.
        message: String,
    },
}

/// Two rows with the same values of one UNIQUE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clash {
    pub(super) columns: Vec<String>,
    pub(super) seated: Key,
    pub(super) newcomer: Key,
}

impl State {
    /// The tables as they should be: of two rows that violate a UNIQUE, the one with the smaller id is in the table; rows
    /// whose parent is not there wait for it.
    pub fn view(&self, schema: &Schema, rules: Rules) -> View {
        self.seat(schema, rules).0
    }

    /// Seats rows in the order of their ids, and says which found their place taken.
    pub(super) fn seat(&self, schema: &Schema, rules: Rules) -> (View, Vec<Clash>) {
        let rows: Vec<(&Key, &Row)> = self.rows().collect();
        let refused = self.refused.iter().map(|(key, message)| {
            let message = message.clone();
            (key.clone(), Parked::Refused { message })
        });
        // What is not there anyway waits for nothing.
        let mut outside: BTreeMap<Key, Parked> = refused.filter(|(key, _)| self.current(key).is_some()).collect();
        loop {
            let (mut view, clashes) = seat_all(schema, rules, &rows, &outside);
            let more = orphans_of(schema, &view);
            if more.is_empty() || !rules.hold(Rule::ForeignKeys) {
                view.parked.extend(outside);
                return (view, clashes);
            }
            outside.extend(more);
        }
    }
}

fn seat_all(
    schema: &Schema,
    rules: Rules,
    rows: &[(&Key, &Row)],
    outside: &BTreeMap<Key, Parked>,
) -> (View, Vec<Clash>) {
    let (mut view, mut clashes, mut seats) = (View::default(), Vec::new(), Seats::default());
    let mut visible = Vec::with_capacity(rows.len());
    for (key, row) in rows.iter().filter(|(key, _)| !outside.contains_key(*key)) {
        match seats.taken(schema, key, row) {
            Some((columns, seated)) => {
                if rules.hold(Rule::UniqueOfLog) {
                    view.parked
                        .insert((*key).clone(), Parked::Unique { by: seated.clone() });
                } else {
                    visible.push(((*key).clone(), (*row).clone()));
                }
                clashes.push(Clash {
                    columns: columns.to_vec(),
                    seated,
                    newcomer: (*key).clone(),
                });
            }
            None => {
                seats.take(schema, key, row);
                visible.push(((*key).clone(), (*row).clone()));
            }
        }
    }
    view.visible = visible.into_iter().collect();
    (view, clashes)
}

fn orphans_of(schema: &Schema, view: &View) -> Vec<(Key, Parked)> {
    let orphans = view.visible.iter().filter_map(|(key, row)| {
        let missing = parents(schema, key, row)
            .into_iter()
            .find(|parent| !view.visible.contains_key(parent))?;
        Some((key.clone(), Parked::Parent { missing }))
    });
    orphans.collect()
}

/// The rows that a row refers to, by foreign keys that the database enforces.
pub(super) fn parents(schema: &Schema, key: &Key, row: &Row) -> BTreeSet<Key> {
    let references = schema.references(&key.table).iter();
    let enforced = references.filter(|reference| reference.on_delete != OnDelete::Dangle);
    let parents = enforced.filter_map(|reference| schema.parent(&key.table, row, reference));
    parents.filter(|parent| parent != key).collect()
}

/// The rows that a row refers to, whether the database enforces it or not.
pub(super) fn targets(schema: &Schema, key: &Key, row: &Row) -> BTreeSet<Key> {
    let references = schema.references(&key.table).iter();
    let targets = references.filter_map(|reference| schema.parent(&key.table, row, reference));
    targets.filter(|target| target != key).collect()
}

/// The values of each UNIQUE that rows have taken.
#[derive(Debug, Default)]
pub(super) struct Seats(HashMap<Place, Key>);

impl Seats {
    /// The first UNIQUE whose values another row has, and that row.
    pub(super) fn taken<'a>(&self, schema: &'a Schema, key: &Key, row: &Row) -> Option<(&'a [String], Key)> {
        places(schema, key, row).into_iter().find_map(|(columns, place)| {
            let holder = self.0.get(&place).filter(|holder| *holder != key)?;
            Some((columns, holder.clone()))
        })
    }

    /// The row that has these values.
    pub(super) fn holder(&self, place: &Place) -> Option<&Key> {
        self.0.get(place)
    }

    pub(super) fn take(&mut self, schema: &Schema, key: &Key, row: &Row) {
        self.0.extend(
            places(schema, key, row)
                .into_iter()
                .map(|(_, place)| (place, key.clone())),
        );
    }

    pub(super) fn leave(&mut self, schema: &Schema, key: &Key, row: &Row) {
        for (_, place) in places(schema, key, row) {
            if self.0.get(&place) == Some(key) {
                self.0.remove(&place);
            }
        }
    }
}

/// The number of a UNIQUE of a table, and values of it.
pub(super) type Place = (String, usize, Vec<Value>);

pub(super) fn places<'a>(schema: &'a Schema, key: &Key, row: &Row) -> Vec<(&'a [String], Place)> {
    let uniques = schema
        .table(&key.table)
        .into_iter()
        .flat_map(|table| &table.uniques)
        .enumerate();
    let places = uniques.filter_map(|(number, unique)| {
        let values = schema.unique_values(&key.table, row, unique)?;
        Some((unique.columns.as_slice(), (key.table.clone(), number, values)))
    });
    places.collect()
}
