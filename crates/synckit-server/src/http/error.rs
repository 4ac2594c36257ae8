//! The one error of the API: a problem, and details for the log alone.

use std::{error::Error, sync::Arc};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use synckit_protocol::{Problem, ProblemCode};

/// A refused or failed request.
///
/// It turns into a response without a body that carries the problem as an extension; `observe` writes the body, because
/// only there the request id is known.
#[derive(Debug)]
pub(crate) struct ApiError {
    problem: Box<Problem>,
    retry_after_seconds: Option<u64>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// A problem with nothing but its code.
    pub(crate) fn new(code: ProblemCode) -> Self {
        let retry_after_seconds = match code {
            ProblemCode::Overloaded
            | ProblemCode::StoreUnavailable
            | ProblemCode::Timeout
            | ProblemCode::RateLimited
            | ProblemCode::TransferLimit => Some(1),
            _ => None,
        };
        Self {
            problem: Box::new(Problem::new(code)),
            retry_after_seconds,
            cause: None,
        }
    }

    /// A field has a value that is not allowed.
    pub(crate) fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::InvalidValue)
            .with_detail(detail)
            .with(|problem| problem.field = Some(field.to_owned()))
    }

    /// An internal failure. Its cause is logged and never sent to the client.
    pub(crate) fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(ProblemCode::Internal)
        }
    }

    /// Names the cause, for the log.
    #[must_use]
    pub(crate) fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds the detail of this case. Never a secret, and no internals.
    #[must_use]
    pub(crate) fn with_detail(self, detail: impl Into<String>) -> Self {
        self.with(|problem| problem.detail = Some(detail.into()))
    }

    /// Fills fields of the problem.
    #[must_use]
    pub(crate) fn with(mut self, fill: impl FnOnce(&mut Problem)) -> Self {
        fill(&mut self.problem);
        self
    }

    /// Says when to come back.
    #[must_use]
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    pub(crate) fn problem(&self) -> &Problem {
        &self.problem
    }

    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after_seconds
    }

    pub(crate) fn cause(&self) -> Option<&(dyn Error + Send + Sync)> {
        self.cause.as_deref()
    }
}

impl From<ProblemCode> for ApiError {
    fn from(code: ProblemCode) -> Self {
        Self::new(code)
    }
}

/// What `observe` finds in the extensions of a response.
#[derive(Debug, Clone)]
pub(crate) struct Refusal(pub(crate) Arc<ApiError>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(Refusal(Arc::new(self)));
        response
    }
}
