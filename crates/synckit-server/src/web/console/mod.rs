//! The console: what the members of a team see and do with its apps. It shows no content, because the server has none.
//!
//! Who is signed in to the pages of an account is signed in here: a team's members are accounts.
//!
//! Invariant: a page or a form finds an app only among those of the account's teams. A foreign app and none are the same answer.

mod apps;
mod settings;
mod usage;
mod view;

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::request::Parts;
use synckit_protocol::{AppId, wire::console::FirstSteps};
use synckit_store::{App, OwnTeam, TeamRole};

use super::{
    FORM, PAGE, REFUSED, page,
    session::{PageAccess, To, lead},
};
use crate::{
    admin::{Admin, AdminError},
    http::{ApiError, Fields, Site},
    oauth::Page,
    openapi::{Answer, Content, Operation, get, post},
    startup::DataDir,
    state::ServerState,
};

const NOT_FOUND: Answer = Answer {
    status: 404,
    description: "A page that says that there is no such app for this account",
    content: Content::Other("text/html"),
    headers: &[],
};

/// A page or a form of one app.
fn of_app(operation: Operation) -> Operation {
    page(operation).path::<AppId>("app", "The app.").answer(NOT_FOUND)
}

/// A form of one app.
fn form_of_app(operation: Operation, fields: &'static [(&'static str, &'static str)]) -> Operation {
    of_app(operation)
        .takes_form(fields)
        .answer(REFUSED)
        .answer(PAGE)
        .writes()
}

/// Every operation of the console.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        page(get("/console", apps::list))
            .does("Shows the teams of the account, their apps and members")
            .answer(PAGE),
        page(post("/console/apps", apps::create))
            .answer(NOT_FOUND)
            .does("Creates an app of a team")
            .takes_form(&[FORM, ("team", "The id of the team."), ("name", "The name of the app.")])
            .answer(REFUSED)
            .answer(PAGE)
            .writes(),
        of_app(get("/console/apps/{app}", apps::quick_start))
            .does("Shows the first steps with an app, with its key in them")
            .answer(PAGE),
        of_app(get("/console/apps/{app}/steps", apps::steps))
            .does("Says which of the first steps have happened")
            .answers::<FirstSteps>("Whether each has happened."),
        of_app(get("/console/apps/{app}/usage", usage::show))
            .does("Shows what an app stores and moves, and how much of its plan that is")
            .answer(PAGE),
        of_app(get("/console/apps/{app}/settings", settings::show))
            .does("Shows the keys of an app, where a sign-in may return to, and its name")
            .answer(PAGE),
        form_of_app(
            post("/console/apps/{app}/keys", settings::rotate),
            &[
                FORM,
                ("days", "For how many days the other keys stay valid: 0, 7, 30 or 90."),
            ],
        )
        .does("Gives an app a new key"),
        form_of_app(
            post("/console/apps/{app}/redirects", settings::redirect),
            &[
                FORM,
                ("change", "`add` or `remove`."),
                ("uri", "The address that a sign-in may return to."),
            ],
        )
        .does("Registers a return address, or removes one"),
        form_of_app(
            post("/console/apps/{app}/name", settings::rename),
            &[FORM, ("name", "The new name.")],
        )
        .does("Gives an app another name"),
        form_of_app(
            post("/console/apps/{app}/user-limit", settings::limit_users),
            &[
                FORM,
                ("mb", "Megabytes that each user may store; empty for no limit."),
                ("burst", "How often they may move in 30 days."),
            ],
        )
        .does("Limits what each user may store and move"),
        of_app(get("/console/apps/{app}/delete", settings::ask))
            .does("Shows what a deletion of an app takes")
            .answer(PAGE),
        form_of_app(
            post("/console/apps/{app}/delete", settings::delete),
            &[FORM, ("name", "The name of the app, typed.")],
        )
        .does("Deletes an app, with all data in it. Only for owners of its team"),
    ]
}

/// A request of a signed-in browser, with all that its account may administer.
#[derive(Debug)]
pub(super) struct ConsoleAccess {
    page: PageAccess,
    teams: Vec<OwnTeam>,
}

impl ConsoleAccess {
    /// An app of the account's teams, by the text of its id.
    fn app(&self, id: &str) -> Option<(&OwnTeam, &App)> {
        let id = id.parse().ok()?;
        self.teams
            .iter()
            .find_map(|team| team.apps.iter().find(|app| app.id == id).map(|app| (team, app)))
    }

    /// The app that a form changes, or the page that says why it changes nothing.
    async fn app_of_form(&self, state: &ServerState, site: Site, fields: &Fields, id: &str) -> Result<&App, Response> {
        if let Some(refusal) = self.refuses(state, site, fields).await {
            return Err(refusal);
        }
        let found = self.app(id).map(|(_, app)| app);
        found.ok_or_else(|| not_found(state).unwrap_or_else(IntoResponse::into_response))
    }

    /// Why a form changes nothing: it is not of this session's page.
    async fn refuses(&self, state: &ServerState, site: Site, fields: &Fields) -> Option<Response> {
        self.page.refuses_form(state, site, fields, To::Console).await
    }
}

impl FromRequestParts<Arc<ServerState>> for ConsoleAccess {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ServerState>) -> Result<Self, Response> {
        let page = PageAccess::from_request_parts(parts, state).await?;
        let now = state.config.clock.now();
        let teams = state.store.own_teams(page.user_id, now).await;
        let teams = teams.map_err(|error| ApiError::from(error).into_response())?;
        Ok(Self { page, teams })
    }
}

const fn may_delete(team: &OwnTeam) -> bool {
    matches!(team.role, TeamRole::Owner)
}

fn admin(state: &ServerState) -> Admin {
    let data_dir = DataDir::at(&state.config.data_dir);
    Admin::of(data_dir, Arc::clone(&state.store), state.config.clock.clone())
}

fn not_found(state: &ServerState) -> Result<Response, ApiError> {
    state.pages.show(&Page::NotFound)
}

/// What a form has done: `Ok` leads on, and what the person can mend is told.
fn done(state: &ServerState, result: Result<(), AdminError>, path: &str) -> Result<Result<Response, String>, ApiError> {
    match result {
        Ok(()) => Ok(Ok(lead(state, path))),
        Err(AdminError::Store(error)) => Err(error.into()),
        Err(AdminError::NoSuchApp(_) | AdminError::NoSuchTeam(_)) => Ok(Ok(not_found(state)?)),
        Err(
            error @ (AdminError::AppName(_)
            | AdminError::AppNameTaken(_)
            | AdminError::TooManyApps
            | AdminError::Plan(_)
            | AdminError::Redirect(_)
            | AdminError::TooManyRedirects
            | AdminError::NoSuchRedirect(_)),
        ) => Ok(Err(error.to_string())),
        Err(error) => Err(ApiError::internal(error)),
    }
}
