//! `synckit team`: who administers which apps in the console.

use std::process::ExitCode;

use anyhow::anyhow;
use serde::Serialize;
use synckit_protocol::{AppId, TeamId};
use synckit_server::Admin;
use synckit_store::{Team, TeamRole};

use crate::{
    admin::{account_of, app_of, open},
    cli::{DataArgs, TeamCommand},
    failure::{Failure, WithHint as _},
    runtime, screen, units,
};

pub(crate) fn run(command: TeamCommand) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        match command {
            TeamCommand::Create { name, owner, data } => create(&name, &owner, &data).await,
            TeamCommand::List { data } => list(&data).await,
            TeamCommand::Add {
                team,
                email,
                role,
                data,
            } => write_member(&team, &email, Some(role), &data).await,
            TeamCommand::Remove { team, email, data } => write_member(&team, &email, None, &data).await,
            TeamCommand::Give { app, team, data } => give(&app, &team, &data).await,
            TeamCommand::Delete { team, data } => delete(&team, &data).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn create(name: &str, owner: &str, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let owner_id = account_of(&admin, owner).await?;
    let team_id = admin.create_team(name, owner_id).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "team_id": team_id, "name": name, "owner": owner_id }),
        )?);
    }
    screen::line(format_args!("team     {name}"));
    screen::line(format_args!("team id  {team_id}"));
    screen::line(format_args!(
        "owner    {owner}, who signs in at /console of this server"
    ));
    Ok(())
}

async fn list(data: &DataArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Member {
        email: String,
        role: &'static str,
        joined_at: u64,
    }
    #[derive(Serialize)]
    struct Listed {
        team_id: TeamId,
        name: String,
        created_at: u64,
        members: Vec<Member>,
        apps: Vec<AppId>,
    }
    let teams = open(data).await?.teams().await?;
    if screen::is_for_programs() {
        let listed = teams.into_iter().map(|team| Listed {
            team_id: team.id,
            name: team.name,
            created_at: team.created_at,
            members: team
                .members
                .into_iter()
                .map(|member| Member {
                    email: member.email,
                    role: member.role.name(),
                    joined_at: member.joined_at,
                })
                .collect(),
            apps: team.apps,
        });
        return Ok(screen::json(&listed.collect::<Vec<_>>())?);
    }
    if teams.is_empty() {
        screen::line("no teams; `synckit team create NAME --owner EMAIL` makes one");
        return Ok(());
    }
    let mut rows = Vec::new();
    for team in &teams {
        let mut first = [team.name.clone(), units::counted(team.apps.len() as u64, "app")].to_vec();
        let members = team
            .members
            .iter()
            .map(|member| (member.email.clone(), member.role.name()));
        let nobody = team.members.is_empty().then(|| ("nobody".to_owned(), ""));
        for (email, role) in members.chain(nobody) {
            let shown = std::mem::replace(&mut first, vec![String::new(); 2]);
            rows.push([shown, vec![email, role.to_owned()]].concat());
        }
    }
    screen::table(&["name", "apps", "member", "role"], &rows, &[]);
    Ok(())
}

async fn write_member(team: &str, email: &str, role: Option<TeamRole>, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let team = team_of(&admin, team).await?;
    let user_id = account_of(&admin, email).await?;
    if role.is_none() && !team.members.iter().any(|member| member.user_id == user_id) {
        return Err(anyhow!("{email} is not a member of {}", team.name))
            .hint("`synckit team list` shows the members")
            .map_err(|failure| failure.with_code("not_found"));
    }
    admin.write_member(team.id, user_id, role).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "team_id": team.id, "user_id": user_id, "role": role.map(TeamRole::name) }),
        )?);
    }
    match role {
        Some(role) => screen::line(format_args!("{email} is a member of {}: {role}", team.name)),
        None => screen::line(format_args!("{email} is no member of {} any more", team.name)),
    }
    Ok(())
}

async fn give(app: &str, team: &str, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let app = app_of(&admin, app).await?;
    let team = team_of(&admin, team).await?;
    admin.give_app(app.id, team.id).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "app_id": app.id, "team_id": team.id }),
        )?);
    }
    screen::line(format_args!("the members of {} administer {} now", team.name, app.name));
    Ok(())
}

async fn delete(team: &str, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let team = team_of(&admin, team).await?;
    admin.delete_team(team.id).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "team_id": team.id, "deleted": true }),
        )?);
    }
    screen::line(format_args!(
        "the team {} is deleted; its members keep their accounts",
        team.name
    ));
    Ok(())
}

/// Finds a team by its id or its name.
async fn team_of(admin: &Admin, wanted: &str) -> Result<Team, Failure> {
    let by_id = wanted.parse::<TeamId>().ok();
    let found = admin.teams().await?.into_iter().find(|team| match by_id {
        Some(team_id) => team.id == team_id,
        None => team.name == wanted,
    });
    let kind = if by_id.is_some() { "with the id" } else { "named" };
    found
        .ok_or_else(|| anyhow!("there is no team {kind} {wanted}"))
        .hint("`synckit team list` shows the teams of this server")
        .map_err(|failure| failure.with_code("not_found"))
}
