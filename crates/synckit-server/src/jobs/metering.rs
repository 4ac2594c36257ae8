//! Adds what moved to the database, and reads what each app has of its plan.

use std::sync::Arc;

use synckit_store::StoreError;

use super::repeat_until_stopped;
use crate::state::ServerState;

/// Runs a round of the meter now and every few seconds, until the server stops, and a last one then.
pub(crate) async fn meter_until_stopped(state: Arc<ServerState>) {
    let pause = state.config.meter_interval;
    repeat_until_stopped(Arc::clone(&state), "the meter", pause, round).await;
    if let Err(error) = round(&state).await {
        tracing::warn!(%error, "what moved in the last seconds could not be counted");
    }
}

async fn round(state: &ServerState) -> Result<(), StoreError> {
    state
        .meter
        .round(state.store.as_ref(), state.config.clock.now())
        .await?;
    state.metrics.meter_rounds.inc();
    Ok(())
}
