//! Ends the event streams of sessions that have ended.
//!
//! It asks the store and not this node's memory: sessions are also ended by other nodes and by the command line.

use std::{collections::HashSet, sync::Arc, time::Duration};

use synckit_protocol::{SessionId, limits::REVOCATION_SECONDS};
use synckit_store::StoreError;

use super::repeat_until_stopped;
use crate::state::ServerState;

/// Pause between two look-ups of the sessions.
const LOOK_UP_EVERY: Duration = Duration::from_secs(2);
/// The rest is for the look-up itself, and for the last events of a stream.
const _: () = assert!(2 * LOOK_UP_EVERY.as_secs() < REVOCATION_SECONDS);
/// Sessions of one transaction of the store.
const LOOK_UP_MAX: usize = 1024;

/// Ends the event streams of ended sessions every two seconds, until the server stops.
pub(crate) async fn end_event_streams_until_stopped(state: Arc<ServerState>) {
    repeat_until_stopped(state, "the end of event streams", LOOK_UP_EVERY, end_event_streams).await;
}

async fn end_event_streams(state: &ServerState) -> Result<(), StoreError> {
    for sessions in state.live.sessions().chunks(LOOK_UP_MAX) {
        let live = state
            .store
            .live_sessions(sessions.to_vec(), state.config.clock.now())
            .await?;
        let mut ended: HashSet<SessionId> = sessions.iter().copied().collect();
        for id in live {
            ended.remove(&id);
        }
        if !ended.is_empty() {
            state.live.end(&ended);
        }
    }
    Ok(())
}
