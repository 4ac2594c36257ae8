//! The batch that is being sent.

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
            let keys = self.in_order(schema);
            let changes: Vec<RowChange> = keys
                .iter()
                .take(entries_max)
                .filter_map(|key| self.change(key))
                .collect();
            self.outbox = (!changes.is_empty()).then_some(Outbox { id, changes });
        }
        self.outbox.as_ref()
    }

    /// Parents before their children, so that a reader of half a transaction has the parents; deletions last.
    fn in_order(&self, schema: &Schema) -> Vec<Key> {
        let mut open: Vec<&Key> = self.unsent.keys().filter(|key| self.change(key).is_some()).collect();
        let mut ordered: Vec<Key> = Vec::with_capacity(open.len());
        while !open.is_empty() {
            let (now, later): (Vec<&Key>, Vec<&Key>) = open.iter().partition(|key| {
                let row = self.unsent.get(**key).and_then(|unsent| unsent.row.as_ref());
                row.is_some_and(|row| !parents(schema, key, row).iter().any(|parent| open.contains(&parent)))
            });
            if now.is_empty() {
                // Deletions, and rows that refer to each other in a circle.
                ordered.extend(later.into_iter().cloned());
                break;
            }
            ordered.extend(now.into_iter().cloned());
            open = later;
        }
        ordered
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
