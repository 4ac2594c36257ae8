//! The sweep: objects that nothing points at any more are deleted.

use std::sync::Arc;

use synckit_store::StoreError;

use super::repeat_until_stopped;
use crate::state::ServerState;

/// Objects that are looked up at a time.
const SWEEP_PAGE: u32 = 200;
/// Time from a failed deletion of an object to the next attempt. Without it, objects that always fail would come first in every
/// sweep, and the others never.
const RETRY_SECONDS: u64 = 3600;

/// Sweeps at every interval, until the server stops.
pub(crate) async fn sweep_until_stopped(state: Arc<ServerState>) {
    let pause = state.config.sweep_interval;
    repeat_until_stopped(state, "the sweep of objects", pause, sweep).await;
}

/// Deletes the objects first and notes it second: if the server dies in between, the next sweep deletes them again.
async fn sweep(state: &ServerState) -> Result<(), StoreError> {
    let mut failures = 0;
    let mut is_reachable = true;
    while is_reachable && !state.stopping.is_cancelled() {
        let keys = state
            .store
            .sweepable_objects(state.config.clock.now(), SWEEP_PAGE)
            .await?;
        if keys.is_empty() {
            break;
        }
        let (mut removed, mut failed) = (Vec::new(), Vec::new());
        for key in keys {
            let Err(error) = state.objects.remove(key, state.config.clock.now()).await else {
                removed.push(key);
                continue;
            };
            if failures == 0 {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an object could not be removed"
                );
            }
            failures += 1;
            failed.push(key);
            if error.is_unreachable() {
                // The others would probably fail as well, each after its whole time limit.
                is_reachable = false;
                break;
            }
        }
        let now = state.config.clock.now();
        let first_times = state.store.objects_deleted(&removed, now).await?;
        state.metrics.swept_objects.inc_by(first_times);
        let retry_at = now.saturating_add(RETRY_SECONDS);
        state.store.postpone_objects(&failed, retry_at).await?;
    }
    if failures > 0 {
        tracing::warn!(failures, "objects are left for a later sweep");
    }
    Ok(())
}
