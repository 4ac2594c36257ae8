//! How fast bytes move when the budget of the month is used up: 64 KiB a minute for each user and each way.

use parking_lot::Mutex;
use synckit_protocol::limits;
use synckit_store::StreamId;
use tokio::time::Instant;

use crate::limits::{Allowances, Rule};

/// What moves. Each has a floor of its own, so that a large file does not keep notes from moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// Batches and parts of snapshots to the server.
    Push,
    /// Pages and parts of snapshots from the server.
    Pull,
    /// Files to the store.
    Upload,
    /// Files from the store.
    Download,
}

/// The way is not free for so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransferLimit {
    pub(crate) retry_after_seconds: u64,
}

/// A token is a KiB: what a call takes at least.
const TOKEN_BYTES: u64 = 1024;
const A_MINUTE: u64 = limits::FLOOR_BYTES_A_MINUTE / TOKEN_BYTES;
const RULE: Rule = Rule {
    allowance: A_MINUTE as f64,
    per_second: A_MINUTE as f64 / 60.0,
};

/// The floors of one node. They are in memory: a restart gives each user one more call.
#[derive(Debug)]
pub(crate) struct Floor {
    started: Instant,
    table: Mutex<Allowances<(StreamId, Way)>>,
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            table: Mutex::default(),
        }
    }
}

impl Floor {
    /// Takes a token of a way, if one is left.
    pub(crate) fn admit(&self, stream: StreamId, way: Way) -> Result<(), TransferLimit> {
        let taken = self.table.lock().take((stream, way), RULE, self.started.elapsed());
        taken.map_err(|wait| TransferLimit {
            retry_after_seconds: wait.as_secs_f64().ceil().max(1.0) as u64,
        })
    }

    /// Takes further tokens for more bytes than one has, also such that have yet to grow: those of a day at most.
    pub(crate) fn charge(&self, stream: StreamId, way: Way, bytes: u64) {
        let most = limits::FLOOR_MINUTES_MAX * A_MINUTE;
        // Below 2^53.
        let further = bytes.div_ceil(TOKEN_BYTES).min(most).saturating_sub(1) as f64;
        self.table
            .lock()
            .charge((stream, way), RULE, further, self.started.elapsed());
    }
}
