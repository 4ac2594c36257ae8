//! `GET /api/account/export`: everything that is kept of an account, as JSON lines.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use http::{HeaderValue, header};
use synckit_protocol::{MEDIA_TYPE_JSON_LINES, UserId, wire::export::ExportedBlob};

use super::access::AccountAccess;
use crate::{
    admin::{Export, ExportError},
    http::ApiError,
    limits::Owners,
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `GET /api/account/export`. The token is checked when the export begins; the answer may take as long as the line needs.
pub(crate) async fn export(State(state): Server, access: AccountAccess) -> Result<Response, ApiError> {
    let owners = Owners::session(access.user_id, access.session_id);
    let room = state.capacity.exports.try_take(owners, 1)?;
    let signer = Arc::clone(&state);
    let complete_blob = move |blob: &mut ExportedBlob| add_url(&signer, access.user_id, blob);
    let mut export = Export::new(
        Arc::clone(&state.store),
        access.user_id,
        state.config.clock.now(),
        complete_blob,
    );
    // Before the head of the answer, so that an early failure is a problem instead of a broken answer.
    let first = export.next().await?;
    let rest = stream::try_unfold((export, room), async |(mut export, room)| match export.next().await {
        Ok(lines) => Ok(lines.map(|lines| (lines, (export, room)))),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "an export was cut off");
            Err(error)
        }
    });
    let first = stream::iter(first.map(Ok::<Bytes, ExportError>));
    let body = Body::from_stream(futures_util::StreamExt::chain(first, rest.into_stream()));
    let content_type = HeaderValue::from_static(MEDIA_TYPE_JSON_LINES);
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// A deleted blob has a URL, too, until it is swept.
fn add_url(state: &ServerState, user_id: UserId, blob: &mut ExportedBlob) {
    let now = state.config.clock.now();
    let presigned = state.objects.download(blob.object_key, blob.size, user_id, now);
    blob.download_url = Some(presigned.url);
    blob.url_expires_at = Some(presigned.expires_at);
}
