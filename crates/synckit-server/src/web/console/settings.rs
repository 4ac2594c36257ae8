//! The keys of an app, its return addresses, its name, and its end.

use std::{io, sync::Arc, time::Duration};

use axum::{
    extract::{RawQuery, State},
    response::Response,
};

use super::{ConsoleAccess, admin, done, may_delete, not_found, view, view::RefusedForm};
use crate::{
    admin::AdminError,
    billing::{PlanError, UserLimit},
    http::{ApiError, Fields, Form, PathText, Site},
    oauth::Page,
    state::ServerState,
    web::session::{To, refused, to_sign_in},
};

type Server = State<Arc<ServerState>>;

/// For how many days the other keys of an app may stay valid beside a new one.
const OVERLAP_DAYS: [u64; 4] = [0, 7, 30, 90];
const DAY: u64 = 24 * 3600;

/// `GET /console/apps/{app}/settings`.
pub(super) async fn show(
    State(state): Server,
    access: ConsoleAccess,
    site: Site,
    PathText(id): PathText,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Some(found) = access.app(&id) else {
        return not_found(&state);
    };
    let fields = Fields::parse(query.unwrap_or_default().as_bytes()).ok();
    // A link elsewhere must not make the page say that something was done.
    let fields = fields.filter(|_| site == Site::Own);
    let told = match fields.as_ref().and_then(|fields| fields.get("done")) {
        Some("keys") => Some("The app has a new key. Ship it with your next release."),
        Some("redirects") => Some("The return addresses are changed."),
        Some("users") => Some("The limit of each person is changed. It holds within seconds."),
        Some("name") => Some("The app has its new name. People see it from their next request on."),
        _ => None,
    };
    let shown = view::settings(&state, &access, found, told, None).await?;
    state.pages.show(&Page::AppSettings(shown))
}

/// What a form of the settings has done; or the settings again, with why not.
async fn settle(
    state: &ServerState,
    access: &ConsoleAccess,
    id: &str,
    changed: Result<(), AdminError>,
    of: &str,
    typed: &str,
) -> Result<Response, ApiError> {
    let told = match done(state, changed, &format!("/console/apps/{id}/settings?done={of}"))? {
        Ok(answer) => return Ok(answer),
        Err(told) => told,
    };
    let Some(found) = access.app(id) else {
        return not_found(state);
    };
    let told = &told;
    let shown = view::settings(state, access, found, None, Some(RefusedForm { of, typed, told })).await?;
    state.pages.show(&Page::AppSettings(shown))
}

/// `POST /console/apps/{app}/keys`.
pub(super) async fn rotate(
    State(state): Server,
    access: ConsoleAccess,
    site: Site,
    PathText(id): PathText,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    let app = match access.app_of_form(&state, site, &fields, &id).await {
        Ok(app) => app,
        Err(refusal) => return Ok(refusal),
    };
    let days = fields.get("days").and_then(|days| days.parse::<u64>().ok());
    let Some(days) = days.filter(|days| OVERLAP_DAYS.contains(days)) else {
        return refused(&state);
    };
    let overlap = Duration::from_secs(days * DAY);
    let rotated = admin(&state).rotate_api_key(app.id, overlap).await;
    settle(&state, &access, &id, rotated.map(drop), "keys", "").await
}

/// `POST /console/apps/{app}/redirects`.
pub(super) async fn redirect(
    State(state): Server,
    access: ConsoleAccess,
    site: Site,
    PathText(id): PathText,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    let app = match access.app_of_form(&state, site, &fields, &id).await {
        Ok(app) => app,
        Err(refusal) => return Ok(refusal),
    };
    let uri = fields.get("uri").unwrap_or_default().trim();
    let admin = admin(&state);
    let changed = match fields.get("change") {
        Some("add") => admin.add_redirect(app.id, uri).await,
        Some("remove") => admin.remove_redirect(app.id, uri).await,
        _ => return refused(&state),
    };
    settle(&state, &access, &id, changed, "redirects", uri).await
}

/// `POST /console/apps/{app}/name`.
pub(super) async fn rename(
    State(state): Server,
    access: ConsoleAccess,
    site: Site,
    PathText(id): PathText,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    let app = match access.app_of_form(&state, site, &fields, &id).await {
        Ok(app) => app,
        Err(refusal) => return Ok(refusal),
    };
    let name = fields.get("name").unwrap_or_default().trim();
    let renamed = admin(&state).rename_app(app.id, name).await;
    settle(&state, &access, &id, renamed, "name", name).await
}

/// `POST /console/apps/{app}/user-limit`.
pub(super) async fn limit_users(
    State(state): Server,
    access: ConsoleAccess,
    site: Site,
    PathText(id): PathText,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    let app = match access.app_of_form(&state, site, &fields, &id).await {
        Ok(app) => app,
        Err(refusal) => return Ok(refusal),
    };
    let typed = fields.get("mb").unwrap_or_default().trim();
    let changed = match limit_of(typed, fields.get("burst").unwrap_or_default().trim()) {
        Ok(limit) => admin(&state).write_user_limit(app.id, limit).await,
        Err(error) => Err(error.into()),
    };
    settle(&state, &access, &id, changed, "users", typed).await
}

fn limit_of(megabytes: &str, burst: &str) -> Result<Option<UserLimit>, PlanError> {
    if megabytes.is_empty() {
        return Ok(None);
    }
    Ok(Some(UserLimit {
        megabytes: megabytes.parse()?,
        burst: burst.parse()?,
    }))
}

/// `GET /console/apps/{app}/delete`.
pub(super) async fn ask(
    State(state): Server,
    access: ConsoleAccess,
    PathText(id): PathText,
) -> Result<Response, ApiError> {
    if !access.page.is_fresh(state.config.clock.now()) {
        return Ok(to_sign_in(&state, To::Console));
    }
    question(&state, &access, &id, false).await
}

async fn question(state: &ServerState, access: &ConsoleAccess, id: &str, is_wrong: bool) -> Result<Response, ApiError> {
    let Some(found) = access.app(id).filter(|(team, _)| may_delete(team)) else {
        return not_found(state);
    };
    let shown = view::deletion(state, access, found, is_wrong).await?;
    state.pages.show(&Page::DeleteApp(shown))
}

/// `POST /console/apps/{app}/delete`. The typed name is compared here, too: a browser may run no script.
pub(super) async fn delete(
    State(state): Server,
    access: ConsoleAccess,
    site: Site,
    PathText(id): PathText,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    if let Some(refusal) = access.page.refuses(&state, site, &fields, To::Console).await {
        return Ok(refusal);
    }
    let Some((_, app)) = access.app(&id).filter(|(team, _)| may_delete(team)) else {
        return not_found(&state);
    };
    if fields.get("name").unwrap_or_default().trim() != app.name {
        return question(&state, &access, &id, true).await;
    }
    match done(&state, admin(&state).delete_app(app.id).await, "/console?done=deleted")? {
        Ok(answer) => Ok(answer),
        Err(told) => Err(ApiError::internal(io::Error::other(told))),
    }
}
