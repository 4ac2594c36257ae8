//! Retention: the log below a settled snapshot, and what is left of deleted accounts, go piece by piece, in the
//! background.

use std::{sync::Arc, time::Duration};

use synckit_store::{Retention, StoreError};

use super::repeat_until_stopped;
use crate::state::ServerState;

/// Pause after each piece, so that whatever waits for the writer goes first.
pub(crate) const BREATH: Duration = Duration::from_millis(5);

/// Lets go at every interval what may go, until the server stops.
pub(crate) async fn retain_until_stopped(state: Arc<ServerState>) {
    repeat_until_stopped(state, "retention", retain).await;
}

async fn retain(state: &ServerState) -> Result<(), StoreError> {
    while !state.stopping.is_cancelled() && step(state).await? {
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}

/// Lets one piece go. `false` if nothing more may go now.
pub(crate) async fn step(state: &ServerState) -> Result<bool, StoreError> {
    let now = state.config.clock.now();
    let ages = state.config.retention;
    let retention = Retention {
        settled_before: now.saturating_sub(ages.snapshot_settle.as_secs()),
        active_since: now.saturating_sub(ages.device_active.as_secs()),
        unfinished_before: now.saturating_sub(ages.snapshot_upload.as_secs()),
    };
    state.store.retain(retention).await
}
