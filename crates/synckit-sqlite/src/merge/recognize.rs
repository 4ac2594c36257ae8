//! Rows that were in the file before it was tracked, and that the log has under other ids: other devices sent them, or this one
//! did before its file was untracked.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    schema::Schema,
    state::{Base, Key, State},
    unique::Moves,
    view::{Place, places},
};
use crate::rows::Row;

impl State {
    /// Whether a row was in its table when that was tracked, and is not known to the log by its id. Every other edit began with
    /// nothing, or with a row of the log.
    pub(super) fn is_stranger(&self, key: &Key) -> bool {
        let base = self.unsent.get(key).map(|unsent| &unsent.base);
        matches!(base, Some(Base::Row(_))) && !self.fold.contains_key(key)
    }

    /// Whether there are such rows.
    pub fn has_strangers(&self) -> bool {
        self.unsent.keys().any(|key| self.is_stranger(key))
    }

    /// A row that began as a row of the log is now becomes that row, as often as the log has it. What was edited since is an edit
    /// of it. Otherwise, one with the values of a UNIQUE does.
    ///
    /// Ends: every round takes away a stranger.
    pub(super) fn recognize(&mut self, schema: &Schema) {
        while self.has_strangers() {
            let equal = self.equal_rows(schema);
            if !equal.is_empty() {
                for (stranger, row) in &equal {
                    if let Some(unsent) = self.unsent.remove(stranger) {
                        self.unsent.insert(row.clone(), unsent);
                    }
                }
                self.renamed
                    .extend(equal.iter().map(|(from, to)| (from.clone(), to.clone())));
                // Rows that refer to these may be equal now.
                self.rename(schema, &equal);
                continue;
            }
            let (same, mut moved) = (self.same_in_unique(schema), Moves::default());
            if same.is_empty() {
                return;
            }
            for (stranger, row) in &same {
                self.unite(schema, stranger, row, &mut moved);
            }
            self.rename(schema, &moved.ends());
        }
    }

    /// Rows without a key of their own, and the rows of the log that have the same values.
    fn equal_rows(&self, schema: &Schema) -> BTreeMap<Key, Key> {
        let mut free: BTreeMap<(&str, Row), Vec<&Key>> = BTreeMap::new();
        for (key, row) in self.unclaimed(schema) {
            let place = (key.table.as_str(), schema.known(&key.table, row));
            free.entry(place).or_default().push(key);
        }
        let equal = self.strangers(schema).filter_map(|(key, base)| {
            let rows = free.get_mut(&(key.table.as_str(), schema.known(&key.table, base)))?;
            Some((key.clone(), rows.pop()?.clone()))
        });
        equal.collect()
    }

    /// Rows that have the values of a UNIQUE that a row of the log has. Each of the latter is one row.
    fn same_in_unique(&self, schema: &Schema) -> BTreeMap<Key, Key> {
        let seats = self.unclaimed(schema).flat_map(|(key, row)| {
            let places = places(schema, key, row).into_iter();
            places.map(move |(_, place)| (place, key))
        });
        let seats: BTreeMap<Place, &Key> = seats.collect();
        let mut taken = BTreeSet::new();
        let same = self.strangers(schema).filter_map(|(key, _)| {
            let places = places(schema, key, self.current(key)?);
            let row = places.iter().find_map(|(_, place)| seats.get(place))?;
            taken.insert(*row).then(|| (key.clone(), (*row).clone()))
        });
        same.collect()
    }

    /// What the rows began with.
    fn strangers<'a>(&'a self, schema: &'a Schema) -> impl Iterator<Item = (&'a Key, &'a Row)> {
        let strangers = self.unsent.iter().filter(|(key, _)| self.is_stranger(key));
        let strangers = strangers.filter(|(key, _)| is_numbered(schema, key));
        strangers.filter_map(|(key, unsent)| match &unsent.base {
            Base::Row(base) => Some((key, base)),
            Base::Nothing | Base::Unknown(_) => None,
        })
    }

    /// The rows of the log that no row here is.
    fn unclaimed<'a>(&'a self, schema: &'a Schema) -> impl Iterator<Item = (&'a Key, &'a Row)> {
        let rows = self.fold.iter().filter(|(key, _)| !self.unsent.contains_key(*key));
        let rows = rows.filter(|(key, _)| is_numbered(schema, key));
        rows.filter_map(|(key, folded)| Some((key, folded.row.as_ref()?)))
    }
}

/// Whether the key of a row is only a local number.
fn is_numbered(schema: &Schema, key: &Key) -> bool {
    schema.table(&key.table).is_some_and(|table| table.key.is_empty())
}
