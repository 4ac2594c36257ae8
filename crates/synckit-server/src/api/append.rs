//! Appending a batch, and telling the subscribers of its stream.
//!
//! Invariant: every append that the store confirmed is announced, also if the client that pushed is gone.

use std::sync::Arc;

use synckit_protocol::Position;
use synckit_store::{Append, NewBatch, StoreError, StreamId, Unavailable};

use crate::{
    http::ApiError,
    limits::Reservation,
    metering::{AppMeter, Reach},
    platform::ToTheEnd,
    state::ServerState,
};

/// Appends a batch and announces its position after the store confirmed it: the one place that learns of an append, on
/// every engine. `room` is held until the append is done, and so is the room of the app's plan.
///
/// A client that disconnects cancels its request, but an append that was begun is stored all the same: without
/// [`ToTheEnd`], nobody would hear of it.
pub(super) async fn append_and_announce(
    state: &Arc<ServerState>,
    app: &Arc<AppMeter>,
    batch: NewBatch,
    room: Reservation,
) -> Result<Append, ApiError> {
    let state = Arc::clone(state);
    let stream = batch.stream;
    let (of_plan, room_of_plan) = app.room(batch.sealed.len() as u64, Reach::Plan);
    let batch = NewBatch {
        room: room_of_plan,
        ..batch
    };
    let (app, sealed_bytes) = (Arc::clone(app), batch.sealed.len() as u64);
    let appending = ToTheEnd::new(async move {
        let appended = state.store.append_batch(batch).await;
        drop(room);
        if appended.is_ok() {
            // Here, so that nobody stores uncounted bytes by going away.
            state.meter.moved(&app, stream, sealed_bytes);
        }
        if let (Some(of_plan), Ok(Append::Stored { repeated: false, .. })) = (of_plan, &appended) {
            of_plan.keep();
        }
        match &appended {
            Ok(Append::Stored { position, .. }) => announce(&state, stream, *position),
            Ok(_) => {}
            // If this fails, too, the repeated push announces it.
            Err(error) if may_be_stored(error) => {
                if let Ok(status) = state.store.status(stream).await {
                    announce(&state, stream, status.latest);
                }
            }
            Err(_) => {}
        }
        appended
    });
    Ok(appending.await?)
}

/// Tells the subscribers at this node, and those at others.
fn announce(state: &ServerState, stream: StreamId, position: Position) {
    state.live.announce(stream, position);
    if let Some(outbox) = &state.outbox {
        outbox.put(stream);
    }
}

/// Whether a failure leaves open whether the batch is stored: the connection to the database broke before the answer, say.
fn may_be_stored(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Database(_)
            | StoreError::Unavailable {
                step: Unavailable::Lost | Unavailable::Statement,
                ..
            }
    )
}
