//! Taking one's data out, and ending the account.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, header};
use synckit_protocol::limits::ACCOUNT_DELETION_SECONDS;

use super::{
    session::{PageAccess, To, to_sign_in, unset},
    view::AccountView,
};
use crate::{
    api,
    http::{ApiError, Form, Site},
    mail::MailJob,
    oauth::{Page, common_headers},
    sign_in::NormalEmail,
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `GET /account/export`.
pub(super) async fn export(State(state): Server, access: PageAccess) -> Result<Response, ApiError> {
    if !access.is_fresh(state.config.clock.now()) {
        return Ok(to_sign_in(&state, To::Export));
    }
    let exported = api::export(State(Arc::clone(&state)), access.account()).await?;
    let name = HeaderValue::from_static("attachment; filename=\"synckit-export.jsonl\"");
    Ok((common_headers(), [(header::CONTENT_DISPOSITION, name)], exported).into_response())
}

/// `GET /account/delete`.
pub(super) async fn ask(State(state): Server, access: PageAccess) -> Result<Response, ApiError> {
    if !access.is_fresh(state.config.clock.now()) {
        return Ok(to_sign_in(&state, To::Delete));
    }
    show(&state, &access, false).await
}

async fn show(state: &ServerState, access: &PageAccess, is_wrong: bool) -> Result<Response, ApiError> {
    match AccountView::shown(state, access, None).await? {
        Some(account) => state.pages.show(&Page::DeleteAccount { account, is_wrong }),
        None => Ok(to_sign_in(state, To::Account)),
    }
}

/// `POST /account/delete`. The typed address is compared here, too: a browser may run no script.
pub(super) async fn delete(
    State(state): Server,
    access: PageAccess,
    site: Site,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    if let Some(refusal) = access.refuses(&state, site, &fields, To::Delete).await {
        return Ok(refusal);
    }
    let typed = NormalEmail::parse(fields.get("email").unwrap_or_default()).ok();
    let Some(overview) = state.store.account(access.user_id).await? else {
        return Ok(to_sign_in(&state, To::Account));
    };
    let email = overview.account.email;
    if typed.is_none_or(|typed| typed.as_str() != email) {
        return show(&state, &access, true).await;
    }
    // Before anything is changed: without the mail, nobody would hear of a deletion by somebody else.
    let place = state.mailer.reserve()?;
    let now = state.config.clock.now();
    let on = now.saturating_add(ACCOUNT_DELETION_SECONDS);
    let ended = state
        .store
        .schedule_deletion(access.user_id, Some(on))
        .await?
        .unwrap_or_default();
    state.sessions.end(&ended, now);
    place.fill(MailJob::DeletionScheduled { email, on });
    tracing::info!(sessions = ended.len(), "an account is to be deleted");
    let mut answer = state.pages.show(&Page::AccountDeleted { on })?;
    answer.headers_mut().insert(header::SET_COOKIE, unset()?);
    Ok(answer)
}
