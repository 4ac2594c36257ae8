//! `GET /api/account`: an account, and the size of its data in each app.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use synckit_protocol::{ProblemCode, wire::accounts::AccountInfo};

use super::access::AccountAccess;
use crate::{
    http::{ApiError, Reply},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `GET /api/account`.
pub(super) async fn info(State(state): Server, access: AccountAccess, reply: Reply) -> Result<Response, ApiError> {
    let overview = state.store.account(access.user_id).await?;
    let overview = overview.ok_or(ProblemCode::AccountGone)?;
    reply.ok(&AccountInfo {
        user_id: overview.account.user_id,
        email: overview.account.email,
        created_at: overview.account.created_at,
        email_verified_at: overview.account.email_verified_at,
        apps: overview.apps,
    })
}
