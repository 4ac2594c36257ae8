//! The sweep: objects that nothing points at any more are deleted.

use std::sync::Arc;

use synckit_store::StoreError;

use super::repeat_until_stopped;
use crate::state::ServerState;

/// Objects that are looked up at a time.
const SWEEP_PAGE: u32 = 200;

/// Sweeps at every interval, until the server stops.
pub(crate) async fn sweep_until_stopped(state: Arc<ServerState>) {
    let pause = state.config.sweep_interval;
    repeat_until_stopped(state, "the sweep of objects", pause, sweep).await;
}

/// Deletes the objects first and notes it second: if the server dies in between, the next sweep deletes them again.
async fn sweep(state: &ServerState) -> Result<(), StoreError> {
    while !state.stopping.is_cancelled() {
        let keys = state
            .store
            .sweepable_objects(state.config.clock.now(), SWEEP_PAGE)
            .await?;
        if keys.is_empty() {
            return Ok(());
        }
        let mut removed = Vec::with_capacity(keys.len());
        let mut failures = 0_u32;
        for key in keys {
            match state.objects.remove(key, state.config.clock.now()).await {
                Ok(()) => removed.push(key),
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "an object could not be removed"
                        );
                    }
                    failures += 1;
                    if error.is_unreachable() {
                        // The others would fail as well, each after its whole time limit.
                        break;
                    }
                }
            }
        }
        if failures > 0 {
            tracing::warn!(failures, removed = removed.len(), "objects are left for the next sweep");
        }
        if removed.is_empty() {
            // The same names would come again at once.
            return Ok(());
        }
        let first_times = state.store.objects_deleted(&removed, state.config.clock.now()).await?;
        state.metrics.swept_objects.inc_by(first_times);
    }
    Ok(())
}
