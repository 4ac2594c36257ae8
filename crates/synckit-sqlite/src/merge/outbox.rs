//! The batch that is being sent.

use std::collections::{BTreeMap, BTreeSet};

use synckit_protocol::BatchId;

use super::{
    schema::Schema,
    state::{Base, Key, Outbox, State, after},
    view::parents,
};
use crate::rows::{RowChange, RowOp};

impl State {
    /// The batch to send: the one that is being sent already, whatever was edited since, or up to `entries_max` of the
    /// unsent edits. `None`: there is nothing to send.
    pub fn freeze(&mut self, schema: &Schema, id: BatchId, entries_max: usize) -> Option<&Outbox> {
        if self.outbox.is_none() {
            let keys = self.in_order(schema, entries_max);
            let changes: Vec<RowChange> = keys.into_iter().filter_map(|key| self.change(key)).collect();
            self.outbox = (!changes.is_empty()).then_some(Outbox { id, changes });
        }
        self.outbox.as_ref()
    }

    /// The first edits: parents before their children, so that a reader of half a transaction has the parents; deletions last.
    fn in_order(&self, schema: &Schema, entries_max: usize) -> Vec<&Key> {
        let mut ordered = Vec::new();
        let mut seen: BTreeSet<&Key> = self.kept_back(schema).into_keys().collect();
        let is_deletion = |key: &&Key| self.unsent.get(*key).is_some_and(|unsent| unsent.row.is_none());
        for key in self.unsent.keys().filter(|key| !is_deletion(key)) {
            if ordered.len() >= entries_max {
                break;
            }
            self.order_with_parents(schema, key, &mut ordered, &mut seen);
        }
        let deletions = self.unsent.keys().filter(is_deletion);
        ordered.extend(deletions.filter(|key| self.is_sent(key)).take(entries_max));
        ordered.truncate(entries_max);
        ordered
    }

    /// New rows that refer to one that stays here, and what they wait for: on every other device they would lead nowhere.
    pub(crate) fn kept_back(&self, schema: &Schema) -> BTreeMap<&Key, Key> {
        let mut kept: BTreeMap<&Key, Key> = BTreeMap::new();
        // Most of the time there is none.
        let mut is_done = self.unsendable.is_empty();
        while !is_done {
            is_done = true;
            for (key, unsent) in self.unsent.iter() {
                let is_open = !kept.contains_key(key) && !self.unsendable.contains_key(key);
                let Some(row) = unsent.row.as_ref().filter(|_| is_open) else {
                    continue;
                };
                let stays = |parent: &Key| {
                    let is_new = self.folded(parent).is_none() && self.current(parent).is_some();
                    is_new && (self.unsendable.contains_key(parent) || kept.contains_key(parent))
                };
                if let Some(parent) = parents(schema, key, row).into_iter().find(stays) {
                    kept.insert(key, parent);
                    is_done = false;
                }
            }
        }
        kept
    }

    /// A row after those that it refers to and that are sent with it. In a circle, any order is as good.
    fn order_with_parents<'a>(
        &'a self,
        schema: &Schema,
        key: &'a Key,
        ordered: &mut Vec<&'a Key>,
        seen: &mut BTreeSet<&'a Key>,
    ) {
        let mut stack = vec![(key, false)];
        while let Some((key, has_parents)) = stack.pop() {
            if has_parents {
                ordered.push(key);
            } else if self.is_sent(key) && seen.insert(key) {
                stack.push((key, true));
                let row = self.unsent.get(key).and_then(|unsent| unsent.row.as_ref());
                let parents = row.map(|row| parents(schema, key, row)).unwrap_or_default();
                let sent = parents.iter().filter_map(|parent| self.unsent.get_key_value(parent));
                stack.extend(
                    sent.filter(|(_, unsent)| unsent.row.is_some())
                        .map(|(parent, _)| (parent, false)),
                );
            }
        }
    }

    fn is_sent(&self, key: &Key) -> bool {
        self.change(key).is_some()
    }

    /// The entry of an unsent edit; `None` for a row that was made and deleted before anybody heard of it.
    fn change(&self, key: &Key) -> Option<RowChange> {
        let unsent = self.unsent.get(key).filter(|_| !self.unsendable.contains_key(key))?;
        let logged = self.fold.get(key);
        let op = match &unsent.row {
            Some(row) if self.folded(key).is_some() => RowOp::Update(row.clone()),
            Some(row) => RowOp::Insert(row.clone()),
            None if self.folded(key).is_none() && unsent.base == Base::Nothing => return None,
            None => RowOp::Delete,
        };
        let time = logged.map_or(unsent.time, |logged| unsent.time.max(after(logged.time)));
        Some(RowChange {
            table: key.table.clone(),
            id: key.id.clone(),
            time,
            op,
        })
    }

    /// Whether an edit waits to be sent.
    pub fn has_unsent(&self) -> bool {
        self.outbox.is_some() || self.unsent.keys().any(|key| self.change(key).is_some())
    }
}
