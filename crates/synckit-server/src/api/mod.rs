//! The API: one router, and a module for each resource.
//!
//! Handlers check what came in, call one method of the store, and turn its outcome into an answer or a problem. They hold
//! no state and know no SQL.
//!
//! Invariant: which stream a request may touch is decided by its token alone, never by an id in its body or path.

mod access;
mod account;
mod account_data;
mod accounts;
mod auth;
mod blobs;
mod devices;
mod envelopes;
mod health;
mod log;
mod log_codec;
mod objects;
mod password_login;
mod snapshots;

use std::sync::Arc;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    routing::{delete, get, patch, post},
};
use synckit_protocol::ProblemCode;

use crate::{
    http::{ApiError, admit, observe},
    state::ServerState,
};

/// Every route of the server.
pub(crate) fn router(state: Arc<ServerState>) -> Router {
    let api = Router::new()
        .route("/api/accounts/start", post(accounts::start))
        .route("/api/accounts", post(accounts::finish))
        .route("/api/accounts/verify", post(accounts::verify))
        .route("/api/accounts/reset/request", post(accounts::reset_request))
        .route("/api/accounts/reset/start", post(accounts::reset_start))
        .route("/api/accounts/reset", post(accounts::reset_finish))
        .route("/api/account", get(account_data::info).delete(account_data::delete))
        .route("/api/account/export", get(account_data::export))
        .route("/api/account/vault", get(account::vault).put(account::put_vault))
        .route("/api/account/password/start", post(account::password_start))
        .route("/api/account/password", post(account::password_finish))
        .route("/api/account/sessions", get(account::sessions))
        .route("/api/account/sessions/{id}", delete(account::end_session))
        .route("/api/sync/auth/start", post(auth::start))
        .route("/api/sync/auth", post(auth::finish).delete(auth::sign_out))
        .route("/api/sync/auth/unlock/start", post(auth::unlock_start))
        .route("/api/sync/auth/unlock", post(auth::unlock_finish))
        .route("/api/sync/auth/refresh", post(auth::refresh))
        .route("/api/sync/push", post(log::push))
        .route("/api/sync/pull", post(log::pull))
        .route("/api/sync/chain", get(log::chain))
        .route("/api/sync/status", get(log::status))
        .route("/api/sync/devices", post(devices::register).get(devices::list))
        .route("/api/sync/devices/{id}", patch(devices::rename).delete(devices::revoke))
        .route("/api/sync/keys", get(envelopes::read).put(envelopes::write))
        .route("/api/sync/snapshots/{id}", get(snapshots::read).put(snapshots::write))
        .route(
            "/api/sync/snapshots/{id}/parts/{part}",
            get(snapshots::read_part).put(snapshots::write_part),
        )
        .route("/api/sync/blobs", get(blobs::list))
        .route("/api/sync/blobs/upload", post(blobs::upload))
        .route("/api/sync/blobs/confirm", post(blobs::confirm))
        .route("/api/sync/blobs/download", post(blobs::download))
        .route("/api/sync/blobs/{hash}", delete(blobs::remove))
        .layer(from_fn_with_state(Arc::clone(&state), admit));
    Router::new()
        .merge(api)
        .route("/blobs/{object_key}", get(objects::read).put(objects::write))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .fallback(|| async { ApiError::new(ProblemCode::NotFound) })
        .method_not_allowed_fallback(|| async { ApiError::new(ProblemCode::MethodNotAllowed) })
        .layer(from_fn(observe))
        .with_state(state)
}
