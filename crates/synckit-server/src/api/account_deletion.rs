//! `DELETE /api/account`: the end of an account and of everything that it keeps.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use synckit_protocol::ProblemCode;

use super::access::AccountAccess;
use crate::{
    http::{ApiError, Reply},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `DELETE /api/account`. A repeated request finds no account behind its token, which is a success.
pub(super) async fn delete(
    State(state): Server,
    access: Result<AccountAccess, ApiError>,
) -> Result<Response, ApiError> {
    let access = match access {
        Err(error) if error.problem().known_code() == Some(ProblemCode::AccountGone) => return Ok(Reply::empty()),
        access => access?,
    };
    let ended = state.store.delete_account(access.user_id).await?.unwrap_or_default();
    state.sessions.end(&ended, state.config.clock.now());
    tracing::info!(sessions = ended.len(), "an account was deleted");
    Ok(Reply::empty())
}
