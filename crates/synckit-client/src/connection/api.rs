//! One request to the server: encoding, retries, and what the answer means.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::{Serialize, de::DeserializeOwned};
use synckit_protocol::{MEDIA_TYPE_CBOR, MEDIA_TYPE_PROBLEM, Problem, ProblemCode, SecretText, limits};
use tokio::time::Instant;

use crate::{
    config::Server,
    connection::transport::{BodyStream, RequestBody, Transport, TransportError, read_body},
    error::{Error, Result},
};

/// Retries after the first attempt.
const RETRIES_MAX: u32 = 3;
/// The longest that one call may go on retrying.
const RETRY_BUDGET: Duration = Duration::from_secs(60);
/// The first pause is drawn from zero to this; each further one from twice as much ("full jitter").
const PAUSE_BASE: Duration = Duration::from_millis(200);
/// The largest answer of any endpoint: a page of its maximum, or one batch, and the fields around them.
const ANSWER_BYTES_MAX: usize = limits::PAGE_BYTES_MAX as usize + 1024 * 1024;

/// A request that can be sent again. Clones share the body.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    method: Method,
    path: String,
    bearer: Option<&'a SecretText>,
    body: Option<Bytes>,
    retries_max: u32,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            bearer: None,
            body: None,
            retries_max: RETRIES_MAX,
        }
    }

    /// One attempt only: the caller has something to look at before the next.
    pub(crate) fn without_retries(mut self) -> Self {
        self.retries_max = 0;
        self
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// Encodes a body in CBOR.
    pub(crate) fn body(self, body: &impl Serialize) -> Result<Self> {
        Ok(self.encoded_body(Self::encode(body)?))
    }

    /// Sends a body that was encoded before.
    pub(crate) fn encoded_body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    /// Encodes a body in CBOR.
    pub(crate) fn encode(body: &impl Serialize) -> Result<Bytes> {
        minicbor_serde::to_vec(body)
            .map(Bytes::from)
            .map_err(|_| Error::InvalidArgument {
                argument: "request",
                reason: "it cannot be encoded".into(),
            })
    }

    /// Sends a token along.
    pub(crate) fn bearer(mut self, token: &'a SecretText) -> Self {
        self.bearer = Some(token);
        self
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Decodes the body of a successful answer.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        minicbor_serde::from_slice(&self.body).map_err(|_| Error::Protocol {
            status: self.status.as_u16(),
            reason: "a CBOR body of this endpoint",
        })
    }
}

/// Where the pauses between retries are drawn from: never anything secret.
#[derive(Debug)]
pub(crate) struct Jitter(Mutex<StdRng>);

impl Jitter {
    /// From the operating system, unless a simulation gave a seed.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(Mutex::new(
            seed.map_or_else(StdRng::from_entropy, StdRng::seed_from_u64),
        ))
    }
}

/// The server's side of every call.
#[derive(Debug)]
pub(crate) struct Api {
    transport: std::result::Result<std::sync::Arc<dyn Transport>, ()>,
    server: std::result::Result<Server, &'static str>,
    server_url: String,
    request_timeout: Duration,
    jitter: Jitter,
}

impl Api {
    pub(crate) fn new(
        transport: std::result::Result<std::sync::Arc<dyn Transport>, ()>,
        server: std::result::Result<Server, &'static str>,
        server_url: String,
        request_timeout: Duration,
        jitter: Jitter,
    ) -> Self {
        Self {
            transport,
            server,
            server_url,
            request_timeout,
            jitter,
        }
    }

    pub(crate) fn server(&self) -> Result<&Server> {
        self.server.as_ref().map_err(|reason| Error::InvalidServerUrl {
            url: self.server_url.clone(),
            reason,
        })
    }

    pub(crate) fn transport(&self) -> Result<&std::sync::Arc<dyn Transport>> {
        self.transport.as_ref().map_err(|()| {
            Error::Network(TransportError::Connection(
                "the TLS stack of this machine could not be started".into(),
            ))
        })
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// A pause with full jitter: from zero to twice as much as the last.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let most = PAUSE_BASE.saturating_mul(1 << attempt.min(5));
        self.jitter.0.lock().gen_range(Duration::ZERO..=most)
    }

    /// How long a caller that retries by itself waits after an error, or `None` if it gives up.
    pub(crate) fn wait_after(&self, error: &Error, attempt: u32) -> Option<Duration> {
        let wait = match error {
            Error::Network(TransportError::Connection(_) | TransportError::Timeout(_)) => self.pause(attempt),
            Error::Problem(problem) if matches!(problem.status, 429 | 502..=504) => self.pause(attempt),
            Error::RetryLater { retry_after, .. } if *retry_after < RETRY_BUDGET => *retry_after,
            _ => return None,
        };
        (attempt < RETRIES_MAX).then_some(wait)
    }

    /// Sends a call and decodes its answer.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T> {
        self.send(&call).await?.decode()
    }

    /// Sends a call, and again while that can help. A problem comes back as an error.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Answer> {
        let deadline = Instant::now() + RETRY_BUDGET;
        let mut attempt = 0;
        loop {
            let (error, wait) = match self.attempt(call).await {
                Ok((answer, _)) if answer.status.is_success() => return Ok(answer),
                Ok((answer, retry_after)) => {
                    let problem = read_problem(&answer)?;
                    if !matches!(answer.status.as_u16(), 429 | 502 | 503 | 504) {
                        return Err(Error::from_problem(problem));
                    }
                    let wait = retry_after.unwrap_or_else(|| self.pause(attempt));
                    let error = match retry_after {
                        Some(retry_after) => Error::RetryLater {
                            retry_after,
                            code: problem.code,
                        },
                        None => Error::Problem(Box::new(problem)),
                    };
                    (error, wait)
                }
                Err(Error::Network(error @ (TransportError::Connection(_) | TransportError::Timeout(_)))) => {
                    (Error::Network(error), self.pause(attempt))
                }
                Err(error) => return Err(error),
            };
            if attempt >= call.retries_max || Instant::now() + wait > deadline {
                return Err(error);
            }
            attempt += 1;
            tracing::debug!(path = call.path.split('?').next(), attempt, "the request is sent again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends a call once, and hands out the body of a good answer as it arrives: for what may be larger than memory. A
    /// piece that does not come within the time of a request ends the stream with an error.
    pub(crate) async fn stream(&self, call: &Call<'_>) -> Result<BodyStream<TransportError>> {
        let (parts, body) = self.exchange(call).await?.into_parts();
        if parts.status.is_success() {
            return Ok(idle_bounded(body, self.request_timeout));
        }
        let (answer, retry_after) = self.whole(parts, body).await?;
        let problem = read_problem(&answer)?;
        Err(match retry_after {
            Some(retry_after) => Error::RetryLater {
                retry_after,
                code: problem.code,
            },
            None => Error::from_problem(problem),
        })
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<(Answer, Option<Duration>)> {
        let (parts, body) = self.exchange(call).await?.into_parts();
        self.whole(parts, body).await
    }

    /// Sends a request and returns the head of its answer, and the body unread.
    async fn exchange(&self, call: &Call<'_>) -> Result<http::Response<BodyStream<TransportError>>> {
        let mut request = http::Request::builder()
            .method(call.method.clone())
            .uri(self.server()?.url(&call.path))
            .header(header::ACCEPT, MEDIA_TYPE_CBOR);
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
                request = request.header(header::CONTENT_TYPE, MEDIA_TYPE_CBOR);
                RequestBody::Full(body.clone())
            }
            None => RequestBody::Empty,
        };
        let request = request.body(body).map_err(|_| Error::InvalidArgument {
            argument: "request",
            reason: "it is not a valid URL".into(),
        })?;
        let body_bytes = call.body.as_ref().map_or(0, Bytes::len) as u64;
        let patience = self.request_timeout + Duration::from_secs(body_bytes / limits::SLOWEST_LINE_BYTES_PER_SECOND);
        match tokio::time::timeout(patience, self.transport()?.send(request)).await {
            Ok(response) => response.map_err(Error::Network),
            Err(_) => Err(Error::Network(TransportError::Timeout(patience))),
        }
    }

    /// Reads the body of an answer.
    async fn whole(
        &self,
        parts: http::response::Parts,
        body: BodyStream<TransportError>,
    ) -> Result<(Answer, Option<Duration>)> {
        let body = read_body(body, ANSWER_BYTES_MAX, self.request_timeout)
            .await
            .map_err(Error::Network)?;
        if parts.status.is_redirection() {
            return Err(Error::Protocol {
                status: parts.status.as_u16(),
                reason: "no redirect: check the server URL",
            });
        }
        let retry_after = parts.headers.get(header::RETRY_AFTER).and_then(parse_retry_after);
        let answer = Answer {
            status: parts.status,
            body,
        };
        Ok((answer, retry_after))
    }
}

/// A body that fails when nothing of it arrives for `idle`.
fn idle_bounded(body: BodyStream<TransportError>, idle: Duration) -> BodyStream<TransportError> {
    Box::pin(stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(idle, body.next()).await {
            Ok(None) => None,
            Ok(Some(chunk)) => Some((chunk, Some(body))),
            Err(_) => Some((Err(TransportError::Timeout(idle)), None)),
        }
    }))
}

/// Reads the problem of an answer. Gateways answer 502 to 504 with pages of their own, which are problems too.
fn read_problem(answer: &Answer) -> Result<Problem> {
    match serde_json::from_slice(&answer.body) {
        Ok(problem) => Ok(problem),
        Err(_) if matches!(answer.status.as_u16(), 429 | 502..=504) => Ok(Problem {
            code: format!("http_{}", answer.status.as_u16()),
            title: "A gateway did not pass the request on".to_owned(),
            status: answer.status.as_u16(),
            ..Problem::new(ProblemCode::Overloaded)
        }),
        Err(_) => Err(Error::Protocol {
            status: answer.status.as_u16(),
            reason: MEDIA_TYPE_PROBLEM,
        }),
    }
}

/// Reads `Retry-After` in seconds, the form that the server uses.
fn parse_retry_after(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
