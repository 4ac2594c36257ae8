//! How fast the bytes of one user move: freely up to the user's share of the app, if there is one; and 64 KiB a minute in each way
//! beyond it, and when the budget of the month is used up.

use std::time::Duration;

use parking_lot::Mutex;
use synckit_protocol::limits;
use synckit_store::StreamId;
use tokio::time::Instant;

use crate::{
    billing::UserLimit,
    limits::{Allowances, Rule},
};

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

/// A token of the floor is a KiB: what a call takes at least.
const TOKEN_BYTES: u64 = 1024;
const A_MINUTE: u64 = limits::FLOOR_BYTES_A_MINUTE / TOKEN_BYTES;
const FLOOR: Rule = Rule {
    allowance: A_MINUTE as f64,
    per_second: A_MINUTE as f64 / 60.0,
};

/// A share is counted in millionths of itself, so that shares of all sizes follow one rule.
const WHOLE_SHARE: f64 = 1e6;
const SHARE: Rule = Rule {
    allowance: WHOLE_SHARE,
    per_second: WHOLE_SHARE / limits::USER_SHARE_SECONDS as f64,
};

/// The paces of the users of one node. They are in memory: a restart gives each user one more call over the floor, and a new
/// share.
#[derive(Debug)]
pub(crate) struct Paces {
    started: Instant,
    floor: Mutex<Allowances<(StreamId, Way)>>,
    shares: Mutex<Allowances<StreamId>>,
}

impl Default for Paces {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            floor: Mutex::default(),
            shares: Mutex::default(),
        }
    }
}

impl Paces {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether anything is left of the share of a user.
    pub(crate) fn has_share(&self, stream: StreamId) -> bool {
        self.shares.lock().take(stream, SHARE, self.now()).is_ok()
    }

    /// Takes bytes that moved from the share of a user.
    pub(crate) fn take_share(&self, stream: StreamId, limit: UserLimit, bytes: u64) {
        // A single move takes two shares at most: what was moved at once is not held against a user for ever.
        let part = (bytes as f64 / limit.transfer_bytes() as f64).min(2.0);
        self.shares.lock().charge(stream, SHARE, part * WHOLE_SHARE, self.now());
    }

    /// Takes bytes of the floor of a way, if a token is left; also such that have yet to grow.
    pub(crate) fn admit(&self, stream: StreamId, way: Way, bytes: u64) -> Result<(), TransferLimit> {
        let (mut floor, now) = (self.floor.lock(), self.now());
        let taken = floor.take((stream, way), FLOOR, now);
        taken.map_err(|wait| TransferLimit {
            retry_after_seconds: wait.as_secs_f64().ceil().max(1.0) as u64,
        })?;
        charge(&mut floor, (stream, way), bytes, now);
        Ok(())
    }

    /// Takes bytes of a way that was admitted for none.
    pub(crate) fn charge(&self, stream: StreamId, way: Way, bytes: u64) {
        charge(&mut self.floor.lock(), (stream, way), bytes, self.now());
    }
}

/// Takes further tokens for more bytes than one has. What has to grow back takes a day at most, also after calls at once.
fn charge(floor: &mut Allowances<(StreamId, Way)>, key: (StreamId, Way), bytes: u64, now: Duration) {
    let most = limits::FLOOR_MINUTES_MAX * A_MINUTE;
    // Below 2^53.
    let further = bytes.div_ceil(TOKEN_BYTES).min(most).saturating_sub(1) as f64;
    floor.charge(key, FLOOR, further, now);
    floor.owe_at_most(key, most as f64);
}
