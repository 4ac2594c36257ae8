//! What the pages of the console show.

use minijinja::{Value, context};
use serde::Serialize;
use synckit_protocol::{
    AppId,
    wire::{UnixSeconds, console::FirstSteps},
};
use synckit_store::{ApiKey, App, OwnTeam};

use super::{ConsoleAccess, may_delete};
use crate::{http::ApiError, metering::user_limit_of, startup::config::PublicUrl, state::ServerState};

/// The guide, whose program and commands the quick start shows.
const GUIDE: &str = include_str!("../../../../../docs/guide.md");
/// What its program has in place of the server, the key of an app, and the address of an account.
const SERVER_IN_GUIDE: &str = "\"http://127.0.0.1:8080\".into()";
const KEY_IN_GUIDE: &str = "std::env::var(\"SYNCKIT_API_KEY\")?";
const EMAIL_IN_GUIDE: &str = "std::env::var(\"SYNCKIT_EMAIL\")?";

#[derive(Debug, Serialize)]
struct TeamView {
    id: String,
    name: String,
    role: &'static str,
    apps: Vec<AppView>,
    members: Vec<MemberView>,
}

#[derive(Debug, Serialize)]
struct AppView {
    id: String,
    name: String,
    since: UnixSeconds,
    keys: usize,
}

#[derive(Debug, Serialize)]
struct MemberView {
    email: String,
    role: &'static str,
    since: UnixSeconds,
    is_you: bool,
}

#[derive(Debug, Serialize)]
struct KeyView {
    text: String,
    since: UnixSeconds,
    ends: Option<UnixSeconds>,
}

impl From<&ApiKey> for KeyView {
    fn from(key: &ApiKey) -> Self {
        Self {
            text: key.text.clone(),
            since: key.created_at,
            ends: key.ends_at,
        }
    }
}

/// Why a form was refused, and what it held.
#[derive(Debug, Serialize)]
pub(super) struct RefusedForm<'a> {
    /// Which of the forms of the page: of which team, or of which settings.
    pub(super) of: &'a str,
    pub(super) typed: &'a str,
    pub(super) told: &'a str,
}

/// The teams.
pub(super) async fn teams(
    state: &ServerState,
    access: &ConsoleAccess,
    refused: Option<RefusedForm<'_>>,
) -> Result<Value, ApiError> {
    let teams: Vec<TeamView> = access.teams.iter().map(|team| team_view(team, access)).collect();
    Ok(context! { teams, refused, ..common(state, access).await? })
}

fn team_view(team: &OwnTeam, access: &ConsoleAccess) -> TeamView {
    let apps = team.apps.iter().map(|app| AppView {
        id: app.id.to_string(),
        name: app.name.clone(),
        since: app.created_at,
        keys: app.keys.len(),
    });
    let members = team.members.iter().map(|member| MemberView {
        email: member.email.clone(),
        role: member.role.name(),
        since: member.joined_at,
        is_you: member.user_id == access.page.user_id,
    });
    TeamView {
        id: team.id.to_string(),
        name: team.name.clone(),
        role: team.role.name(),
        apps: apps.collect(),
        members: members.collect(),
    }
}

/// What every page of the console has.
async fn common(state: &ServerState, access: &ConsoleAccess) -> Result<Value, ApiError> {
    let overview = state.store.account(access.page.user_id).await?;
    let email = overview.map(|overview| overview.account.email);
    let form = &access.page.form;
    Ok(context! { email, form, is_console => true })
}

/// What every page of an app has.
pub(super) async fn of_app(
    state: &ServerState,
    access: &ConsoleAccess,
    (team, app): (&OwnTeam, &App),
) -> Result<Value, ApiError> {
    let team_name = &team.name;
    let may_delete = may_delete(team);
    Ok(context! {
        app_id => app.id.to_string(), app_name => app.name, team_name, may_delete, ..common(state, access).await?
    })
}

/// The first steps.
pub(super) async fn quick_start(
    state: &ServerState,
    access: &ConsoleAccess,
    found: (&OwnTeam, &App),
    steps: FirstSteps,
) -> Result<Value, ApiError> {
    // A key that was replaced already would be a bad beginning.
    let key = found.1.keys.iter().find(|key| key.ends_at.is_none());
    let common = of_app(state, access, found).await?;
    let email = common.get_attr("email").ok();
    let email = email.as_ref().and_then(Value::as_str).unwrap_or_default();
    let server = state.config.public_url.as_ref().map_or("", PublicUrl::as_str);
    let program = key.map(|key| program(server, &key.text, email));
    // The guide is inside of the checkout at that point.
    let set_up = block("cargo new my-app").map(|block| block.trim_start_matches("cd ..\n"));
    let key = key.map(|key| &key.text);
    Ok(context! {
        key, program, set_up, signed_in => steps.signed_in, pushed => steps.pushed,
        second_device => steps.second_device, ..common
    })
}

/// A block of code of the guide: the one that contains this.
fn block(contains: &str) -> Option<&'static str> {
    let blocks = GUIDE.split("```").skip(1).step_by(2);
    let code = blocks.filter_map(|block| block.split_once('\n'));
    code.map(|(_, code)| code.trim_end())
        .find(|code| code.contains(contains))
}

/// The program of the guide for this server, this key, and the person who reads it.
fn program(server: &str, key: &str, email: &str) -> Option<String> {
    let program = block(SERVER_IN_GUIDE)?;
    let literal = |text: &str| format!("\"{}\"", text.escape_default());
    let quoted = |text: &str| format!("{}.into()", literal(text));
    Some(
        program
            .replacen(SERVER_IN_GUIDE, &quoted(server), 1)
            .replacen(KEY_IN_GUIDE, &quoted(key), 1)
            .replacen(EMAIL_IN_GUIDE, &format!("{}.to_owned()", literal(email)), 1),
    )
}

/// The settings.
pub(super) async fn settings(
    state: &ServerState,
    access: &ConsoleAccess,
    found: (&OwnTeam, &App),
    done: Option<&'static str>,
    refused: Option<RefusedForm<'_>>,
) -> Result<Value, ApiError> {
    let keys: Vec<KeyView> = found.1.keys.iter().map(KeyView::from).collect();
    let redirects = redirects(state, found.1.id).await?;
    let user_limit = user_limit(state, found.1.id).await?;
    Ok(
        context! { user_limit, keys, redirects, done, refused, is_settings => true, ..of_app(state, access, found).await? },
    )
}

#[derive(Debug, Serialize)]
struct UserLimitView {
    megabytes: u32,
    burst: String,
}

async fn user_limit(state: &ServerState, app_id: AppId) -> Result<Option<UserLimitView>, ApiError> {
    let limit = state.store.user_limit(app_id).await?.and_then(user_limit_of);
    Ok(limit.map(|limit| UserLimitView {
        megabytes: limit.megabytes.number(),
        burst: limit.burst.to_string(),
    }))
}

async fn redirects(state: &ServerState, app_id: AppId) -> Result<Vec<String>, ApiError> {
    let profile = state.store.app_profile(app_id).await?;
    Ok(profile.map(|profile| profile.redirects).unwrap_or_default())
}

/// The question before a deletion.
pub(super) async fn deletion(
    state: &ServerState,
    access: &ConsoleAccess,
    found: (&OwnTeam, &App),
    is_wrong: bool,
) -> Result<Value, ApiError> {
    Ok(context! { is_wrong, ..of_app(state, access, found).await? })
}

#[cfg(test)]
mod tests {
    use super::{EMAIL_IN_GUIDE, KEY_IN_GUIDE, SERVER_IN_GUIDE, block, program};

    #[test]
    fn the_quick_start_is_the_guide_with_server_and_key() {
        let program = program("https://sync.example.com", "skp_00", "ada@example.com").unwrap();
        assert!(
            program.contains("server_url: \"https://sync.example.com\".into(),"),
            "{program}"
        );
        assert!(program.contains("api_key: \"skp_00\".into(),"), "{program}");
        assert!(program.contains("(\"ada@example.com\".to_owned(), "), "{program}");
        assert!(!program.contains(EMAIL_IN_GUIDE));
        assert!(!program.contains(SERVER_IN_GUIDE) && !program.contains(KEY_IN_GUIDE));
        assert!(block("cargo new my-app").unwrap().contains("cargo add synckit-client"));
    }
}
