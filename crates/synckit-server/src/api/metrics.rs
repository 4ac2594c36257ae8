//! `GET /metrics`: the figures of the server, for the operator's Prometheus.
//!
//! Readers are holders of `metrics_token`; without one in the configuration, clients on the server's own machine, but
//! not through a proxy, because behind a proxy every client looks local. The figures contain nothing about a user, but
//! the load of a service is confidential.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header, request::Parts};
use synckit_protocol::ProblemCode;
use synckit_store::{SecretHash, TaskLost};
use tokio::time::timeout;

use super::access::bearer;
use crate::{
    http::{ApiError, PeerAddress},
    limits::GuessTotals,
    metrics::Scraped,
    platform::{ProcessFigures, disk_of},
    state::ServerState,
};

/// What Prometheus asks for and understands.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long a scrape waits for the figures of the store: less than Prometheus waits for the scrape (10 s).
const STORE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Headers that a proxy adds to a request.
const FORWARDING_HEADERS: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// `GET /metrics`.
pub(super) async fn read(State(state): State<Arc<ServerState>>, parts: Parts) -> Result<Response, ApiError> {
    match &state.config.metrics_token {
        Some(token) => {
            // Hashes are compared, so that the time says nothing about the token.
            if SecretHash::of(bearer(&parts)?) != SecretHash::of(token.expose()) {
                return Err(ProblemCode::TokenInvalid.into());
            }
        }
        None if is_local(&parts) => {}
        None => return Err(ProblemCode::NotFound.into()),
    }
    // An operator needs the other figures most of all while the store does not answer.
    let store = timeout(STORE_WAIT_MAX, state.store.figures()).await;
    let store = match store {
        Ok(Ok(figures)) => Some(figures),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the store does not tell its figures");
            None
        }
        Err(_) => {
            tracing::warn!("the store does not tell its figures in time");
            None
        }
    };
    let data_dir = state.config.data_dir.clone();
    let system = tokio::task::spawn_blocking(move || (disk_of(&data_dir), ProcessFigures::read()));
    let (disk, process) = system
        .await
        .map_err(|error| ApiError::internal(TaskLost::from(error)))?;
    let capacity = &state.capacity;
    let guesses = state.guesses.totals();
    let scraped = Scraped {
        store,
        guesses: GuessTotals {
            refused: guesses.refused.saturating_add(state.mails.refused()),
            ..guesses
        },
        requests_at_work: capacity.requests_at_work(),
        transfers: capacity.transfers.taken(),
        event_streams: capacity.event_streams.taken(),
        push_memory_bytes: capacity.body_bytes(),
        page_memory_bytes: capacity.pages.taken() * 1024,
        disk,
        process,
    };
    let text = state.metrics.encode(scraped).map_err(ApiError::internal)?;
    let content_type = HeaderValue::from_static(MEDIA_TYPE);
    Ok(([(header::CONTENT_TYPE, content_type)], Body::from(text)).into_response())
}

fn is_local(parts: &Parts) -> bool {
    let peer = parts.extensions.get::<PeerAddress>().map(|peer| peer.0.ip());
    peer.as_ref()
        .map(IpAddr::to_canonical)
        .is_some_and(|ip| ip.is_loopback())
        && !was_forwarded(&parts.headers)
}

fn was_forwarded(headers: &HeaderMap) -> bool {
    FORWARDING_HEADERS.iter().any(|name| headers.contains_key(*name))
}
