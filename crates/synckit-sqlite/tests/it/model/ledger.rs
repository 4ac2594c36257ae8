//! Which edits must still be somewhere when all is quiet.

use std::collections::BTreeSet;

use synckit_sqlite::rows::{Row, Value};

/// The first number that stands for an edit.
const FIRST: i64 = 1_000;

#[derive(Clone, Default)]
pub(crate) struct Ledger {
    made: i64,
    replaced: BTreeSet<i64>,
    /// What was added to counters.
    pub(crate) added: i64,
}

impl Ledger {
    /// A number that nobody wrote before.
    pub(crate) fn token(&mut self) -> i64 {
        self.made += 1;
        FIRST + self.made
    }

    /// Somebody replaced these values, having seen them.
    pub(crate) fn replace<'a>(&mut self, values: impl IntoIterator<Item = &'a Value>) {
        self.replaced.extend(values.into_iter().filter_map(token_of));
    }

    /// An edit that is nowhere and that nobody replaced.
    pub(crate) fn lost<'a>(&self, rows: impl IntoIterator<Item = &'a Row>) -> Option<i64> {
        let rows = rows.into_iter().flat_map(Row::iter);
        let found: BTreeSet<i64> = rows.filter_map(|(_, value)| token_of(value)).collect();
        (FIRST + 1..=FIRST + self.made).find(|token| !found.contains(token) && !self.replaced.contains(token))
    }
}

fn token_of(value: &Value) -> Option<i64> {
    let number = match value {
        Value::Integer(number) => *number,
        Value::Text(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        _ => return None,
    };
    (number > FIRST).then_some(number)
}
