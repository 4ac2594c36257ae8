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

/// Deletes the files first and forgets them second: if the server dies in between, the next sweep finds the names again.
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
        for key in keys {
            match state.objects.remove(key).await {
                Ok(()) => removed.push(key),
                Err(error) => tracing::warn!(%error, "an object could not be removed"),
            }
        }
        if removed.is_empty() {
            // The same names would come again at once.
            return Ok(());
        }
        state.store.forget_objects(&removed, state.config.clock.now()).await?;
    }
    Ok(())
}
