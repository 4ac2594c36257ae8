//! Retention: deletes the log that a settled snapshot covers, and the remains of deleted accounts, in bounded pieces.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use synckit_store::{Hour, Retention, StoreError, USAGE_DAYS};

use super::repeat_until_stopped;
use crate::state::ServerState;

/// The shortest pause after a piece.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// Pauses after a piece, for as long as it took: waiting writes come first, and a slow disk serves others for half
/// of the time.
pub(crate) async fn pause_after(began: Instant) {
    tokio::time::sleep(began.elapsed().max(PAUSE_MIN)).await;
}

/// Deletes unneeded data at every interval, until the server stops.
pub(crate) async fn retain_until_stopped(state: Arc<ServerState>) {
    let pause = state.config.sweep_interval;
    repeat_until_stopped(state, "retention", pause, retain).await;
}

async fn retain(state: &ServerState) -> Result<(), StoreError> {
    while !state.stopping.is_cancelled() {
        let began = Instant::now();
        if !step(state).await? {
            break;
        }
        pause_after(began).await;
    }
    let now = state.config.clock.now();
    let kept_since = Hour::of(now.saturating_sub(USAGE_DAYS * 24 * 3600));
    while !state.stopping.is_cancelled() && state.store.forget_usage(kept_since, now).await? {
        tokio::time::sleep(PAUSE_MIN).await;
    }
    Ok(())
}

/// Deletes a bounded amount of unneeded data; returns whether more remains.
pub(crate) async fn step(state: &ServerState) -> Result<bool, StoreError> {
    let now = state.config.clock.now();
    let ages = state.config.retention;
    let retention = Retention {
        settled_before: now.saturating_sub(ages.snapshot_settle.as_secs()),
        active_since: now.saturating_sub(ages.device_active.as_secs()),
        unfinished_before: now.saturating_sub(ages.snapshot_upload.as_secs()),
        ended_until: now,
        now,
    };
    state.store.retain(retention).await
}
