//! After the server was restored from a backup: another log, which this device reads from its start.

use synckit_crypto::batch::Timestamp;

use super::{
    rules::{Rule, Rules},
    state::{Base, Key, State, Unsent},
};

impl State {
    /// Begins again with an empty fold. Every row, and every deletion, is unsent with the time that it had: what it began
    /// with was in the log that is gone.
    pub fn rejoin(&mut self, rules: Rules) {
        self.outbox = None;
        if !rules.hold(Rule::Rejoin) {
            return;
        }
        // What the log never had by its id is looked for in the other log by its values.
        let known = self.unsent.keys().filter(|key| !self.is_stranger(key));
        let known: Vec<Key> = known.cloned().collect();
        for key in &known {
            if let Some(unsent) = self.unsent.get_mut(key) {
                unsent.base = unknown();
            }
        }
        for (key, folded) in self.fold.take() {
            if !self.unsent.contains_key(&key) {
                let unsent = Unsent {
                    row: folded.row,
                    base: unknown(),
                    time: folded.time,
                    changed: folded.changed,
                };
                self.unsent.insert(key, unsent);
            }
        }
    }

    /// An entry of the other log was in the one that is gone as well: this device knew it.
    pub fn note_in_both(&mut self, key: &Key, time: Timestamp) {
        if let Some(Unsent {
            base: Base::Unknown(both),
            ..
        }) = self.unsent.get_mut(key)
        {
            *both = time.max(*both);
        }
    }
}

/// Nothing is known to have been in both logs.
const fn unknown() -> Base {
    Base::Unknown(Timestamp::from_micros(i64::MIN))
}
