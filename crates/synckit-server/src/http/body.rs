//! Request and response bodies: JSON or CBOR, by `Content-Type` and `Accept`.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use serde::{Serialize, de::DeserializeOwned};
use synckit_protocol::{MEDIA_TYPE_CBOR, MEDIA_TYPE_JSON, ProblemCode, limits};
use tokio::sync::OwnedSemaphorePermit;

use super::ApiError;
use crate::state::ServerState;

/// The encoding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Cbor,
}

impl Format {
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => MEDIA_TYPE_JSON,
            Self::Cbor => MEDIA_TYPE_CBOR,
        }
    }

    fn of_media_type(text: &str) -> Option<Self> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case(MEDIA_TYPE_CBOR) {
            Some(Self::Cbor)
        } else if essence.eq_ignore_ascii_case(MEDIA_TYPE_JSON) {
            Some(Self::Json)
        } else {
            None
        }
    }
}

/// The format of a request's body.
pub(crate) fn content_format(headers: &HeaderMap) -> Result<Format, ApiError> {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(Format::of_media_type)
        .ok_or_else(|| {
            ApiError::new(ProblemCode::UnsupportedMediaType)
                .with_detail("the body must be application/json or application/cbor, and Content-Type must say which")
        })
}

/// How the client wants its answer: the first of the two formats that `Accept` names, else the format of its own body,
/// else JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply(pub(crate) Format);

impl Reply {
    pub(crate) fn wanted_by(headers: &HeaderMap) -> Self {
        let accepted = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(Format::of_media_type);
        let own = || content_format(headers).ok();
        Self(accepted.or_else(own).unwrap_or(Format::Json))
    }

    /// An answer with a body.
    pub(crate) fn ok<T: Serialize>(self, value: &T) -> Result<Response, ApiError> {
        Ok(self.raw(Body::from(self.encode(value)?)))
    }

    /// An answer with a large body, which holds its share of the memory for such until it is sent.
    pub(crate) fn ok_holding<T: Serialize>(
        self,
        value: &T,
        memory: OwnedSemaphorePermit,
    ) -> Result<Response, ApiError> {
        Ok(self.raw(Body::from(held_until_sent(self.encode(value)?, memory))))
    }

    fn encode<T: Serialize>(self, value: &T) -> Result<Vec<u8>, ApiError> {
        match self.0 {
            Format::Json => serde_json::to_vec(value).map_err(ApiError::internal),
            Format::Cbor => minicbor_serde::to_vec(value).map_err(ApiError::internal),
        }
    }

    /// An answer whose body is encoded already.
    pub(crate) fn raw(self, body: Body) -> Response {
        let content_type = HeaderValue::from_static(self.0.media_type());
        ([(header::CONTENT_TYPE, content_type)], body).into_response()
    }

    /// An answer without a body.
    pub(crate) fn empty() -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Reply {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self::wanted_by(&parts.headers))
    }
}

/// A request body of at most [`limits::BODY_BYTES_MAX`], and how to answer it.
#[derive(Debug)]
pub(crate) struct Received<T> {
    pub(crate) value: T,
    pub(crate) reply: Reply,
}

impl<T: DeserializeOwned> FromRequest<Arc<ServerState>> for Received<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<ServerState>) -> Result<Self, ApiError> {
        let reply = Reply::wanted_by(request.headers());
        let format = content_format(request.headers())?;
        let body = read_body(request, limits::BODY_BYTES_MAX, state.config.timeouts.request_body).await?;
        let value = decode(format, &body)?;
        Ok(Self { value, reply })
    }
}

/// The one variable part of a path, as text. What is not even text names nothing that is here.
#[derive(Debug)]
pub(crate) struct PathText(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(ProblemCode::NotFound.into()),
        }
    }
}

/// Reads a whole body of at most `limit` bytes within `timeout`, and as much longer as a slow line needs.
pub(crate) async fn read_body(request: Request, limit: usize, timeout: Duration) -> Result<Bytes, ApiError> {
    let too_large =
        || ApiError::new(ProblemCode::BodyTooLarge).with_detail(format!("the body may have {limit} bytes at most"));
    let announced = announced_length(request.headers());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let slow_line = slow_line(request.headers());
    let mut body = request.into_body();
    let reading = async {
        let Some(first) = next_data(&mut body).await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = next_data(&mut body).await? else {
            // What came in one piece is not copied.
            return if first.len() > limit {
                Err(too_large())
            } else {
                Ok(first)
            };
        };
        let expected = announced
            .and_then(|length| usize::try_from(length).ok())
            .unwrap_or(first.len() * 2);
        let mut whole = BytesMut::with_capacity(expected.min(limit));
        whole.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(data) = next {
            if whole.len() + data.len() > limit {
                return Err(too_large());
            }
            whole.extend_from_slice(&data);
            next = next_data(&mut body).await?;
        }
        Ok(whole.freeze())
    };
    match tokio::time::timeout(timeout + slow_line, reading).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::new(ProblemCode::Timeout).with_detail("the body did not arrive in time")),
    }
}

/// The length that a request announces for its body.
pub(crate) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How much longer than any other a request may take because its announced body comes over a slow line.
pub(crate) fn slow_line(headers: &HeaderMap) -> Duration {
    let body_bytes = announced_length(headers)
        .unwrap_or(0)
        .min(limits::PUSH_BODY_BYTES_MAX as u64);
    Duration::from_secs(body_bytes / limits::SLOWEST_LINE_BYTES_PER_SECOND)
}

async fn next_data(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ApiError::new(ProblemCode::MalformedBody).with_detail("the connection broke before the body was complete")
        })?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Bytes that hold their share of some memory until the last of them is sent, or the client has gone away. Whoever reads
/// slowly must not make room for the next page in the meantime, and hyper keeps what it was given after it dropped the
/// body.
pub(crate) fn held_until_sent(bytes: Vec<u8>, memory: OwnedSemaphorePermit) -> Bytes {
    struct Held {
        bytes: Vec<u8>,
        _memory: OwnedSemaphorePermit,
    }

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    Bytes::from_owner(Held { bytes, _memory: memory })
}

/// Decodes a body that must hold one value and nothing else.
pub(crate) fn decode<T: DeserializeOwned>(format: Format, body: &[u8]) -> Result<T, ApiError> {
    match format {
        Format::Json => serde_json::from_slice(body).map_err(|error| malformed(&json_detail(&error))),
        Format::Cbor => {
            let mut deserializer = minicbor_serde::Deserializer::new(body);
            let value = T::deserialize(&mut deserializer).map_err(|error| malformed(&cbor_detail(&error)))?;
            if deserializer.decoder().position() != body.len() {
                return Err(malformed("there are bytes after the value"));
            }
            Ok(value)
        }
    }
}

pub(crate) fn malformed(detail: &str) -> ApiError {
    ApiError::new(ProblemCode::MalformedBody).with_detail(detail)
}

/// What was wrong with a JSON body, without repeating values from it: one of them may be a secret in the wrong place.
fn json_detail(error: &serde_json::Error) -> String {
    let message = error.to_string();
    if error.is_data() && !message.starts_with("missing field") && !message.starts_with("duplicate field") {
        return format!(
            "line {} column {}: a value of another type or form is expected",
            error.line(),
            error.column()
        );
    }
    message
}

fn cbor_detail(error: &minicbor_serde::error::DecodeError) -> String {
    let message = error.to_string();
    let about_names = ["missing field `", "duplicate field `"].iter().find_map(|what| {
        let (_, rest) = message.split_once(what)?;
        let (name, _) = rest.split_once('`')?;
        Some(format!("{what}{name}`"))
    });
    about_names.unwrap_or_else(|| "not well-formed CBOR, or a value of another type or form is expected".to_owned())
}
