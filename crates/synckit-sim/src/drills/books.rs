//! The books: pushed and acknowledged entries, compared with the whole log.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use synckit_client::{ChangeEntry, ChangeOp, Cursor, DeviceId, SyncKitClient, Timestamp};

use super::journal::Record;

/// Bytes of text in each entry.
const FILLER_BYTES: usize = 120;

/// The changes of one atomic push, made from these three values alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Batch {
    /// The pushing client.
    pub by: String,
    /// Its number there.
    pub number: u64,
    /// The number of changes.
    pub count: u32,
}

impl Batch {
    /// The changes.
    #[must_use]
    pub fn changes(&self) -> Vec<ChangeEntry> {
        (0..self.count)
            .map(|index| ChangeEntry {
                table: "drill".to_owned(),
                op: ChangeOp::Insert,
                row_id: self.row(index),
                timestamp: Timestamp::from_micros(i64::try_from(self.number).unwrap_or(i64::MAX)),
                data: Some(serde_json::json!({ "of": self.count, "text": "x".repeat(FILLER_BYTES) })),
            })
            .collect()
    }

    fn row(&self, index: u32) -> String {
        format!("{}/{}/{index}", self.by, self.number)
    }
}

/// The facts known outside of the server.
#[derive(Debug, Clone, Default)]
pub struct Books {
    attempted: BTreeSet<Batch>,
    acknowledged: BTreeSet<Batch>,
}

/// The contents of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Entries that were acknowledged, each there once.
    pub acknowledged: u64,
    /// Entries that are there although their answer was lost.
    pub unheard: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.unheard += other.unheard;
    }
}

impl Tally {
    /// Nothing.
    pub const ZERO: Self = Self {
        acknowledged: 0,
        unheard: 0,
    };
}

impl Books {
    /// Notes that a batch is about to be pushed.
    pub fn attempt(&mut self, batch: Batch) {
        self.attempted.insert(batch);
    }

    /// Notes that a batch was acknowledged.
    pub fn acknowledge(&mut self, batch: Batch) {
        self.acknowledged.insert(batch);
    }

    /// Takes over the records of a client's journal.
    pub fn enter(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Pushing { batch, .. } => self.attempt(batch.clone()),
                Record::Pushed { batch } => self.acknowledge(batch.clone()),
                _ => {}
            }
        }
    }

    /// The number of batches that were never acknowledged.
    #[must_use]
    pub fn open(&self) -> usize {
        self.attempted.difference(&self.acknowledged).count()
    }

    /// Compares a whole log with the books: it contains every acknowledged entry once, no entry twice, no entry that
    /// nobody pushed, and no part of a batch.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn audit(&self, log: &[ChangeEntry]) -> anyhow::Result<Tally> {
        let mut times: BTreeMap<&str, u32> = BTreeMap::new();
        for entry in log {
            *times.entry(entry.row_id.as_str()).or_default() += 1;
        }
        if let Some((row, times)) = times.iter().find(|(_, times)| **times > 1) {
            anyhow::bail!("{row} is there {times} times");
        }
        let mut tally = Tally::ZERO;
        for batch in &self.attempted {
            let there = (0..batch.count)
                .filter(|index| times.remove(batch.row(*index).as_str()).is_some())
                .count();
            let there = u32::try_from(there)?;
            ensure!(
                there == batch.count || there == 0,
                "of {batch:?} only {there} entries are there"
            );
            if self.acknowledged.contains(batch) {
                ensure!(there > 0, "{batch:?} was acknowledged and is lost");
                tally.acknowledged += u64::from(there);
            } else {
                tally.unheard += u64::from(there);
            }
        }
        ensure!(times.is_empty(), "nobody pushed {:?}", times.keys().next());
        Ok(tally)
    }
}

/// Pulls the whole log.
///
/// # Errors
/// If a page cannot be pulled.
pub async fn whole_log(client: &SyncKitClient, device_id: DeviceId) -> anyhow::Result<Vec<ChangeEntry>> {
    let (mut log, mut cursor) = (Vec::new(), Cursor::START);
    loop {
        let (changes, next, has_more) = client.pull(device_id, cursor).await.context("the audit's pull")?;
        log.extend(changes);
        cursor = next;
        if !has_more {
            return Ok(log);
        }
    }
}
