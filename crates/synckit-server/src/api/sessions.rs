//! `/api/account/sessions`: the sessions of an account, in every app.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use synckit_protocol::{
    ProblemCode, SessionId,
    wire::accounts::{SessionInfo, SessionList},
};
use synckit_store::EndSessions;

use super::access::AccountAccess;
use crate::{
    http::{ApiError, PathText, Reply},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `GET /api/account/sessions`.
pub(super) async fn list(State(state): Server, access: AccountAccess, reply: Reply) -> Result<Response, ApiError> {
    let sessions = state.store.sessions(access.user_id, state.config.clock.now()).await?;
    let sessions = sessions
        .into_iter()
        .map(|session| SessionInfo {
            id: session.id,
            app_name: session.app_name,
            device_name: session.device_name,
            created_at: session.created_at,
            refreshed_at: session.refreshed_at,
            current: session.id == access.session_id,
        })
        .collect();
    reply.ok(&SessionList { sessions })
}

/// `DELETE /api/account/sessions/{id}`.
pub(super) async fn end(
    State(state): Server,
    access: AccountAccess,
    PathText(id): PathText,
) -> Result<Response, ApiError> {
    // A text that is no id names no session.
    let id: SessionId = id.parse().map_err(|_| ProblemCode::SessionNotFound)?;
    let which = EndSessions::OneOfUser(access.user_id, id);
    let ended = state.store.end_sessions(which).await?;
    if ended.is_empty() {
        return Err(ProblemCode::SessionNotFound.into());
    }
    state.sessions.end(&ended, state.config.clock.now());
    Ok(Reply::empty())
}
