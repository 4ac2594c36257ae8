//! A transport without a network: every request arrives at once, and so does its answer. A liar may stand in between.

use std::{fmt, sync::Arc};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use synckit_client::transport::{BodyStream, Exchange, RequestBody, Transport, TransportError};

use crate::endpoint::{Answer, Endpoint};

/// A request as the server saw it, with its body read whole.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Method, URL and headers.
    pub head: Arc<http::request::Parts>,
    /// The body.
    pub body: Bytes,
}

impl Sent {
    /// The path of the URL, without the query.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The host of the URL.
    pub fn host(&self) -> &str {
        self.head.uri.host().unwrap_or_default()
    }

    /// Whether it carries a token.
    pub fn has_token(&self) -> bool {
        self.head.headers.contains_key(http::header::AUTHORIZATION)
    }

    /// The same request with another body.
    fn with_body(&self, body: Bytes) -> Self {
        let mut head = (*self.head).clone();
        head.headers
            .insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(body.len()));
        Self {
            head: Arc::new(head),
            body,
        }
    }

    /// As a server takes it.
    #[must_use]
    pub fn to_request(&self, body: Body) -> http::Request<Body> {
        http::Request::from_parts((*self.head).clone(), body)
    }
}

/// An answer of a liar.
pub enum Lie {
    /// The server's own answer.
    Truth,
    /// The server is asked with another body. Only before it is asked.
    Asking(Bytes),
    /// Another answer, in place of the server's.
    Instead(http::Response<BodyStream<TransportError>>),
}

type Tell = dyn Fn(&Sent, Option<Answer>) -> Lie + Send + Sync;

/// Forwards requests to a server in this process, and its answers back; a liar in between may change both.
pub struct Direct {
    endpoint: Arc<Endpoint>,
    /// Decides before the server is asked, with no answer, and again when it has answered.
    tell: Arc<Tell>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Direct")
    }
}

impl Direct {
    /// An honest connection.
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self::lying(endpoint, |_, _| Lie::Truth)
    }

    /// A connection to a lying server. `tell` is called twice for each request: before the server is asked, without an
    /// answer, to answer in its place; and afterwards, to change its answer.
    pub fn lying(endpoint: Arc<Endpoint>, tell: impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync + 'static) -> Self {
        Self {
            endpoint,
            tell: Arc::new(tell),
            sent: Arc::default(),
        }
    }

    /// Everything that was sent over this connection, whatever its host.
    pub fn sent(&self) -> Arc<Mutex<Vec<Sent>>> {
        Arc::clone(&self.sent)
    }
}

impl Transport for Direct {
    fn send(&self, request: http::Request<RequestBody>) -> Exchange {
        let endpoint = Arc::clone(&self.endpoint);
        let sent_log = Arc::clone(&self.sent);
        let tell = Arc::clone(&self.tell);
        Box::pin(async move {
            let sent = read_request(request).await?;
            sent_log.lock().push(sent.clone());
            let asked = match tell(&sent, None) {
                Lie::Truth => sent.clone(),
                Lie::Asking(body) => sent.with_body(body),
                Lie::Instead(response) => return Ok(response),
            };
            let request = asked.to_request(Body::from(asked.body.clone()));
            let answer = endpoint.call(request).await.map_err(broken)?;
            Ok(match tell(&sent, Some(answer.clone())) {
                Lie::Truth | Lie::Asking(_) => response_of(answer.head, answer.body),
                Lie::Instead(response) => response,
            })
        })
    }
}

/// Reads the body of a request.
///
/// # Errors
/// [`TransportError::Connection`] if the stream of the body fails: a real connection breaks then.
pub async fn read_request(request: http::Request<RequestBody>) -> Result<Sent, TransportError> {
    let (mut head, body) = request.into_parts();
    let body = match body {
        RequestBody::Empty => Bytes::new(),
        RequestBody::Full(bytes) => bytes,
        RequestBody::Stream { length, mut chunks } => {
            let mut whole = BytesMut::new();
            while let Some(chunk) = chunks.next().await {
                whole.extend_from_slice(&chunk.map_err(broken)?);
            }
            if whole.len() as u64 != length {
                return Err(broken(std::io::Error::other("the body has another length")));
            }
            whole.freeze()
        }
    };
    if !body.is_empty() {
        head.headers
            .insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(body.len()));
    }
    Ok(Sent {
        head: Arc::new(head),
        body,
    })
}

/// An answer as the SDK reads it, in one piece.
#[must_use]
pub fn response_of(head: http::response::Parts, body: Bytes) -> http::Response<BodyStream<TransportError>> {
    response_in_pieces(head, vec![Ok(body)])
}

/// An answer as the SDK reads it, piece by piece.
#[must_use]
pub fn response_in_pieces(
    head: http::response::Parts,
    pieces: Vec<Result<Bytes, TransportError>>,
) -> http::Response<BodyStream<TransportError>> {
    let pieces: BodyStream<TransportError> = Box::pin(stream::iter(pieces));
    http::Response::from_parts(head, pieces)
}

/// A connection that broke.
pub fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TransportError {
    TransportError::Connection(cause.into())
}
