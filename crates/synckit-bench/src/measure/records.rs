//! Records as an app of notes or tasks has them: a UUID for a row id, six fields, text of words.

use std::time::{Duration, UNIX_EPOCH};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use synckit_client::{ChangeEntry, ChangeOp, Timestamp};
use uuid::Builder;

const WORDS: [&str; 32] = [
    "account", "answer", "before", "bridge", "city", "clear", "device", "early", "field", "garden", "harbour",
    "island", "journey", "kitchen", "letter", "market", "number", "orange", "paper", "quiet", "river", "season",
    "table", "under", "valley", "window", "yellow", "again", "between", "carry", "distance", "every",
];

/// The records of a seed.
#[derive(Debug)]
pub(super) struct Records {
    random: StdRng,
    record_bytes: usize,
    made: u64,
}

impl Records {
    /// Records whose row data has about `record_bytes` bytes as JSON.
    pub(super) fn new(seed: u64, record_bytes: u64) -> Self {
        let record_bytes = usize::try_from(record_bytes).unwrap_or(usize::MAX);
        Self {
            random: StdRng::seed_from_u64(seed),
            record_bytes,
            made: 0,
        }
    }

    /// The next records.
    pub(super) fn take(&mut self, count: u64) -> Vec<ChangeEntry> {
        (0..count).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> ChangeEntry {
        self.made += 1;
        let random = &mut self.random;
        let row_id = Builder::from_random_bytes(random.r#gen()).into_uuid().to_string();
        let created = UNIX_EPOCH + Duration::from_secs(1_760_000_000 + self.made);
        let mut data = json!({
            "title": words(random, 24),
            "body": "",
            "done": random.gen_bool(0.3),
            "priority": random.gen_range(0..5),
            "amount": f64::from(random.gen_range(0..1_000_000)) / 100.0,
            "due": 1_760_000_000 + random.gen_range(0..40_000_000),
        });
        let rest = self.record_bytes.saturating_sub(data.to_string().len());
        data["body"] = words(random, rest).into();
        ChangeEntry {
            table: "tasks".to_owned(),
            op: ChangeOp::Insert,
            row_id,
            timestamp: Timestamp::from(created),
            data: Some(data),
        }
    }
}

/// Words of exactly `bytes` bytes.
fn words(random: &mut StdRng, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 10);
    while text.len() < bytes {
        text.push_str(WORDS[random.gen_range(0..WORDS.len())]);
        text.push(' ');
    }
    text.truncate(bytes);
    text
}

/// The row data of records as JSON.
pub(super) fn data_bytes(records: &[ChangeEntry]) -> u64 {
    records
        .iter()
        .filter_map(|record| record.data.as_ref())
        .map(|data| data.to_string().len() as u64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_makes_the_same_records_of_the_wanted_size() {
        let (a, b) = (Records::new(7, 200).take(50), Records::new(7, 200).take(50));
        assert_eq!(a, b);
        assert!(a != Records::new(8, 200).take(50));
        assert!(
            a.iter()
                .all(|record| record.data.as_ref().unwrap().to_string().len() == 200)
        );
    }
}
