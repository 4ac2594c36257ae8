//! Token buckets by key, in bounded memory.
//!
//! Rates of requests are counted with these. A table of a library would grow with every key that
//! an attacker makes up, and would go by a clock of its own; this one is bounded and takes the time as an argument.
//!
//! Invariant: memory is bounded. When a table is full, the entries that matter least, those with the most left, go.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// Entries in each table.
pub(crate) const ENTRIES_MAX: usize = 50_000;

/// How large an allowance is, and how fast it grows back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) allowance: f64,
    pub(crate) per_second: f64,
}

/// The rest of an allowance at a time.
#[derive(Debug, Clone, Copy)]
struct Left {
    amount: f64,
    at: Duration,
}

/// Token buckets by key. A key that is not in the table has its whole allowance. Times count from any beginning, the
/// same for every call.
#[derive(Debug)]
pub(crate) struct Allowances<K>(HashMap<K, Left>);

impl<K> Default for Allowances<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Allowances<K> {
    /// Draws a whole token; the time until one is left if there is none. A refused call costs nothing, so that a client that
    /// keeps trying is let in at the same rate.
    pub(crate) fn take(&mut self, key: K, rule: Rule, now: Duration) -> Result<(), Duration> {
        if let Some(left) = self.0.get_mut(&key) {
            *left = left.grown(rule, now);
            return left.take(rule);
        }
        if self.0.len() >= ENTRIES_MAX {
            self.make_room(rule, now);
        }
        let mut left = Left {
            amount: rule.allowance,
            at: now,
        };
        let taken = left.take(rule);
        self.0.insert(key, left);
        taken
    }

    /// Draws so many tokens more, also such that have yet to grow: the next call waits for them.
    pub(crate) fn charge(&mut self, key: K, rule: Rule, tokens: f64, now: Duration) {
        if let Some(left) = self.0.get_mut(&key) {
            *left = left.grown(rule, now);
            left.amount -= tokens;
        }
    }

    /// Forgives what a key owes beyond so many tokens.
    pub(crate) fn owe_at_most(&mut self, key: K, tokens: f64) {
        if let Some(left) = self.0.get_mut(&key) {
            left.amount = left.amount.max(-tokens);
        }
    }

    /// Drops buckets that are full again, and then the fullest tenth. A flood of fresh keys thus displaces its own
    /// entries, which are nearly full, before exhausted ones.
    fn make_room(&mut self, rule: Rule, now: Duration) {
        self.0.retain(|_, left| left.grown(rule, now).amount < rule.allowance);
        if self.0.len() < ENTRIES_MAX {
            return;
        }
        let mut rest: Vec<f64> = self.0.values().map(|left| left.grown(rule, now).amount).collect();
        let tenth = rest.len() - rest.len() / 10;
        let (_, cut, _) = rest.select_nth_unstable_by(tenth, f64::total_cmp);
        let cut = *cut;
        self.0.retain(|_, left| left.grown(rule, now).amount < cut);
    }
}

impl Left {
    fn take(&mut self, rule: Rule) -> Result<(), Duration> {
        if self.amount < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.amount) / rule.per_second));
        }
        self.amount -= 1.0;
        Ok(())
    }

    fn grown(self, rule: Rule, now: Duration) -> Self {
        let elapsed = now.saturating_sub(self.at).as_secs_f64();
        Self {
            amount: (self.amount + elapsed * rule.per_second).min(rule.allowance),
            // Also where that is earlier: a clock that was ahead must not shut people out until its time has come.
            at: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_addresses_displaces_itself() {
        let mut table = Allowances::default();
        let rule = Rule {
            allowance: 10.0,
            per_second: 0.01,
        };
        for _ in 0..10 {
            table.take(u32::MAX, rule, Duration::ZERO).unwrap();
        }
        for key in 0..(3 * ENTRIES_MAX as u32) {
            table.take(key, rule, Duration::ZERO).unwrap();
        }
        assert!(table.0.len() <= ENTRIES_MAX);
        assert!(
            table.take(u32::MAX, rule, Duration::ZERO).is_err(),
            "the used-up allowance is still remembered"
        );
    }

    #[test]
    fn refused_call_costs_nothing() {
        let mut table = Allowances::default();
        let rule = Rule {
            allowance: 2.0,
            per_second: 4.0,
        };
        let mut take = |millis| table.take(1, rule, Duration::from_millis(millis));
        assert_eq!([take(0), take(0)], [Ok(()), Ok(())]);
        for _ in 0..10 {
            assert_eq!(take(50), Err(Duration::from_millis(200)));
        }
        assert_eq!(take(250), Ok(()));
        assert_eq!(take(250), Err(Duration::from_millis(250)));
    }
}
