//! The API: one router, and a module for each resource.
//!
//! All routes are in one table, `routes`, together with their description in the OpenAPI document. Handlers check what
//! came in, call one method of the store, and turn its outcome into an answer or a problem. They hold no state and know
//! no SQL.
//!
//! Invariant: which stream a request may touch is decided by its token alone, never by an id in its body or path.

mod access;
mod account_deletion;
mod account_export;
mod account_overview;
mod append;
mod auth;
mod blobs;
mod devices;
mod documents;
mod envelopes;
mod events;
mod health;
mod log;
mod log_codec;
mod metrics;
mod oauth;
mod oauth_device;
mod objects;
mod opaque_exchange;
mod password_change;
mod password_login;
mod password_reset;
mod problems;
mod registration;
mod routes;
mod sessions;
mod snapshots;
mod vault;

pub(crate) use access::{AccountAccess, live_session};
pub(crate) use account_export::export;
pub(crate) use auth::{Proof, finish_once, open_session};
pub(crate) use opaque_exchange::{count_guess, find_account, finish_login, mailbox, require_suite, start_login};
pub(crate) use problems::invalid_email;

use std::{collections::HashSet, mem, sync::Arc};

use axum::{Extension, Router, middleware::from_fn_with_state};
use synckit_protocol::ProblemCode;

use crate::{
    http::{ApiError, Observer, admit, count_by_address, observe},
    openapi::{Description, Documents, Operation},
    startup::config::PublicUrl,
    state::ServerState,
};

/// Every route of the server: those of the table in `routes` and those of its pages, and nothing else.
pub(crate) fn router(state: Arc<ServerState>, pages: Vec<Operation>) -> Router {
    let (mut admitted, mut others) = (Router::new(), Router::new());
    let mut descriptions = Vec::new();
    for operation in routes::operations().into_iter().chain(pages) {
        let mut handler = operation.handler;
        if operation.description.is_counted_by_address() {
            handler = handler.layer(from_fn_with_state(Arc::clone(&state), count_by_address));
        }
        let router = if operation.description.admitted {
            &mut admitted
        } else {
            &mut others
        };
        *router = mem::take(router).route(operation.description.path, handler);
        descriptions.push(operation.description);
    }
    let observer = Observer {
        state: Arc::clone(&state),
        routes: Arc::new(paths(&descriptions)),
    };
    let server_url = state.config.public_url.as_ref().map_or("", PublicUrl::as_str);
    let documents = Documents::new(descriptions, server_url.to_owned());
    Router::new()
        .merge(admitted.layer(from_fn_with_state(Arc::clone(&state), admit)))
        .merge(others)
        .fallback(|| async { ApiError::new(ProblemCode::NotFound) })
        .method_not_allowed_fallback(|| async { ApiError::new(ProblemCode::MethodNotAllowed) })
        .layer(Extension(Arc::new(documents)))
        .layer(from_fn_with_state(observer, observe))
        .with_state(state)
}

fn paths(descriptions: &[Description]) -> HashSet<&'static str> {
    descriptions.iter().map(|operation| operation.path).collect()
}

/// The document of the table, for unit tests.
#[cfg(test)]
pub(crate) fn document_for_tests() -> serde_json::Value {
    let descriptions = routes::operations().into_iter().map(|one| one.description).collect();
    let documents = Documents::new(descriptions, "http://localhost".to_owned());
    serde_json::from_slice(&documents.made().json).unwrap_or_default()
}
