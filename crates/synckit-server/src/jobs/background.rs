//! Repeats a job at every interval, until the server stops.
//!
//! Invariant: a job that fails or panics runs again at the next interval, and ends no other job.

use std::{sync::Arc, time::Duration};

use synckit_store::StoreError;
use tokio::time::{MissedTickBehavior, interval};

use crate::{platform::caught, state::ServerState};

/// Runs `work` now and after each `pause`, until the server stops. `name` is its name in the log.
pub(crate) async fn repeat_until_stopped(
    state: Arc<ServerState>,
    name: &'static str,
    pause: Duration,
    work: impl AsyncFn(&ServerState) -> Result<(), StoreError>,
) {
    let mut interval = interval(pause);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = state.stopping.cancelled() => return,
        }
        match caught(work(&state)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, name, "background work failed and is tried again later"),
            Err(lost) => tracing::error!(%lost, name, "background work was cut short and is tried again later"),
        }
    }
}
