//! Teams, their members, and which apps are theirs.

use synckit_protocol::{
    AppId, TeamId, UserId,
    limits::{TEAM_APPS_MAX, TEAM_MEMBERS_MAX},
    wire::{UnixSeconds, console::FirstSteps},
};

use super::{Column, Executor, FromColumn, ImpossibleValue, Row, accounts, apps, params};
use crate::{
    ApiKey, App, AppWrite, Member, MemberWrite, NewTeam, OwnTeam, StoreError, Team, TeamCreation, TeamDeletion,
    TeamRole,
};

impl FromColumn for TeamRole {
    fn from_column(column: &Column) -> Result<Self, ImpossibleValue> {
        match column {
            Column::Text(text) => text.parse().map_err(|_| ImpossibleValue("role")),
            _ => Err(ImpossibleValue("role")),
        }
    }
}

/// The key of a team.
async fn find(db: &impl Executor, team_id: TeamId) -> Result<Option<i64>, StoreError> {
    let found = db
        .query_one("SELECT team_key FROM teams WHERE team_id = $1", params![&team_id])
        .await?;
    found.map(|row| row.get(0)).transpose()
}

/// [`crate::Store::create_team`].
///
/// # Errors
/// Those of the engine.
pub async fn create(db: &impl Executor, team: &NewTeam) -> Result<TeamCreation, StoreError> {
    let Some(account_key) = accounts::key(db, team.owner).await? else {
        return Ok(TeamCreation::NoSuchAccount);
    };
    let same_name = db
        .query_one("SELECT team_key FROM teams WHERE name = $1", params![&team.name])
        .await?;
    if same_name.is_some() {
        return Ok(TeamCreation::NameTaken);
    }
    let created = db
        .query_one(
            "INSERT INTO teams (team_id, name, created_at) VALUES ($1, $2, $3) RETURNING team_key",
            params![&team.id, &team.name, team.created_at],
        )
        .await?;
    let team_key = created.ok_or(ImpossibleValue("team without a key"))?.get(0)?;
    put(db, team_key, account_key, TeamRole::Owner, team.created_at).await?;
    Ok(TeamCreation::Created)
}

async fn put(
    db: &impl Executor,
    team_key: i64,
    account_key: i64,
    role: TeamRole,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO team_members (team_key, account_key, role, joined_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (team_key, account_key) DO UPDATE SET role = excluded.role",
        params![team_key, account_key, role.name(), now],
    )
    .await?;
    Ok(())
}

/// [`crate::Store::delete_team`].
///
/// # Errors
/// Those of the engine.
pub async fn delete(db: &impl Executor, team_id: TeamId) -> Result<TeamDeletion, StoreError> {
    let Some(team_key) = find(db, team_id).await? else {
        return Ok(TeamDeletion::NoSuchTeam);
    };
    if count_apps(db, team_key).await? > 0 {
        return Ok(TeamDeletion::HasApps);
    }
    for sql in [
        "DELETE FROM team_members WHERE team_key = $1",
        "DELETE FROM teams WHERE team_key = $1",
    ] {
        db.execute(sql, params![team_key]).await?;
    }
    Ok(TeamDeletion::Deleted)
}

/// [`crate::Store::teams`].
///
/// # Errors
/// Those of the engine.
pub async fn list(db: &impl Executor) -> Result<Vec<Team>, StoreError> {
    let teams = db
        .query(
            "SELECT team_key, team_id, name, created_at FROM teams ORDER BY team_key",
            &[],
        )
        .await?;
    let mut list = Vec::with_capacity(teams.len());
    for row in teams {
        let team_key: i64 = row.get(0)?;
        let apps = db
            .query(
                "SELECT app_id FROM apps WHERE team_key = $1 ORDER BY app_key",
                params![team_key],
            )
            .await?;
        list.push(Team {
            id: row.get(1)?,
            name: row.get(2)?,
            created_at: row.get(3)?,
            members: members_of(db, team_key).await?,
            apps: apps.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?,
        });
    }
    Ok(list)
}

async fn members_of(db: &impl Executor, team_key: i64) -> Result<Vec<Member>, StoreError> {
    let rows = db
        .query(
            "SELECT user_id, email, role, joined_at FROM team_members JOIN accounts USING (account_key)
             WHERE team_key = $1",
            params![team_key],
        )
        .await?;
    let member = |row: &Row| {
        Ok(Member {
            user_id: row.get(0)?,
            email: row.get(1)?,
            role: row.get(2)?,
            joined_at: row.get(3)?,
        })
    };
    let mut members: Vec<Member> = rows.iter().map(member).collect::<Result<_, StoreError>>()?;
    // Here, because each engine has an order of its own for texts.
    members.sort_unstable_by(|a, b| a.email.cmp(&b.email));
    Ok(members)
}

/// [`crate::Store::write_member`].
///
/// # Errors
/// Those of the engine.
pub async fn write_member(
    db: &impl Executor,
    team_id: TeamId,
    user_id: UserId,
    role: Option<TeamRole>,
    now: UnixSeconds,
) -> Result<MemberWrite, StoreError> {
    let Some(team_key) = find(db, team_id).await? else {
        return Ok(MemberWrite::NoSuchTeam);
    };
    let Some(account_key) = accounts::key(db, user_id).await? else {
        return Ok(MemberWrite::NoSuchAccount);
    };
    let members = members_of(db, team_key).await?;
    let is_member = members.iter().any(|member| member.user_id == user_id);
    if role != Some(TeamRole::Owner) && is_last_owner(&members, user_id) {
        return Ok(MemberWrite::LastOwner);
    }
    let Some(role) = role else {
        if !is_member {
            return Ok(MemberWrite::NoSuchAccount);
        }
        db.execute(
            "DELETE FROM team_members WHERE team_key = $1 AND account_key = $2",
            params![team_key, account_key],
        )
        .await?;
        return Ok(MemberWrite::Written);
    };
    if !is_member && members.len() >= TEAM_MEMBERS_MAX {
        return Ok(MemberWrite::TooMany);
    }
    put(db, team_key, account_key, role, now).await?;
    Ok(MemberWrite::Written)
}

fn is_last_owner(members: &[Member], user_id: UserId) -> bool {
    let mut owners = members.iter().filter(|member| member.role == TeamRole::Owner);
    owners.next().is_some_and(|owner| owner.user_id == user_id) && owners.next().is_none()
}

async fn count_apps(db: &impl Executor, team_key: i64) -> Result<u64, StoreError> {
    let row = db
        .query_one("SELECT count(*) FROM apps WHERE team_key = $1", params![team_key])
        .await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// The key of a team that may have one more app, or why it may not.
pub(super) async fn with_room(db: &impl Executor, team_id: TeamId) -> Result<Result<i64, AppWrite>, StoreError> {
    let Some(team_key) = find(db, team_id).await? else {
        return Ok(Err(AppWrite::NoSuchTeam));
    };
    if count_apps(db, team_key).await? >= TEAM_APPS_MAX {
        return Ok(Err(AppWrite::TooMany));
    }
    Ok(Ok(team_key))
}

/// [`crate::Store::give_app`].
///
/// # Errors
/// Those of the engine.
pub async fn give_app(db: &impl Executor, app_id: AppId, team_id: TeamId) -> Result<AppWrite, StoreError> {
    let Some(app_key) = apps::find(db, app_id).await? else {
        return Ok(AppWrite::NoSuchApp);
    };
    match with_room(db, team_id).await? {
        Ok(team_key) => {
            db.execute(
                "UPDATE apps SET team_key = $2 WHERE app_key = $1",
                params![app_key, team_key],
            )
            .await?;
            Ok(AppWrite::Written)
        }
        Err(refusal) => Ok(refusal),
    }
}

/// [`crate::Store::own_teams`].
///
/// # Errors
/// Those of the engine.
pub async fn of_user(db: &impl Executor, user_id: UserId, now: UnixSeconds) -> Result<Vec<OwnTeam>, StoreError> {
    let teams = db
        .query(
            "SELECT team_key, team_id, teams.name, role FROM accounts
             JOIN team_members USING (account_key) JOIN teams USING (team_key)
             WHERE user_id = $1 ORDER BY team_key",
            params![&user_id],
        )
        .await?;
    let mut list = Vec::with_capacity(teams.len());
    for row in teams {
        list.push(OwnTeam {
            id: row.get(1)?,
            name: row.get(2)?,
            role: row.get(3)?,
            members: members_of(db, row.get(0)?).await?,
            apps: apps_of(db, row.get(0)?, now).await?,
        });
    }
    Ok(list)
}

async fn apps_of(db: &impl Executor, team_key: i64, now: UnixSeconds) -> Result<Vec<App>, StoreError> {
    let rows = db
        .query(
            "SELECT app_id, name, apps.created_at, api_key, api_keys.created_at, ends_at
             FROM apps LEFT JOIN api_keys ON api_keys.app_key = apps.app_key AND (ends_at IS NULL OR ends_at > $2)
             WHERE team_key = $1 ORDER BY apps.app_key, api_key_key DESC",
            params![team_key, now],
        )
        .await?;
    let mut list: Vec<App> = Vec::new();
    for row in rows {
        let id: AppId = row.get(0)?;
        if list.last().is_none_or(|last| last.id != id) {
            list.push(App {
                id,
                name: row.get(1)?,
                created_at: row.get(2)?,
                keys: Vec::new(),
            });
        }
        let text: Option<String> = row.get(3)?;
        if let (Some(text), Some(last)) = (text, list.last_mut()) {
            last.keys.push(ApiKey {
                text,
                created_at: row.get(4)?,
                ends_at: row.get(5)?,
            });
        }
    }
    Ok(list)
}

/// [`crate::Store::first_steps`].
///
/// # Errors
/// Those of the engine.
pub async fn first_steps(db: &impl Executor, app_id: AppId) -> Result<FirstSteps, StoreError> {
    let signed_in = db
        .query_one(
            "SELECT stream_key FROM streams WHERE app_id = $1 LIMIT 1",
            params![&app_id],
        )
        .await?;
    let pushed = db
        .query_one(
            "SELECT stream_key FROM streams WHERE app_id = $1 AND seq > 0 LIMIT 1",
            params![&app_id],
        )
        .await?;
    let second_device = db
        .query_one(
            "SELECT stream_key FROM (SELECT stream_key FROM streams WHERE app_id = $1 ORDER BY stream_key LIMIT 1000) AS first
             JOIN devices USING (stream_key) WHERE revoked_at IS NULL
             GROUP BY stream_key HAVING count(*) > 1 LIMIT 1",
            params![&app_id],
        )
        .await?;
    Ok(FirstSteps {
        signed_in: signed_in.is_some(),
        pushed: pushed.is_some(),
        second_device: second_device.is_some(),
    })
}
