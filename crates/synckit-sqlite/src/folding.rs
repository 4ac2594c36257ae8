//! When the log becomes a snapshot, and by which device: `docs/adr/0047-who-folds.md`, and in a full account
//! `docs/adr/0048-room-in-a-full-account.md`.
//!
//! A fold reads the log from the server and writes a snapshot beside it. It touches neither the file nor a batch, so it may end
//! anywhere: what it stored counts only when it is whole.

use std::{
    fmt, mem,
    str::FromStr,
    sync::{MutexGuard, PoisonError, atomic::Ordering},
};

use synckit_client::Quota;
use tokio::time::Instant;

use crate::{
    database::SyncedDatabase, error::Error, pause::Pause, replica::Replica, rows::Compaction, shadow::settings,
    transfer::Standing,
};

/// Of a log with fewer entries since the newest snapshot, nobody makes one.
pub(crate) const FOLD_AFTER: u64 = 10_000;
/// If a fold did not come about, the log grows by one in so many parts of that until another device begins one.
const AGAIN_ONE_IN: u64 = 4;

/// What the last sync found about the log.
#[derive(Debug, Default)]
pub(crate) struct Folding {
    due: Due,
    /// Between two folds of a full account.
    pause: Pause,
}

/// Whether this device is to fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Due {
    #[default]
    No,
    /// The log is long.
    Log,
    /// There is no room for what is unsent.
    Room,
    /// There was no room, and another device has folded since.
    RoomMade,
}

/// The newest snapshot that a file knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct KnownSnapshot {
    /// Its place in the log; 0 if there is none.
    seq: u64,
    /// How many rows there were when this file learned of it, rounded down to a power of two. It does not grow with the log, or each
    /// batch of new rows would pass the same point anew; and devices that learn of it one after the other have the same number.
    rows: u64,
}

impl fmt::Display for KnownSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.seq, self.rows)
    }
}

impl FromStr for KnownSnapshot {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let numbers = text.split_once(' ').and_then(|(seq, rows)| {
            Some(Self {
                seq: seq.parse().ok()?,
                rows: rows.parse().ok()?,
            })
        });
        numbers.ok_or(Error::Damaged)
    }
}

/// Down to a power of two.
const fn rounded(rows: u64) -> u64 {
    match rows.checked_ilog2() {
        Some(power) => 1 << power,
        None => 0,
    }
}

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
        if standing.limit == Some(Quota::Bytes) {
            return self.look_for_room(standing).await;
        }
        self.folding().pause = Pause::default();
        if pushed.is_empty() || self.points(standing.snapshot).until(standing.newest) == 0 {
            return Ok(());
        }
        let points = self.points(self.newest_snapshot(standing).await?);
        if pushed.iter().any(|(from, to)| points.until(*from) < points.until(*to)) {
            self.folding().due = Due::Log;
        }
        Ok(())
    }

    /// Nobody pushes any more, so no batch passes a point. Whatever follows the newest snapshot may be what fills the account: many
    /// entries of few rows, or few large ones.
    async fn look_for_room(&self, standing: &Standing) -> Result<(), Error> {
        let snapshot = self.newest_snapshot(standing).await?;
        let mut folding = self.folding();
        if snapshot.seq > standing.snapshot.seq {
            folding.due = Due::RoomMade;
        } else if standing.newest > snapshot.seq && folding.pause.folds(Instant::now()) {
            folding.due = Due::Room;
        }
        Ok(())
    }

    /// Where the newest snapshot is, as the server says. One that is later than what was read counts as if it were there: a server that
    /// claims one far ahead delays the next fold, and does not prevent all of them.
    async fn newest_snapshot(&self, standing: &Standing) -> Result<KnownSnapshot, Error> {
        let newest = self.0.client.status().await?.snapshot;
        let seq = newest.map_or(0, |snapshot| snapshot.position.seq.min(standing.newest));
        let snapshot = match seq {
            0 => KnownSnapshot::default(),
            seq if seq == standing.snapshot.seq => return Ok(standing.snapshot),
            seq => KnownSnapshot {
                seq,
                rows: rounded(standing.rows),
            },
        };
        self.note(settings::SNAPSHOT, Some(snapshot.to_string())).await?;
        Ok(snapshot)
    }

    /// Whether the app has moved as much as it may, as the server says.
    fn is_slowed(&self) -> bool {
        let usage = self.0.client.plan_usage();
        usage.is_some_and(|usage| usage.transfer_percent >= 100)
    }

    fn points(&self, snapshot: KnownSnapshot) -> Points {
        Points {
            snapshot: snapshot.seq,
            after: snapshot.rows.max(self.0.fold_after.load(Ordering::Relaxed)),
        }
    }

    fn folding(&self) -> MutexGuard<'_, Folding> {
        self.0.folding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_fold_due(&self) -> bool {
        self.folding().due != Due::No
    }

    /// Folds the log, if the last sync found that this device should. Whatever is in the way, another fold follows: another device may
    /// have been faster, the key may have been changed, the server may be out of reach. Returns whether there may be room now for
    /// what there was none before.
    pub(crate) async fn fold_if_due(&self) -> bool {
        let due = mem::take(&mut self.folding().due);
        match due {
            Due::No => return false,
            Due::RoomMade => {}
            // It would take hours, in which nobody else of this user reads.
            _ if self.is_slowed() => return false,
            Due::Log | Due::Room => {
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
            }
        }
        due != Due::Log && self.with(Replica::ask_for_room).await.is_ok()
    }
}

impl Replica {
    /// The newest snapshot, as far as this file knows.
    pub(crate) fn snapshot(&self) -> Result<KnownSnapshot, Error> {
        let known: Option<String> = self.fact(settings::SNAPSHOT)?;
        known.map_or(Ok(KnownSnapshot::default()), |known| known.parse())
    }
}
