//! At the head of the log: what is unsent is merged onto what the log has.
//!
//! Only the device that pushes decides. Everybody else reads plain rows, so chains of decisions cannot diverge.

use std::collections::BTreeMap;

use synckit_crypto::batch::Timestamp;

use super::{
    columns::{Mine, merge},
    rules::{Rule, Rules},
    schema::Schema,
    state::{Base, Folded, Key, State, Unsent, after},
};
use crate::rows::Row;

impl State {
    /// Merges the unsent edits onto the log, which was read to its head. A batch that is not in the log by now was sealed
    /// on an older history, so that the server refuses it for ever: its edits are unsent again.
    ///
    /// Ends: every round of the loop takes away an edited column or an unsent row.
    pub fn settle(&mut self, schema: &Schema, rules: Rules) {
        self.outbox = None;
        let refused: BTreeMap<Key, Unsent> = self
            .unsendable
            .keys()
            .filter_map(|key| Some((key.clone(), self.unsent.get(key)?.clone())))
            .collect();
        self.recognize(schema);
        let keys: Vec<Key> = self.unsent.keys().cloned().collect();
        for key in &keys {
            self.settle_row(schema, rules, key);
        }
        while self.resolve_clashes(schema, rules) || self.follow_parents(schema, rules) {}
        // Another row than the one that was refused may be taken.
        let unsent = &self.unsent;
        self.unsendable.retain(|key, _| {
            let (before, now) = (refused.get(key), unsent.get(key));
            now.is_some_and(|now| before.is_some_and(|before| before.row == now.row))
        });
    }

    fn settle_row(&mut self, schema: &Schema, rules: Rules, key: &Key) {
        let Some(unsent) = self.unsent.get(key).cloned() else {
            return;
        };
        let log = self.fold.get(key).cloned();
        // A deletion of what the log never had is sent only if other devices may have the row: from a log that is gone, or
        // from the app itself, which puts it into every new database.
        if log.is_none() && (unsent.row.is_some() || unsent.base != Base::Nothing) {
            return;
        }
        let Some(log) = log else {
            self.unsent.remove(key);
            return;
        };
        let time = unsent.time.max(after(log.time));
        match (&unsent.row, &log.row) {
            (None, None) => drop(self.unsent.remove(key)),
            (Some(mine), None) => {
                if outlives_deletion(schema, &key.table, mine, &unsent, &log) {
                    self.keep(schema, key, unsent.row, time);
                } else {
                    self.unsent.remove(key);
                    if is_unknown(&unsent, unsent.time) {
                        self.lose(key, mine.clone());
                    }
                }
            }
            (None, Some(theirs)) => {
                if was_edited(schema, &key.table, theirs, &unsent, &log) {
                    self.unsent.remove(key);
                } else {
                    if is_unknown(&unsent, log.time) {
                        self.lose(key, theirs.clone());
                    }
                    self.keep(schema, key, None, time);
                }
            }
            (Some(mine), Some(theirs)) => {
                let row = self.merge_row(schema, rules, key, mine, theirs, &unsent, &log);
                self.keep(schema, key, Some(row), time);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a row, three ways, and where it belongs")]
    fn merge_row(
        &mut self,
        schema: &Schema,
        rules: Rules,
        key: &Key,
        mine: &Row,
        theirs: &Row,
        unsent: &Unsent,
        log: &Folded,
    ) -> Row {
        if !rules.hold(Rule::ThreeWays) {
            return mine.clone();
        }
        // A column that it lacks has its default.
        let defaults = Row::new();
        let (base, lost_until) = match &unsent.base {
            Base::Row(base) => (Some(base), None),
            Base::Nothing => (Some(&defaults), None),
            Base::Unknown(both) => (None, Some(*both)),
        };
        let mine = Mine {
            row: mine,
            base,
            lost_until,
            time: unsent.time,
            changed: &unsent.changed,
        };
        let merged = merge(schema, &key.table, &mine, theirs, log);
        self.lose(key, merged.lost);
        merged.row
    }
}

/// Whether a row of this time is from one of two histories only, so that the other one did not know of it.
fn is_unknown(unsent: &Unsent, time: Timestamp) -> bool {
    matches!(unsent.base, Base::Unknown(both) if time > both)
}

/// An edit beats a deletion that did not know of it. Of two histories, the later one does.
fn outlives_deletion(schema: &Schema, table: &str, mine: &Row, unsent: &Unsent, log: &Folded) -> bool {
    match &unsent.base {
        Base::Nothing => true,
        Base::Row(base) => !schema.same(table, mine, base),
        Base::Unknown(_) => unsent.time > log.time,
    }
}

/// Whether the log has an edit that a deletion of this device did not know of.
fn was_edited(schema: &Schema, table: &str, theirs: &Row, unsent: &Unsent, log: &Folded) -> bool {
    match &unsent.base {
        Base::Nothing => true,
        Base::Row(base) => !schema.same(table, theirs, base),
        Base::Unknown(_) => log.time > unsent.time,
    }
}
