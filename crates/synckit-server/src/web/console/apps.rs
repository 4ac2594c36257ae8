//! The apps of the account's teams, and the first steps with one.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use minijinja::context;

use super::{ConsoleAccess, admin, done, not_found, view, view::RefusedForm};
use crate::{
    http::{ApiError, Form, PathText, Reply, Site},
    oauth::Page,
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `GET /console`.
pub(super) async fn list(
    State(state): Server,
    access: ConsoleAccess,
    site: Site,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    // A link elsewhere must not make the page say that something was done.
    let is_deleted = site == Site::Own && query.as_deref() == Some("done=deleted");
    let shown = context! { is_deleted, ..view::teams(&state, &access, None).await? };
    state.pages.show(&Page::Console(shown))
}

/// `POST /console/apps`.
pub(super) async fn create(
    State(state): Server,
    access: ConsoleAccess,
    site: Site,
    Form(fields): Form,
) -> Result<Response, ApiError> {
    if let Some(refusal) = access.refuses(&state, site, &fields).await {
        return Ok(refusal);
    }
    let team = fields.get("team").unwrap_or_default();
    let Some(found) = access.teams.iter().find(|own| own.id.to_string() == team) else {
        return not_found(&state);
    };
    let name = fields.get("name").unwrap_or_default().trim();
    let created = admin(&state).create_app_of(Some(found.id), name).await;
    let path = match &created {
        Ok(created) => format!("/console/apps/{}", created.app_id),
        Err(_) => String::new(),
    };
    match done(&state, created.map(drop), &path)? {
        Ok(answer) => Ok(answer),
        Err(told) => {
            let shown = view::teams(
                &state,
                &access,
                Some(RefusedForm {
                    of: team,
                    typed: name,
                    told: &told,
                }),
            )
            .await?;
            state.pages.show(&Page::Console(shown))
        }
    }
}

/// `GET /console/apps/{app}`.
pub(super) async fn quick_start(
    State(state): Server,
    access: ConsoleAccess,
    PathText(id): PathText,
) -> Result<Response, ApiError> {
    let Some(found) = access.app(&id) else {
        return not_found(&state);
    };
    let steps = state.store.first_steps(found.1.id).await?;
    let shown = view::quick_start(&state, &access, found, steps).await?;
    state.pages.show(&Page::QuickStart(shown))
}

/// `GET /console/apps/{app}/steps`, for the script of that page.
pub(super) async fn steps(
    State(state): Server,
    access: ConsoleAccess,
    PathText(id): PathText,
    reply: Reply,
) -> Result<Response, ApiError> {
    let Some((_, app)) = access.app(&id) else {
        return not_found(&state);
    };
    reply.ok(&state.store.first_steps(app.id).await?)
}
