//! The account page, and what its forms do.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use synckit_protocol::{AppId, DeviceId};
use synckit_store::{EndSessions, PAGES_APP, StreamId};

use super::{
    session::{PageAccess, To, lead, refused, to_sign_in},
    view::AccountView,
};
use crate::{
    http::{ApiError, Fields, Form, Site},
    oauth::{Page, VaultPage},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `GET /account`.
pub(super) async fn show(
    State(state): Server,
    access: PageAccess,
    site: Site,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes()).ok();
    // A link elsewhere must not make the page say that something was done.
    let fields = fields.filter(|_| site == Site::Own);
    let done = fields.as_ref().and_then(|fields| fields.get("done"));
    match AccountView::shown(&state, &access, done).await? {
        Some(account) => state.pages.show(&Page::Account(account)),
        None => Ok(to_sign_in(&state, To::Account)),
    }
}

/// `GET /account/password`. Its script asks for the old password, which is the fresh proof.
pub(super) async fn password(State(state): Server, access: PageAccess) -> Result<Response, ApiError> {
    with_vault(&state, &access, VaultPage::Password).await
}

/// `GET /account/recovery-code`, as [`password`].
pub(super) async fn recovery_code(State(state): Server, access: PageAccess) -> Result<Response, ApiError> {
    with_vault(&state, &access, VaultPage::RecoveryCode).await
}

async fn with_vault(state: &ServerState, access: &PageAccess, page: VaultPage) -> Result<Response, ApiError> {
    let Some(overview) = state.store.account(access.user_id).await? else {
        return Ok(to_sign_in(state, To::Account));
    };
    state.pages.show(&Page::Vault {
        page,
        email: &overview.account.email,
        user_id: access.user_id.to_string(),
        app_id: PAGES_APP.to_string(),
    })
}

/// `POST /account/sessions`.
pub(super) async fn end_sessions(
    State(state): Server,
    access: PageAccess,
    site: Site,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    if let Some(refusal) = access.refuses(&state, site, &fields, To::Account).await {
        return Ok(refusal);
    }
    let which = match fields.get("session") {
        Some("others") => EndSessions::OthersOfUser(access.user_id, access.session_id),
        Some(id) => match id.parse() {
            Ok(id) => EndSessions::OneOfUser(access.user_id, id),
            Err(_) => return refused(&state),
        },
        None => return refused(&state),
    };
    // One that ended meanwhile is as it should be.
    let ended = state.store.end_sessions(which).await?;
    state.sessions.end(&ended, state.config.clock.now());
    Ok(lead(&state, "/account?done=sessions"))
}

/// `POST /account/devices`.
pub(super) async fn revoke_device(
    State(state): Server,
    access: PageAccess,
    site: Site,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    if let Some(refusal) = access.refuses(&state, site, &fields, To::Account).await {
        return Ok(refusal);
    }
    let app_id: Option<AppId> = fields.get("app").and_then(|id| id.parse().ok());
    let device_id: Option<DeviceId> = fields.get("device").and_then(|id| id.parse().ok());
    let (Some(app_id), Some(device_id)) = (app_id, device_id) else {
        return refused(&state);
    };
    let stream = StreamId {
        app_id,
        user_id: access.user_id,
    };
    let now = state.config.clock.now();
    let Some(ended) = state.store.revoke_device(stream, device_id, now).await? else {
        return refused(&state);
    };
    state.sessions.end(&ended, now);
    Ok(lead(&state, "/account?done=device"))
}
