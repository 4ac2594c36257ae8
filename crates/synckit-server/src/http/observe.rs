//! Layers around every request: an id, a line in the log, a problem body for every error, and load shedding.
//!
//! The log names the route, never the path: paths and query strings carry ids and signatures. No body, no header, no
//! e-mail address is ever logged.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Instant,
};

use axum::{
    Extension,
    body::Body,
    extract::{FromRequestParts, MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, header, request::Parts};
use synckit_protocol::{MEDIA_TYPE_PROBLEM, ProblemCode};

use super::{ApiError, ClientAddress, Work, body::slow_line, drain::drained_when_dropped, error::Refusal};
use crate::{
    limits::Owners,
    metering::AppMeter,
    metrics::Answered,
    platform::{caught, random_bytes},
    state::ServerState,
};

/// How much an app has used of its plan, once that is most of it.
const USAGE: HeaderName = HeaderName::from_static("synckit-usage");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The facts about a request that a handler learns and the log names.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestScope(Arc<OnceLock<Arc<AppMeter>>>);

impl RequestScope {
    pub(crate) fn of(parts: &Parts) -> Self {
        parts.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Notes the app that a request is for, once that is verified.
    pub(crate) fn note_app(&self, app: Arc<AppMeter>) {
        // The first one is kept.
        let _ = self.0.set(app);
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestScope {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// The fields that only the outermost layer has.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    pub(crate) state: Arc<ServerState>,
    /// The templates of all routes, which figures are counted by.
    pub(crate) routes: Arc<HashSet<&'static str>>,
}

/// The outermost layer.
pub(crate) async fn observe(State(observer): State<Observer>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    // Made here and never taken from the client, so that nobody writes into the log by a header.
    let request_id = format!("{:016x}", u64::from_be_bytes(random_bytes()));
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let scope = RequestScope::default();
    request.extensions_mut().insert(scope.clone());
    let request = request.map(drained_when_dropped);

    let mut response = match caught(next.run(request)).await {
        Ok(response) => response,
        Err(lost) => ApiError::internal(lost).into_response(),
    };
    let refusal = response.extensions_mut().remove::<Refusal>();
    if let Some(Refusal(error)) = &refusal {
        response = problem_response(response, error, &request_id);
    }
    set_common_headers(&mut response, &request_id);
    let app = scope.0.get();
    let told = app.and_then(|app| app.header());
    if let Some(told) = told {
        response.headers_mut().insert(USAGE, told);
    }

    let status = response.status().as_u16();
    let route = route.as_ref().map_or("(none)", MatchedPath::as_str);
    let duration = started.elapsed();
    let code = refusal.as_ref().and_then(|Refusal(error)| error.problem().known_code());
    observer.state.metrics.answered(Answered {
        route: observer.routes.get(route).copied(),
        method: &method,
        status,
        code,
        duration,
    });
    let latency_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let app_id = app.map(|app| tracing::field::display(app.app_id()));
    let code = code.map(ProblemCode::as_str);
    match refusal.as_ref().and_then(|Refusal(error)| error.cause()) {
        Some(cause) => {
            let cause = Causes(cause);
            tracing::error!(%method, route, status, latency_us, request_id, app_id, code, %cause, "request failed");
        }
        None => tracing::info!(%method, route, status, latency_us, request_id, app_id, code, "request"),
    }
    response
}

fn problem_response(response: Response, error: &ApiError, request_id: &str) -> Response {
    let (mut parts, _) = response.into_parts();
    let mut problem = error.problem().clone();
    problem.request_id = Some(request_id.to_owned());
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    parts
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE_PROBLEM));
    if let Some(seconds) = error.retry_after_seconds() {
        parts.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.problem().status == 401 {
        // RFC 9110, section 15.5.2: a 401 says how to authenticate.
        parts
            .headers
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    Response::from_parts(parts, Body::from(body))
}

fn set_common_headers(response: &mut Response, request_id: &str) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Admits an API request, and answers it within the time limit or with a problem. The answer returns the request's
/// resources.
pub(crate) async fn admit(State(state): State<Arc<ServerState>>, mut request: Request, next: Next) -> Response {
    let work = Work::of_request(&request);
    request.extensions_mut().insert(work.clone());
    let patience = state.config.timeouts.request + slow_line(request.headers());
    match tokio::time::timeout(patience, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(ProblemCode::Timeout).into_response(),
    }
}

/// Counts a request that needs no token against the address that it comes from.
pub(crate) async fn count_by_address(
    State(state): State<Arc<ServerState>>,
    address: ClientAddress,
    Extension(work): Extension<Work>,
    request: Request,
    next: Next,
) -> Response {
    let prefix = address.prefix();
    let counted = state.rates.count_address(prefix).map_err(ApiError::from);
    match counted.and_then(|()| work.enter(&state, Owners::address(prefix))) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

/// An error and its causes, on one line.
struct Causes<'a>(&'a (dyn std::error::Error + Send + Sync));

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}
