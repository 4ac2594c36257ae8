//! A map that remembers which of its entries were touched, so that only these are written to a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Deref,
};

use super::state::Key;

/// What is known of rows. It is read like a map.
#[derive(Debug, Clone)]
pub struct Ledger<V> {
    map: BTreeMap<Key, V>,
    touched: BTreeSet<Key>,
}

impl<V> Ledger<V> {
    /// Adds or replaces an entry. Returns the one before.
    pub fn insert(&mut self, key: Key, value: V) -> Option<V> {
        self.touched.insert(key.clone());
        self.map.insert(key, value)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &Key) -> Option<V> {
        let removed = self.map.remove(key);
        if removed.is_some() {
            self.touched.insert(key.clone());
        }
        removed
    }

    /// An entry, to be changed.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut V> {
        let value = self.map.get_mut(key)?;
        self.touched.insert(key.clone());
        Some(value)
    }

    /// Takes everything out.
    pub fn take(&mut self) -> BTreeMap<Key, V> {
        self.touched.extend(self.map.keys().cloned());
        mem::take(&mut self.map)
    }

    /// What became of the entries that were touched since the last call of [`Ledger::settle`].
    pub fn touched(&self) -> impl Iterator<Item = (&Key, Option<&V>)> {
        self.touched.iter().map(|key| (key, self.map.get(key)))
    }

    /// All of it is written.
    pub fn settle(&mut self) {
        self.touched.clear();
    }
}

impl<V> Default for Ledger<V> {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }
}

impl<V> Deref for Ledger<V> {
    type Target = BTreeMap<Key, V>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

/// What was touched does not matter.
impl<V: PartialEq> PartialEq for Ledger<V> {
    fn eq(&self, other: &Self) -> bool {
        self.map == other.map
    }
}

impl<V: Eq> Eq for Ledger<V> {}
