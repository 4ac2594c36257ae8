//! After the server was restored from a backup: another log, which this device reads from its start.

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
                unsent.base = Base::Unknown;
            }
        }
        for (key, folded) in self.fold.take() {
            if !self.unsent.contains_key(&key) {
                let unsent = Unsent {
                    row: folded.row,
                    base: Base::Unknown,
                    time: folded.time,
                };
                self.unsent.insert(key, unsent);
            }
        }
    }
}
