//! Appending a batch, and telling the subscribers of its stream.
//!
//! Invariant: every append that the store confirmed is announced, also if the client that pushed is gone.

use std::sync::Arc;

use synckit_store::{Append, NewBatch, StoreError, TaskLost, Unavailable};

use crate::{http::ApiError, limits::Reservation, state::ServerState};

/// Appends a batch and announces its position after the store confirmed it: the one place that learns of an append, on
/// every engine. `room` is held until the append is done.
///
/// It runs in a task of its own. A client that disconnects cancels its request, but an append that was begun is stored
/// all the same: without the task, nobody would hear of it.
pub(super) async fn append_and_announce(
    state: &Arc<ServerState>,
    batch: NewBatch,
    room: Reservation,
) -> Result<Append, ApiError> {
    let state = Arc::clone(state);
    let appended = tokio::spawn(async move {
        let stream = batch.stream;
        let appended = state.store.append_batch(batch).await;
        drop(room);
        match &appended {
            Ok(Append::Stored { position, .. }) => {
                state.live.announce(stream, *position);
                if let Some(outbox) = &state.outbox {
                    outbox.put(stream);
                }
            }
            Ok(_) => {}
            // If this fails, too, the repeated push announces it.
            Err(error) if may_be_stored(error) => {
                if let Ok(status) = state.store.status(stream).await {
                    state.live.announce(stream, status.latest);
                    if let Some(outbox) = &state.outbox {
                        outbox.put(stream);
                    }
                }
            }
            Err(_) => {}
        }
        appended
    });
    let appended: Result<Append, StoreError> = appended
        .await
        .map_err(|lost| ApiError::internal(TaskLost::from(lost)))?;
    Ok(appended?)
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
