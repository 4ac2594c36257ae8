//! `/api/account` as a whole: what is kept of it, all of it as a file, and its end.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use http::{HeaderValue, header};
use synckit_protocol::{
    MEDIA_TYPE_JSON_LINES, ProblemCode, limits,
    wire::{accounts::AccountInfo, export::ExportedBlob},
};

use super::access::AccountAccess;
use crate::{
    admin::{Export, ExportError},
    blobs::{ObjectUrl, UrlMethod},
    http::{ApiError, Reply},
    limits::Owners,
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `GET /api/account`.
pub(super) async fn info(State(state): Server, access: AccountAccess, reply: Reply) -> Result<Response, ApiError> {
    let overview = state.store.account(access.user_id).await?;
    let overview = overview.ok_or(ProblemCode::AccountGone)?;
    reply.ok(&AccountInfo {
        user_id: overview.account.user_id,
        email: overview.account.email,
        created_at: overview.account.created_at,
        email_verified_at: overview.account.email_verified_at,
        apps: overview.apps,
    })
}

/// `DELETE /api/account`. A repeated request finds no account behind its token, and that is what it asked for.
pub(super) async fn delete(
    State(state): Server,
    access: Result<AccountAccess, ApiError>,
) -> Result<Response, ApiError> {
    let access = match access {
        Err(error) if error.problem().known_code() == Some(ProblemCode::AccountGone) => return Ok(Reply::empty()),
        access => access?,
    };
    let ended = state.store.delete_account(access.user_id).await?.unwrap_or_default();
    state.sessions.end(&ended, state.config.clock.now());
    tracing::info!(sessions = ended.len(), "an account was deleted");
    Ok(Reply::empty())
}

/// `GET /api/account/export`. The token is checked when the export begins; the answer may take as long as the line needs.
pub(super) async fn export(State(state): Server, access: AccountAccess) -> Result<Response, ApiError> {
    let owners = Owners::session(access.user_id, access.session_id);
    let room = state.capacity.exports.try_take(owners, 1)?;
    let signer = Arc::clone(&state);
    let owner = state.urls.tag(access.user_id);
    let complete_blob = move |blob: &mut ExportedBlob| add_url(&signer, owner, blob);
    let mut export = Export::new(
        Arc::clone(&state.store),
        access.user_id,
        state.config.clock.now(),
        complete_blob,
    );
    // Before the head of the answer, so that what fails at once is a problem and not a broken answer.
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
fn add_url(state: &ServerState, owner: [u8; 16], blob: &mut ExportedBlob) {
    let expires_at = state.config.clock.now() + limits::PRESIGNED_URL_SECONDS;
    let url = ObjectUrl {
        method: UrlMethod::Get,
        key: blob.object_key,
        size: blob.size,
        expires_at,
        owner,
    };
    blob.download_url = Some(state.urls.sign(&url));
    blob.url_expires_at = Some(expires_at);
}

impl From<ExportError> for ApiError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::AccountGone => ProblemCode::AccountGone.into(),
            ExportError::Store(error) => error.into(),
            ExportError::Encode(error) => Self::internal(error),
        }
    }
}
