//! `GET /api/sync/events`: the newest position of a stream, whenever it changes.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, header};
use synckit_protocol::{MEDIA_TYPE_EVENTS, ProblemCode};

use super::access::AppAccess;
use crate::{
    http::ApiError,
    limits::Owners,
    live::{Subscribers, event_body},
    state::ServerState,
};

/// Headers without which a proxy may hold events back or change them.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE_EVENTS)),
    (
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    ),
    (
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    ),
];

/// `GET /api/sync/events`.
pub(super) async fn events(State(state): State<Arc<ServerState>>, access: AppAccess) -> Result<Response, ApiError> {
    if state.stopping.is_cancelled() {
        return Err(ApiError::new(ProblemCode::Overloaded).with_detail("the server is stopping"));
    }
    let owner = Owners::account(access.stream.user_id);
    let place = state.capacity.event_streams.try_take(owner, 1)?;
    // Before the reads: an append or an end of the session in between is told to the subscription.
    let subscription = Subscribers::subscribe(&state.live, access.stream, access.session_id);
    let now = state.config.clock.now();
    // The memory of sessions that admitted this request may be some seconds old.
    let session = state.store.session(access.session_id, now).await?;
    session.ok_or(ProblemCode::SessionEnded)?;
    let latest = state.store.status(access.stream).await?.latest;
    state.live.announce(access.stream, latest);
    let body = event_body(
        subscription,
        state.config.timeouts.event_stream,
        state.stopping.clone(),
        state.metrics.event_positions.clone(),
        place,
    );
    Ok((HEADERS, body).into_response())
}
