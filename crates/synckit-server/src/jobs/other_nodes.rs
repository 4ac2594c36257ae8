//! Hears of appends at other nodes: asks for the heads of the streams that are subscribed to at this one.

use std::{sync::Arc, time::Duration};

use synckit_store::StoreError;

use super::repeat_until_stopped;
use crate::{startup::config::Database, state::ServerState};

/// How often the heads are read.
const LOOK_UP_EVERY: Duration = Duration::from_secs(1);
/// Streams of one transaction of the store.
const LOOK_UP_MAX: usize = 1024;

/// Announces what other nodes stored, every second, until the server stops. The embedded database has one node.
pub(crate) async fn hear_other_nodes_until_stopped(state: Arc<ServerState>) {
    if matches!(state.config.database, Database::Embedded) {
        return;
    }
    repeat_until_stopped(state, "news of other nodes", LOOK_UP_EVERY, hear_other_nodes).await;
}

async fn hear_other_nodes(state: &ServerState) -> Result<(), StoreError> {
    for streams in state.live.streams().chunks(LOOK_UP_MAX) {
        for (stream, head) in state.store.heads(streams.to_vec()).await? {
            state.live.announce(stream, head);
        }
    }
    Ok(())
}
