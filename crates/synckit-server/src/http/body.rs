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
use synckit_protocol::{MEDIA_TYPE_CBOR, MEDIA_TYPE_JSON, ProblemCode, is_well_formed_cbor, limits};
use tokio::time::{Instant, timeout_at};

use super::{ApiError, Fields, Pace, Work};
use crate::{
    limits::{Permit, SMALL_BODY_BYTES_MAX},
    state::ServerState,
};

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
    pub(crate) fn ok_holding<T: Serialize>(self, value: &T, memory: Permit) -> Result<Response, ApiError> {
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
        let body = read_body(request, limits::BODY_BYTES_MAX, state).await?;
        let value = decode(format, &body)?;
        Ok(Self { value, reply })
    }
}

/// A form, as browsers and OAuth clients send it (RFC 6749, appendix B), of at most [`limits::BODY_BYTES_MAX`].
#[derive(Debug)]
pub(crate) struct Form(pub(crate) Fields);

/// The media type of a form.
pub(crate) const MEDIA_TYPE_FORM: &str = "application/x-www-form-urlencoded";

impl FromRequest<Arc<ServerState>> for Form {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<ServerState>) -> Result<Self, ApiError> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(MEDIA_TYPE_FORM) {
            return Err(ApiError::new(ProblemCode::UnsupportedMediaType).with_detail(format!(
                "the body must be {MEDIA_TYPE_FORM}, and Content-Type must say so"
            )));
        }
        let body = read_body(request, limits::BODY_BYTES_MAX, state).await?;
        let fields = Fields::parse(&body).map_err(|_| malformed("a field stands twice"))?;
        Ok(Self(fields))
    }
}

/// The only variable part of a path, as text. A part that is not text names nothing.
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

/// How long a body waits for memory before it is shed.
const MEMORY_WAIT_MAX: Duration = Duration::from_secs(5);

/// Reads a whole body of at most `limit` bytes, and takes a slot for its request. The body holds memory until the
/// request is finished.
///
/// An announced length reserves nothing: a small body holds its memory from its first byte, and a large one only after
/// as many bytes as the limit of a small one. A body below the minimum pace is dropped.
pub(crate) async fn read_body(request: Request, limit: usize, state: &ServerState) -> Result<Bytes, ApiError> {
    let too_large =
        || ApiError::new(ProblemCode::BodyTooLarge).with_detail(format!("the body may have {limit} bytes at most"));
    let announced = announced_length(request.headers());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let expected = announced
        .and_then(|length| usize::try_from(length).ok())
        .map_or(limit, |length| length.min(limit));
    let (parts, mut body) = request.into_parts();
    let work = Work::of(&parts);
    let mut pace = Pace::new(state.config.timeouts.request_body);
    // A body of one piece is not copied.
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut small = None;
    let mut has_large = false;
    while let Some(data) = next_data(&mut body, &mut pace).await? {
        let arrived = first.len().max(whole.len()).saturating_add(data.len());
        if arrived > limit {
            return Err(too_large());
        }
        if arrived > SMALL_BODY_BYTES_MAX && !has_large {
            small = None;
            work.hold(body_memory(state, &work, expected.max(arrived)).await?);
            has_large = true;
        } else if small.is_none() && !has_large {
            small = Some(body_memory(state, &work, expected.min(SMALL_BODY_BYTES_MAX)).await?);
        }
        if whole.is_empty() && first.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(if has_large {
                expected.max(arrived)
            } else {
                expected.min(SMALL_BODY_BYTES_MAX)
            });
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&data);
    }
    if let Some(small) = small {
        work.hold(small);
    }
    work.begin(state)?;
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

async fn body_memory(state: &ServerState, work: &Work, bytes: usize) -> Result<Permit, ApiError> {
    let (pool, amount) = state.capacity.body_memory(work.owners(), bytes);
    Ok(pool.take(work.owners(), amount, MEMORY_WAIT_MAX).await?)
}

/// The length that a request announces for its body.
pub(crate) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The extra time for a request with a large announced body on a slow connection.
pub(super) fn slow_line(headers: &HeaderMap) -> Duration {
    let body_bytes = announced_length(headers)
        .unwrap_or(0)
        .min(limits::PUSH_BODY_BYTES_MAX as u64);
    Duration::from_secs(body_bytes / limits::SLOWEST_LINE_BYTES_PER_SECOND)
}

async fn next_data(body: &mut Body, pace: &mut Pace) -> Result<Option<Bytes>, ApiError> {
    loop {
        let began = Instant::now();
        let Ok(frame) = timeout_at(pace.deadline(), body.frame()).await else {
            return Err(ApiError::new(ProblemCode::Timeout).with_detail("the body did not arrive in time"));
        };
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|_| {
            ApiError::new(ProblemCode::MalformedBody)
                .with_detail("the body is not well-formed, or the connection broke before it was complete")
        })?;
        let data = frame.into_data().unwrap_or_default();
        pace.moved(began.elapsed(), data.len());
        if !data.is_empty() {
            return Ok(Some(data));
        }
    }
}

/// Bytes that hold their share of some memory until the last of them is sent, or the client has disconnected. A slow reader
/// must not free memory for the next page, and hyper keeps the bytes after it has dropped the body.
pub(crate) fn held_until_sent(bytes: Vec<u8>, memory: Permit) -> Bytes {
    struct Held {
        bytes: Vec<u8>,
        _memory: Permit,
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
        Format::Json => {
            // serde passes over the texts of unknown fields unread.
            let text = std::str::from_utf8(body).map_err(|_| malformed("the body is not UTF-8"))?;
            // In JSON, serde also takes the fields of an object as an array, in their order in this program. The objects
            // inside a body refuse that themselves.
            if text.trim_ascii_start().starts_with('[') {
                return Err(malformed("the body must be an object"));
            }
            serde_json::from_str(text).map_err(|error| malformed(&json_detail(&error)))
        }
        Format::Cbor => {
            check_cbor(body)?;
            minicbor_serde::from_slice(body).map_err(|error| malformed(&cbor_detail(&error)))
        }
    }
}

/// Refuses a body that is not one value in CBOR: decoders pass over the values of unknown fields.
fn check_cbor(body: &[u8]) -> Result<(), ApiError> {
    if is_well_formed_cbor(body) {
        Ok(())
    } else {
        Err(malformed("the body is not one value in well-formed CBOR"))
    }
}

pub(crate) fn malformed(detail: &str) -> ApiError {
    ApiError::new(ProblemCode::MalformedBody).with_detail(detail)
}

/// The fault of a JSON body, without its values: one of them may be a secret in the wrong place.
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
    about_names.unwrap_or_else(|| "a value of another type or form is expected".to_owned())
}
