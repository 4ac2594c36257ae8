//! `/blobs/{object key}`: the objects themselves, by presigned URL and without a token.
//!
//! Constant memory in both directions: a piece of at most 256 KiB is in flight for each side of a transfer, however large
//! the object.

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use synckit_protocol::{ProblemCode, limits};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    blobs::{
        ByteRange, ObjectDirectory, ObjectError, ObjectUrl, ObjectWriter, Objects, RangeError, UrlAction, UrlError,
    },
    http::{ApiError, Pace, PathText, announced_length},
    limits::{Owners, Permit, UploadRoom},
    platform::is_out_of_descriptors,
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `PUT /blobs/{object key}`.
pub(super) async fn write(
    State(state): Server,
    PathText(key): PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let (files, url) = verify(&state, &key, request.uri())?;
    let length_mismatch =
        || ApiError::new(ProblemCode::LengthMismatch).with_detail(format!("the URL is for exactly {} bytes", url.size));
    if announced_length(request.headers()).is_some_and(|length| length != url.size) {
        return Err(length_mismatch());
    }
    let _room = transfer_room(&state, &url)?;
    let mut room = state.disk.begin_upload(url.size)?;
    let problem = |error: ObjectError| match error {
        ObjectError::Exists => ProblemCode::ObjectExists.into(),
        ObjectError::Length => length_mismatch(),
        ObjectError::Hash => ProblemCode::HashMismatch.into(),
        ObjectError::Full(error) => ApiError::new(ProblemCode::ServerFull).caused_by(error),
        ObjectError::Io(error) => of_disk(error),
    };
    let writer = match url.action {
        UrlAction::Part(number, hash) => files.write_part(url.key, number, url.size, hash).await,
        UrlAction::Put(hash) => files.write(url.key, url.size, hash).await,
        UrlAction::Get => return Err(ProblemCode::UrlInvalid.into()),
    };
    let writer = writer.map_err(problem)?;
    // An upload that is swept an hour after its URL expired must not appear after the sweep, when nobody would ever
    // remove it. So that is also the time that it may take in all.
    let last_moment = url.expires_at.saturating_add(limits::UPLOAD_SWEEP_SECONDS / 2);
    let time_left = Duration::from_secs(last_moment.saturating_sub(state.config.clock.now()));
    match timeout(time_left, receive(&state, request.into_body(), &writer, &mut room)).await {
        Ok(received) => received?,
        Err(_) => return Err(ProblemCode::UrlExpired.into()),
    }
    let written = writer.finish().await.map_err(problem)?;
    if state.config.clock.now() > last_moment {
        return Err(ProblemCode::UrlExpired.into());
    }
    written.publish().await.map_err(problem)?;
    Ok(StatusCode::OK.into_response())
}

/// Passes a body on to the disk, as long as it keeps the minimum pace.
async fn receive(
    state: &ServerState,
    mut body: Body,
    writer: &ObjectWriter,
    room: &mut UploadRoom,
) -> Result<(), ApiError> {
    let mut pace = Pace::new(state.config.timeouts.stall);
    loop {
        let began = Instant::now();
        let frame = tokio::select! {
            frame = timeout_at(pace.deadline(), body.frame()) => frame,
            () = stopped_for(state) => return Err(ProblemCode::Overloaded.into()),
        };
        match frame {
            Err(_) => {
                return Err(ApiError::new(ProblemCode::Timeout).with_detail("the upload was too slow"));
            }
            Ok(None) => return Ok(()),
            // A connection that broke off: the length tells, and nothing is left.
            Ok(Some(Err(_))) => return Ok(()),
            Ok(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                pace.moved(began.elapsed(), data.len());
                if data.is_empty() {
                    continue;
                }
                room.grow(&state.disk, data.len() as u64)?;
                if !writer.put(data).await {
                    // Failed: finishing says why.
                    return Ok(());
                }
                room.written(writer.missing_bytes());
            }
        }
    }
}

/// Resolves when an upload must give way to the end of the server: after half of the grace time.
async fn stopped_for(state: &ServerState) {
    state.stopping.cancelled().await;
    tokio::time::sleep(state.config.timeouts.shutdown_grace / 2).await;
}

/// `GET` and `HEAD /blobs/{object key}`.
pub(super) async fn read(
    State(state): Server,
    PathText(key): PathText,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (files, url) = verify(&state, &key, &uri)?;
    if url.action != UrlAction::Get {
        return Err(ProblemCode::UrlInvalid.into());
    }
    let room = transfer_room(&state, &url)?;
    // Objects never change, so that their key is their validator.
    let etag = format!("\"{}\"", url.key);
    let range = wanted_range(&headers, &etag, url.size);
    let object = files
        .read(url.key)
        .await
        .map_err(of_disk)?
        .ok_or(ProblemCode::BlobNotFound)?;
    let size = object.size;
    if size != url.size {
        // As if it were not there: a device that has the file uploads it again.
        tracing::error!(object_key = %url.key, expected = url.size, found = size, "an object is not whole");
        return Err(ProblemCode::BlobNotFound.into());
    }
    let Ok(range) = range else {
        let mut response = ApiError::new(ProblemCode::RangeNotSatisfiable).into_response();
        insert(
            response.headers_mut(),
            header::CONTENT_RANGE,
            &format!("bytes */{size}"),
        );
        return Ok(response);
    };
    let part = range.unwrap_or(ByteRange { start: 0, length: size });
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        Body::from_stream(object.pieces(part, room).await.map_err(of_disk)?)
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(part.length));
    insert(headers, header::ETAG, &etag);
    if let Some(range) = range {
        insert(headers, header::CONTENT_RANGE, &range.content_range(size));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// The range that a request asks for. `If-Range` with another validator asks for the whole object.
fn wanted_range(headers: &HeaderMap, etag: &str, size: u64) -> Result<Option<ByteRange>, RangeError> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|validator| validator != etag) {
        return Ok(None);
    }
    text(header::RANGE).map_or(Ok(None), |range| ByteRange::parse(range, size))
}

/// The directory of objects, and a URL that is valid for one of them.
fn verify<'a>(state: &'a ServerState, key: &str, uri: &Uri) -> Result<(&'a ObjectDirectory, ObjectUrl), ApiError> {
    let Objects::Directory { files, urls } = &state.objects else {
        // The bucket gave its URLs out itself.
        return Err(ProblemCode::UrlInvalid.into());
    };
    match urls.verify(key, uri.query(), state.config.clock.now()) {
        Ok(url) => Ok((files, url)),
        Err(UrlError::Invalid) => Err(ProblemCode::UrlInvalid.into()),
        Err(UrlError::Expired) => Err(ProblemCode::UrlExpired.into()),
    }
}

/// An error of the disk. Without descriptors a client tries again, as it never does after a 500.
fn of_disk(error: io::Error) -> ApiError {
    if is_out_of_descriptors(&error) {
        ApiError::new(ProblemCode::Overloaded).caused_by(error)
    } else {
        ApiError::internal(error)
    }
}

fn transfer_room(state: &ServerState, url: &ObjectUrl) -> Result<Permit, ApiError> {
    Ok(state.capacity.transfers.try_take(Owners::tag(url.owner), 1)?)
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
