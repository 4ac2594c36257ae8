//! News between the nodes on one database.
//!
//! One task tells the others which streams were pushed to, at most once in 10 ms and never in the transaction of a push.
//! Another one listens, and asks for the heads of the streams that are subscribed to at this node. While it cannot listen,
//! it asks every second; while it listens, every 15 s all the same, because a node may die before it tells of a push.
//!
//! Invariant: a listener that went silent is found within half a minute: the node must hear its own signs of life.

use std::{sync::Arc, time::Duration};

use synckit_store::{ChangedStreams, Notices, StoreError, StreamId};
use tokio::time::{Instant, interval_at, sleep, timeout};

use crate::{live::Outbox, platform::caught, state::ServerState};

/// Shortest time between two notices of a node.
const TELL_EVERY: Duration = Duration::from_millis(10);
/// How often the heads are read, and a listener is looked for, while there is none.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How often a node sends a sign of life, and reads every head.
const SIGN_EVERY: Duration = Duration::from_secs(15);
/// Time within which a new listener must hear the first one.
const FIRST_SIGN_MAX: Duration = Duration::from_secs(2);
/// Streams of one transaction of the store.
const LOOK_UP_MAX: usize = 1024;

/// Tells the other nodes which streams were pushed to, until the server stops. The embedded database has one node.
pub(crate) async fn tell_other_nodes_until_stopped(state: Arc<ServerState>) {
    let Some(outbox) = &state.outbox else {
        return;
    };
    while !state.stopping.is_cancelled() {
        let notice = tokio::select! {
            notice = outbox.next() => Some(notice),
            // The last pushes of a node that stops.
            () = state.stopping.cancelled() => outbox.take(),
        };
        let Some(notice) = notice else {
            return;
        };
        if let Err(error) = state.store.send_notice(notice).await {
            tracing::warn!(%error, "other nodes could not be told of pushes, and are told again");
            outbox.put_any();
            sleep(POLL_EVERY).await;
        }
        sleep(TELL_EVERY).await;
    }
}

/// Hears what other nodes stored, until the server stops. The embedded database has one node.
pub(crate) async fn hear_other_nodes_until_stopped(state: Arc<ServerState>) {
    let Some(outbox) = &state.outbox else {
        return;
    };
    loop {
        let hearing = async {
            match state.store.listen().await {
                Ok(Some(notices)) => hear(&state, outbox, notices).await,
                Ok(None) => announce_heads(&state, state.live.streams()).await,
                Err(error) => {
                    tracing::debug!(%error, "there is no listener for other nodes");
                    announce_heads(&state, state.live.streams()).await
                }
            }
        };
        let heard = tokio::select! {
            heard = caught(hearing) => heard,
            () = state.stopping.cancelled() => return,
        };
        state.metrics.listens_to_nodes.set(0);
        match heard {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "news of other nodes cannot be read, and are looked for again"),
            Err(lost) => tracing::error!(%lost, "hearing other nodes was cut short, and begins again"),
        }
        tokio::select! {
            () = sleep(POLL_EVERY) => {}
            () = state.stopping.cancelled() => return,
        }
    }
}

/// Hears notices until the listener is lost.
async fn hear(state: &ServerState, outbox: &Outbox, mut notices: Notices) -> Result<(), StoreError> {
    outbox.put_sign();
    let first_own = async {
        while let Some(notice) = notices.next().await {
            if outbox.is_own(&notice) {
                return true;
            }
        }
        false
    };
    if timeout(FIRST_SIGN_MAX, first_own).await != Ok(true) {
        tracing::warn!("the database passes no notices on: news of other nodes take up to a second");
        return announce_heads(state, state.live.streams()).await;
    }
    state.metrics.listens_to_nodes.set(1);
    // Whatever was stored before it listened.
    announce_heads(state, state.live.streams()).await?;
    let mut signs = interval_at(Instant::now() + SIGN_EVERY, SIGN_EVERY);
    let mut has_own = true;
    loop {
        let notice = tokio::select! {
            notice = notices.next() => notice,
            _ = signs.tick() => {
                if !has_own {
                    tracing::warn!("the listener for other nodes went silent, and is replaced");
                    return Ok(());
                }
                has_own = false;
                outbox.put_sign();
                announce_heads(state, state.live.streams()).await?;
                continue;
            }
        };
        let Some(notice) = notice else {
            tracing::warn!("the listener for other nodes was lost, and is replaced");
            return Ok(());
        };
        let is_own = outbox.is_own(&notice);
        has_own |= is_own;
        let streams = match notice.streams {
            ChangedStreams::Any => state.live.streams(),
            // This node has announced them.
            ChangedStreams::These(_) if is_own => continue,
            ChangedStreams::These(streams) => state.live.subscribed(streams),
        };
        announce_heads(state, streams).await?;
    }
}

async fn announce_heads(state: &ServerState, streams: Vec<StreamId>) -> Result<(), StoreError> {
    for some in streams.chunks(LOOK_UP_MAX) {
        for (stream, head) in state.store.heads(some.to_vec()).await? {
            state.live.announce(stream, head);
        }
    }
    Ok(())
}
