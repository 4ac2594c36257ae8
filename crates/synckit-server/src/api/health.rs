//! `/healthz` and `/readyz`: is the process alive, and can it do its work. Neither says anything about its data.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde::Serialize;
use synckit_protocol::ProblemCode;

use crate::{
    http::{ApiError, Format, Reply},
    limits::Pool,
    state::ServerState,
};

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// The version that answers, so that an operator sees whether an upgrade has been started.
#[derive(Serialize)]
struct Alive {
    status: &'static str,
    /// The version of the server.
    version: &'static str,
    /// The version of the protocol.
    protocol: u8,
}

/// `GET /healthz`.
pub(super) async fn healthz() -> Result<Response, ApiError> {
    Reply(Format::Json).ok(&Alive {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        protocol: synckit_protocol::PROTOCOL_VERSION,
    })
}

/// `GET /readyz`: the store can be read and written, the disk has room, and the server is not stopping. A server that
/// turned work away within the last seconds because a pool as a whole is used up is not ready.
pub(super) async fn readyz(State(state): State<Arc<ServerState>>) -> Result<Response, ApiError> {
    if state.stopping.is_cancelled() {
        return Err(ApiError::new(ProblemCode::Overloaded).with_detail("the server is stopping"));
    }
    state.readiness.check(state.store.as_ref()).await?;
    state.disk.reserve(0)?;
    let used_up: Vec<_> = state.capacity.used_up().map(Pool::name).collect();
    if !used_up.is_empty() {
        let detail = format!("used up: {}", used_up.join(", "));
        return Err(ApiError::new(ProblemCode::Overloaded).with_detail(detail));
    }
    Reply(Format::Json).ok(&Health { status: "ready" })
}
