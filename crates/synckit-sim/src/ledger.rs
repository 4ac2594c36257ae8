//! The knowledge outside of the devices of a run: every edit, every acknowledgement, and the promises that follow.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::ensure;
use parking_lot::Mutex;
use synckit_client::{ChangeEntry, Timestamp};

use crate::device::{Policy, Rows};

/// The knowledge outside of the devices.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Every edit that was ever made, by its time, which no two edits share.
    edits: Mutex<BTreeMap<Timestamp, (Policy, ChangeEntry)>>,
    /// Edits whose push was acknowledged.
    acknowledged: Mutex<BTreeSet<Timestamp>>,
    /// Files whose upload was acknowledged.
    files: Mutex<BTreeSet<u8>>,
    /// Whether the server was restored from an older copy: from then on, devices may say so.
    went_back: AtomicBool,
}

impl Ledger {
    /// Notes an edit.
    pub fn edited(&self, policy: Policy, edit: &ChangeEntry) {
        self.edits.lock().insert(edit.timestamp, (policy, edit.clone()));
    }

    /// Notes edits whose push was acknowledged.
    pub fn acknowledge(&self, edits: impl Iterator<Item = ChangeEntry>) {
        self.acknowledged.lock().extend(edits.map(|edit| edit.timestamp));
    }

    /// Notes a file whose upload was acknowledged.
    pub fn uploaded(&self, file: u8) {
        self.files.lock().insert(file);
    }

    /// Notes that the server is restored from an older copy.
    pub fn goes_back(&self) {
        self.went_back.store(true, Ordering::SeqCst);
    }

    /// Whether the server was restored from an older copy.
    pub fn went_back(&self) -> bool {
        self.went_back.load(Ordering::SeqCst)
    }

    /// Every file whose upload was acknowledged.
    pub fn files(&self) -> BTreeSet<u8> {
        self.files.lock().clone()
    }

    /// Number of edits.
    pub fn edits(&self) -> usize {
        self.edits.lock().len()
    }

    /// The newest version of every row that was ever written on any device.
    pub fn newest(&self) -> Rows {
        let edits = self.edits.lock();
        let versions = edits.values().map(|(_, edit)| (edit.row_id.clone(), edit.clone()));
        versions.collect()
    }

    /// Checks that a log holds nothing but edits that somebody made.
    ///
    /// # Errors
    /// If it does.
    pub fn check_made(&self, log: &[ChangeEntry]) -> anyhow::Result<()> {
        let edits = self.edits.lock();
        for entry in log {
            ensure!(
                edits.contains_key(&entry.timestamp),
                "nobody made the edit {}",
                entry.timestamp.as_micros()
            );
        }
        Ok(())
    }

    /// Checks that every edit is in the log as often as its push promises.
    ///
    /// # Errors
    /// If one is not.
    pub fn check_pushed(&self, log: &[ChangeEntry]) -> anyhow::Result<()> {
        let mut times: BTreeMap<Timestamp, usize> = BTreeMap::new();
        for entry in log {
            *times.entry(entry.timestamp).or_default() += 1;
        }
        let acknowledged = self.acknowledged.lock();
        for (edited_at, (policy, _)) in &*self.edits.lock() {
            let (number, times) = (edited_at.as_micros(), times.get(edited_at).copied().unwrap_or(0));
            ensure!(
                acknowledged.contains(edited_at),
                "the edit {number} was never acknowledged"
            );
            ensure!(times > 0, "the edit {number} was acknowledged and is lost");
            ensure!(
                times == 1 || *policy == Policy::Plain,
                "the edit {number} of a {policy:?} push is in the log {times} times"
            );
        }
        Ok(())
    }
}
