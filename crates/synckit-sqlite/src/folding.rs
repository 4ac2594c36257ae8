//! When the log becomes a snapshot, and by which device: `docs/adr/0047-who-folds.md`.
//!
//! A fold reads the log from the server and writes a snapshot beside it. It touches neither the file nor a batch, so it may end
//! anywhere: what it stored counts only when it is whole.

use std::sync::atomic::Ordering;

use synckit_client::Quota;

use crate::{
    database::SyncedDatabase, error::Error, replica::Replica, rows::Compaction, shadow::settings, status::SyncStatus,
    transfer::Standing,
};

/// Of a log with fewer entries since the newest snapshot, nobody makes one.
pub(crate) const FOLD_AFTER: u64 = 10_000;
/// If a fold did not come about, the log grows by one in so many parts of that until another device begins one.
const AGAIN_ONE_IN: u64 = 4;

/// Where in the log folds begin.
#[derive(Debug, Clone, Copy)]
struct Points {
    /// The newest snapshot.
    snapshot: u64,
    /// The log since then, in entries, that makes the next one due.
    after: u64,
}

impl Points {
    /// How many of them are at or before an entry.
    fn until(self, entry: u64) -> u64 {
        match entry.saturating_sub(self.snapshot).checked_sub(self.after) {
            None | Some(0) => 0,
            Some(more) => 1 + (more - 1) / (self.after / AGAIN_ONE_IN).max(1),
        }
    }
}

impl SyncedDatabase {
    /// From how many entries on a log is folded: for tests, which do not write ten thousand.
    #[doc(hidden)]
    pub fn fold_after(&self, entries: u64) {
        self.0.fold_after.store(entries, Ordering::Relaxed);
    }

    /// Finds out whether a fold is due, and whether it is this device's: one of its batches, which begin and end at `pushed`, passed a
    /// point of the log. Every entry is in one batch, so that one device alone begins.
    pub(crate) async fn look_at_log(&self, pushed: &[(u64, u64)], standing: &Standing) -> Result<(), Error> {
        let is_full = standing.limit == Some(Quota::Bytes);
        let after = match is_full {
            // Nobody pushes any more. A snapshot makes room.
            true => standing.rows / AGAIN_ONE_IN,
            false => standing.rows.max(self.0.fold_after.load(Ordering::Relaxed)),
        };
        let snapshot = standing.snapshot;
        let is_due = Points { snapshot, after }.until(standing.newest) > 0;
        if !is_due || pushed.is_empty() && !is_full {
            return Ok(());
        }
        let newest = self.0.client.status().await?.snapshot;
        let snapshot = newest.map_or(0, |snapshot| snapshot.position.seq);
        self.note(settings::SNAPSHOT, Some(snapshot.to_string())).await?;
        let points = Points { snapshot, after };
        let is_ours = match is_full {
            true => points.until(standing.newest) > 0,
            false => pushed.iter().any(|(from, to)| points.until(*from) < points.until(*to)),
        };
        if is_ours {
            self.0.is_fold_due.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn is_fold_due(&self) -> bool {
        self.0.is_fold_due.load(Ordering::Relaxed)
    }

    /// Folds the log, if the last sync found that this device should. Whatever is in the way, another fold follows: another device may
    /// have been faster, the key may have been changed, the server may be out of reach. Returns whether there may be room now for
    /// what there was none before.
    pub(crate) async fn fold_if_due(&self) -> bool {
        if !self.0.is_fold_due.swap(false, Ordering::Relaxed) {
            return false;
        }
        let folded = self
            .0
            .client
            .fold_with(self.device(), Compaction::read, Compaction::entries);
        match folded.await {
            Ok(report) => tracing::debug!(?report, "the log was folded"),
            Err(error) => {
                tracing::warn!(%error, "the log was not folded");
                return false;
            }
        }
        *self.0.status.borrow() == SyncStatus::OverLimit(Quota::Bytes) && self.with(Replica::ask_for_room).await.is_ok()
    }
}

impl Replica {
    /// The position of the newest snapshot, as far as this file knows.
    pub(crate) fn snapshot(&self) -> Result<u64, Error> {
        let known: Option<String> = self.fact(settings::SNAPSHOT)?;
        known.map_or(Ok(0), |seq| seq.parse().map_err(|_| Error::Damaged))
    }
}
