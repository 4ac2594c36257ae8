//! Teams: who may administer which app.

use synckit_protocol::{
    TeamId, UserId,
    limits::{TEAM_APPS_MAX, TEAM_MEMBERS_MAX},
    wire::{console::FirstSteps, export::ExportLine},
};

use super::fixture::{
    NOW, app_id, append_all, create_account, create_app, id16, key, new_key, ready_stream, register, start, user_id,
};
use crate::{AppWrite, MemberWrite, NewApp, NewTeam, Store, TeamCreation, TeamDeletion, TeamRole};

fn team_id(n: u64) -> TeamId {
    TeamId::from_bytes(id16(n))
}

/// Creates team `n`, whose owner is account `n`.
async fn create_team(store: &dyn Store, n: u64) -> TeamId {
    create_account(store, n).await;
    assert_eq!(
        store.create_team(new_team(n, &format!("team {n}"))).await.unwrap(),
        TeamCreation::Created
    );
    team_id(n)
}

fn new_team(n: u64, name: &str) -> NewTeam {
    NewTeam {
        id: team_id(n),
        name: name.to_owned(),
        owner: user_id(n),
        created_at: NOW,
    }
}

async fn create_app_of(store: &dyn Store, team: u64, n: u64) -> AppWrite {
    let app = NewApp {
        id: app_id(n),
        name: format!("app {n}"),
        team: Some(team_id(team)),
        key: new_key(n),
    };
    store.create_app(app).await.unwrap()
}

async fn write(store: &dyn Store, team: u64, user: u64, role: Option<TeamRole>) -> MemberWrite {
    store
        .write_member(team_id(team), user_id(user), role, NOW)
        .await
        .unwrap()
}

/// The apps that an account may administer.
async fn apps_of(store: &dyn Store, user: u64) -> Vec<u64> {
    let teams = store.own_teams(user_id(user), NOW).await.unwrap();
    let apps = teams.iter().flat_map(|team| &team.apps);
    apps.map(|app| (0..100).find(|n| app_id(*n) == app.id).unwrap())
        .collect()
}

async fn members(store: &dyn Store, team: usize) -> Vec<(UserId, TeamRole)> {
    let teams = store.teams().await.unwrap();
    let members = teams[team].members.iter();
    members.map(|member| (member.user_id, member.role)).collect()
}

pub async fn members_find_the_apps_of_their_teams(store: &dyn Store) {
    create_app(store, 1).await;
    for n in [1, 2] {
        create_team(store, n).await;
    }
    assert_eq!(create_app_of(store, 1, 11).await, AppWrite::Written);
    assert_eq!(create_app_of(store, 2, 12).await, AppWrite::Written);
    assert_eq!(create_app_of(store, 1, 13).await, AppWrite::Written);
    assert_eq!(apps_of(store, 1).await, [11, 13]);
    assert_eq!(apps_of(store, 2).await, [12]);
    create_account(store, 3).await;
    assert!(apps_of(store, 3).await.is_empty());
    assert_eq!(
        write(store, 1, 3, Some(TeamRole::Developer)).await,
        MemberWrite::Written
    );
    assert_eq!(apps_of(store, 3).await, [11, 13]);
    assert_eq!(write(store, 2, 3, Some(TeamRole::Owner)).await, MemberWrite::Written);
    let teams = store.own_teams(user_id(3), NOW).await.unwrap();
    let seen: Vec<_> = teams.iter().map(|team| (team.name.as_str(), team.role)).collect();
    assert_eq!(seen, [("team 1", TeamRole::Developer), ("team 2", TeamRole::Owner)]);
    let emails: Vec<_> = teams[0].members.iter().map(|member| member.email.as_str()).collect();
    assert_eq!(emails, ["1@example.org", "3@example.org"]);
    assert_eq!(write(store, 1, 3, None).await, MemberWrite::Written);
    assert_eq!(apps_of(store, 3).await, [12]);
    // The operator's own app is nobody's, until it is given to a team.
    assert_eq!(store.give_app(app_id(1), team_id(2)).await.unwrap(), AppWrite::Written);
    assert_eq!(apps_of(store, 3).await, [1, 12]);
    assert_eq!(store.give_app(app_id(1), team_id(1)).await.unwrap(), AppWrite::Written);
    assert_eq!(apps_of(store, 3).await, [12]);
    // A deleted app is in no team.
    assert!(store.delete_app(app_id(12)).await.unwrap());
    assert!(apps_of(store, 3).await.is_empty());
}

pub async fn a_member_sees_the_keys_of_an_app(store: &dyn Store) {
    create_team(store, 1).await;
    create_app_of(store, 1, 11).await;
    create_app_of(store, 1, 12).await;
    assert!(store.rotate_api_key(app_id(11), new_key(21), NOW + 60).await.unwrap());
    assert!(store.rotate_api_key(app_id(12), new_key(22), NOW).await.unwrap());
    let keys = async |now| {
        let teams = store.own_teams(user_id(1), now).await.unwrap();
        let of_app = |app: &crate::App| app.keys.iter().map(|key| key.text.clone()).collect::<Vec<_>>();
        teams[0].apps.iter().map(of_app).collect::<Vec<_>>()
    };
    assert_eq!(keys(NOW).await, [vec![key(21), key(11)], vec![key(22)]]);
    assert_eq!(keys(NOW + 60).await, [[key(21)], [key(22)]]);
}

pub async fn a_team_keeps_an_owner(store: &dyn Store) {
    create_team(store, 1).await;
    create_account(store, 2).await;
    assert_eq!(
        write(store, 1, 1, Some(TeamRole::Developer)).await,
        MemberWrite::LastOwner
    );
    assert_eq!(write(store, 1, 1, None).await, MemberWrite::LastOwner);
    assert_eq!(write(store, 1, 2, None).await, MemberWrite::NoSuchAccount);
    assert_eq!(
        write(store, 1, 2, Some(TeamRole::Developer)).await,
        MemberWrite::Written
    );
    assert_eq!(write(store, 1, 1, None).await, MemberWrite::LastOwner);
    assert_eq!(write(store, 1, 2, Some(TeamRole::Owner)).await, MemberWrite::Written);
    assert_eq!(write(store, 1, 1, None).await, MemberWrite::Written);
    assert_eq!(members(store, 0).await, [(user_id(2), TeamRole::Owner)]);
    assert_eq!(
        write(store, 1, 9, Some(TeamRole::Owner)).await,
        MemberWrite::NoSuchAccount
    );
    assert_eq!(write(store, 9, 2, Some(TeamRole::Owner)).await, MemberWrite::NoSuchTeam);
}

pub async fn two_teams_never_have_the_same_name(store: &dyn Store) {
    create_team(store, 1).await;
    create_account(store, 2).await;
    let created = store.create_team(new_team(2, "team 1")).await.unwrap();
    assert_eq!(created, TeamCreation::NameTaken);
    let created = store.create_team(new_team(3, "another")).await.unwrap();
    assert_eq!(created, TeamCreation::NoSuchAccount);
    assert_eq!(store.teams().await.unwrap().len(), 1);
}

pub async fn a_team_with_apps_is_not_deleted(store: &dyn Store) {
    create_team(store, 1).await;
    create_app_of(store, 1, 11).await;
    assert_eq!(store.delete_team(team_id(1)).await.unwrap(), TeamDeletion::HasApps);
    assert_eq!(store.teams().await.unwrap()[0].apps, [app_id(11)]);
    assert!(store.delete_app(app_id(11)).await.unwrap());
    assert_eq!(store.delete_team(team_id(1)).await.unwrap(), TeamDeletion::Deleted);
    assert_eq!(store.delete_team(team_id(1)).await.unwrap(), TeamDeletion::NoSuchTeam);
    assert!(store.own_teams(user_id(1), NOW).await.unwrap().is_empty());
    assert_eq!(create_app_of(store, 1, 12).await, AppWrite::NoSuchTeam);
    create_app(store, 2).await;
    let given = store.give_app(app_id(2), team_id(1)).await.unwrap();
    assert_eq!(given, AppWrite::NoSuchTeam);
}

pub async fn a_team_has_so_many_apps_and_members(store: &dyn Store) {
    create_team(store, 1).await;
    for n in 0..TEAM_APPS_MAX {
        assert_eq!(create_app_of(store, 1, 1000 + n).await, AppWrite::Written);
    }
    assert_eq!(create_app_of(store, 1, 2000).await, AppWrite::TooMany);
    create_app(store, 1).await;
    assert_eq!(store.give_app(app_id(1), team_id(1)).await.unwrap(), AppWrite::TooMany);
    assert_eq!(
        store.give_app(app_id(9), team_id(1)).await.unwrap(),
        AppWrite::NoSuchApp
    );
    assert!(store.delete_app(app_id(1000)).await.unwrap());
    assert_eq!(create_app_of(store, 1, 2000).await, AppWrite::Written);

    for n in 2..=TEAM_MEMBERS_MAX as u64 + 1 {
        create_account(store, n).await;
        let written = write(store, 1, n, Some(TeamRole::Developer)).await;
        let expected = match n > TEAM_MEMBERS_MAX as u64 {
            true => MemberWrite::TooMany,
            false => MemberWrite::Written,
        };
        assert_eq!(written, expected, "{n}");
    }
    // Who is one may get another role.
    assert_eq!(write(store, 1, 2, Some(TeamRole::Owner)).await, MemberWrite::Written);
}

/// The team and its apps stay: the operator can name another owner.
pub async fn a_deleted_account_is_in_no_team(store: &dyn Store) {
    create_team(store, 1).await;
    create_app_of(store, 1, 11).await;
    let exported = store.export(user_id(1), None, usize::MAX).await.unwrap().unwrap();
    let is_member = |line: &ExportLine| matches!(line, ExportLine::TeamMember { role, .. } if role == "owner");
    assert_eq!(exported.lines.iter().filter(|line| is_member(line)).count(), 1);
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    assert!(members(store, 0).await.is_empty());
    create_account(store, 2).await;
    assert_eq!(write(store, 1, 2, Some(TeamRole::Owner)).await, MemberWrite::Written);
    assert_eq!(apps_of(store, 2).await, [11]);
}

pub async fn first_steps_are_seen_one_by_one(store: &dyn Store) {
    let none = FirstSteps::default();
    assert_eq!(store.first_steps(app_id(1)).await.unwrap(), none);
    let stream = ready_stream(store, 1).await;
    let signed_in = FirstSteps {
        signed_in: true,
        ..none
    };
    assert_eq!(store.first_steps(app_id(1)).await.unwrap(), signed_in);
    append_all(store, stream, start(stream), 1, 1, &[1]).await;
    let pushed = FirstSteps {
        pushed: true,
        ..signed_in
    };
    assert_eq!(store.first_steps(app_id(1)).await.unwrap(), pushed);
    let second = register(store, stream, 2).await;
    let all = FirstSteps {
        second_device: true,
        ..pushed
    };
    assert_eq!(store.first_steps(app_id(1)).await.unwrap(), all);
    assert_eq!(store.first_steps(app_id(2)).await.unwrap(), none);
    store.revoke_device(stream, second, NOW).await.unwrap();
    assert_eq!(store.first_steps(app_id(1)).await.unwrap(), pushed);
}
