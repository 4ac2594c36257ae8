//! Sending one call: encoding, retries, and the interpretation of the answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use synckit_protocol::{MEDIA_TYPE_PROBLEM, Problem, ProblemCode, limits, wire::oauth::OAuthError};

use super::{
    call::{Answer, Attempts, Call},
    http::InvalidOption,
    retry::{Jitter, RETRY_BUDGET, is_retried},
    server::Server,
    transport::{BodyStream, RequestBody, Transport, TransportError, read_body},
};
use crate::{
    error::{Error, Result},
    plan_usage::PlanUsage,
    runtime,
};

/// The largest answer of any endpoint: a page of the maximum size, or one batch, with the fields around it.
const ANSWER_BYTES_MAX: usize = limits::PAGE_BYTES_MAX as usize + 1024 * 1024;

/// The server, shared by all calls.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) transport: Result<Arc<dyn Transport>, InvalidOption>,
    pub(crate) server: Result<Server, &'static str>,
    pub(crate) server_url: String,
    pub(crate) request_timeout: Duration,
    pub(crate) jitter: Jitter,
    /// What the last answer said of the plan of the app.
    pub(crate) plan_usage: Mutex<Option<PlanUsage>>,
}

impl Api {
    pub(crate) fn server(&self) -> Result<&Server> {
        self.server.as_ref().map_err(|reason| Error::InvalidServerUrl {
            url: self.server_url.clone(),
            reason,
        })
    }

    pub(crate) fn transport(&self) -> Result<&Arc<dyn Transport>> {
        self.transport.as_ref().map_err(|invalid| Error::InvalidArgument {
            argument: invalid.option,
            reason: invalid.reason.to_owned(),
        })
    }

    /// Sends a call and decodes its answer.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T> {
        self.send(&call).await?.decode()
    }

    /// Sends a call whose answer has no body.
    pub(crate) async fn unit(&self, call: Call<'_>) -> Result<()> {
        self.send(&call).await?.empty()
    }

    /// Sends a call, with retries after temporary failures. A problem is returned as an error.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Answer> {
        let begun = runtime::now();
        let mut attempt = 0;
        loop {
            let error = match self.attempt(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let wait = match call.attempts {
                Attempts::One => None,
                Attempts::Several => self.jitter.wait_after(&error, attempt),
            };
            let left = RETRY_BUDGET.saturating_sub(begun.elapsed());
            let Some(wait) = wait.filter(|wait| *wait <= left) else {
                return Err(error);
            };
            attempt += 1;
            tracing::debug!(path = call.path.split('?').next(), attempt, "the request is sent again");
            runtime::sleep(wait).await;
        }
    }

    /// Sends a call once, and returns the body of a good answer as it arrives: for answers that may be larger than
    /// memory. A pause longer than `idle` ends the stream with an error.
    pub(crate) async fn stream(&self, call: &Call<'_>, idle: Duration) -> Result<BodyStream<TransportError>> {
        let (parts, body) = self.exchange(call).await?.into_parts();
        if parts.status == StatusCode::OK {
            return Ok(idle_bounded(body, idle));
        }
        Err(self.refusal(&parts, body).await)
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Answer> {
        let (parts, body) = self.exchange(call).await?.into_parts();
        if !parts.status.is_success() {
            return Err(self.refusal(&parts, body).await);
        }
        Ok(Answer {
            status: parts.status,
            body: self.whole(body).await?,
        })
    }

    /// Sends a request and returns the head of its answer, with the body unread.
    async fn exchange(&self, call: &Call<'_>) -> Result<http::Response<BodyStream<TransportError>>> {
        let mut request = http::Request::builder()
            .method(call.method.clone())
            .uri(self.server()?.url(&call.path))
            .header(header::ACCEPT, call.encoding.accept());
        if let Some(token) = call.bearer {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| Error::Protocol {
                    status: 200,
                    reason: "a token",
                })?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let body = match &call.body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, call.encoding.content_type());
                RequestBody::Full(body.clone())
            }
            None => RequestBody::Empty,
        };
        let request = request.body(body).map_err(|_| Error::InvalidArgument {
            argument: "request",
            reason: "it is not a valid URL".into(),
        })?;
        let body_bytes = call.body.as_ref().map_or(0, Bytes::len) as u64;
        let for_body = Duration::from_secs(body_bytes / limits::SLOWEST_LINE_BYTES_PER_SECOND);
        let patience = self.request_timeout.saturating_add(for_body);
        let sent = runtime::timeout(patience, self.transport()?.send(request)).await;
        let response = sent
            .unwrap_or(Err(TransportError::Timeout(patience)))
            .map_err(Error::Network)?;
        // Without a valid token, an answer says nothing of an app.
        if call.bearer.is_some() && response.status() != StatusCode::UNAUTHORIZED {
            *self.plan_usage.lock() = PlanUsage::of(response.headers());
        }
        Ok(response)
    }

    async fn whole(&self, body: BodyStream<TransportError>) -> Result<Bytes> {
        read_body(body, ANSWER_BYTES_MAX, self.request_timeout)
            .await
            .map_err(Error::Network)
    }

    /// The error for an answer without success.
    async fn refusal(&self, parts: &http::response::Parts, body: BodyStream<TransportError>) -> Error {
        let status = parts.status.as_u16();
        if parts.status.is_redirection() {
            return Error::Protocol {
                status,
                reason: "no redirect: check the server URL",
            };
        }
        match self.whole(body).await {
            Ok(body) => match (retry_after(&parts.headers), problem(status, &body)) {
                (Some(retry_after), Some(problem)) if is_retried(status) => Error::RetryLater {
                    retry_after,
                    code: problem.code,
                },
                (_, Some(problem)) => Error::from_problem(problem),
                (_, None) if let Ok(refused) = serde_json::from_slice::<OAuthError>(&body) => Error::BrowserSignIn {
                    code: refused.error,
                    reason: refused.error_description,
                },
                (_, None) => Error::Protocol {
                    status,
                    reason: MEDIA_TYPE_PROBLEM,
                },
            },
            Err(error) => error,
        }
    }
}

/// Reads the problem of an answer. Only the status of the answer counts, not the one in its body. Gateways and object
/// stores answer with their own pages; with a temporary status, such a page is a problem too.
pub(crate) fn problem(status: u16, body: &[u8]) -> Option<Problem> {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Some(Problem { status, ..problem }),
        Err(_) if is_retried(status) => Some(Problem {
            code: format!("http_{status}"),
            title: "A gateway did not pass the request on".to_owned(),
            status,
            ..Problem::new(ProblemCode::Overloaded)
        }),
        Err(_) => None,
    }
}

/// A body that fails after a pause of `idle`.
fn idle_bounded(body: BodyStream<TransportError>, idle: Duration) -> BodyStream<TransportError> {
    Box::pin(stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match runtime::timeout(idle, body.next()).await {
            Some(None) => None,
            Some(Some(chunk)) => Some((chunk, Some(body))),
            None => Some((Err(TransportError::Timeout(idle)), None)),
        }
    }))
}

/// Reads `Retry-After` in seconds, the form that the server uses.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
