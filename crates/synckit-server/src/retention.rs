//! Retention: the log below a settled snapshot goes, piece by piece, in the background.

use std::{sync::Arc, time::Duration};

use crate::{
    state::ServerState,
    store::{Retention, StoreError},
};

/// Pause after each piece, so that whatever waits for the writer goes first.
const BREATH: Duration = Duration::from_millis(5);

/// Lets go at every interval what may go, until the server stops.
pub(crate) async fn retain_until_stopped(state: Arc<ServerState>) {
    let mut interval = tokio::time::interval(state.config.sweep_interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = state.stopping.cancelled() => return,
        }
        if let Err(error) = retain(&state).await {
            tracing::warn!(%error, "retention failed and is tried again later");
        }
    }
}

async fn retain(state: &ServerState) -> Result<(), StoreError> {
    while !state.stopping.is_cancelled() {
        let now = state.config.clock.now();
        let ages = state.config.retention;
        let retention = Retention {
            settled_before: now.saturating_sub(ages.snapshot_settle.as_secs()),
            active_since: now.saturating_sub(ages.device_active.as_secs()),
            unfinished_before: now.saturating_sub(ages.snapshot_upload.as_secs()),
        };
        if !state.store.retain(retention).await? {
            return Ok(());
        }
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}
