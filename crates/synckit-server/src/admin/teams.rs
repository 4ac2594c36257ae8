//! Teams: accounts that administer apps in the console.

use synckit_protocol::{AppId, TeamId, UserId, check_name, limits};
use synckit_store::{AppWrite, MemberWrite, NewApp, NewTeam, Team, TeamCreation, TeamDeletion, TeamRole};

use super::service::{Admin, AdminError, CreatedApp};
use crate::platform::random_id;

impl Admin {
    /// Creates a team, whose owner signs in to the console with this account.
    ///
    /// # Errors
    /// [`AdminError::TeamName`], [`AdminError::TeamNameTaken`], [`AdminError::NoSuchAccount`] and [`AdminError::Store`].
    pub async fn create_team(&self, name: &str, owner: UserId) -> Result<TeamId, AdminError> {
        check_name(name, limits::APP_NAME_BYTES_MAX).map_err(AdminError::TeamName)?;
        let team = NewTeam {
            id: TeamId::from_bytes(random_id()),
            name: name.to_owned(),
            owner,
            created_at: self.now(),
        };
        let id = team.id;
        match self.store().create_team(team).await? {
            TeamCreation::Created => Ok(id),
            TeamCreation::NameTaken => Err(AdminError::TeamNameTaken(name.to_owned())),
            TeamCreation::NoSuchAccount => Err(AdminError::NoSuchAccount(owner)),
        }
    }

    /// Every team, in order of creation.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn teams(&self) -> Result<Vec<Team>, AdminError> {
        Ok(self.store().teams().await?)
    }

    /// Makes an account a member of a team with a role, or ends its membership.
    ///
    /// # Errors
    /// [`AdminError::NoSuchTeam`], [`AdminError::NoSuchAccount`] (also of an account that is not a member),
    /// [`AdminError::LastOwner`], [`AdminError::TooManyMembers`] and [`AdminError::Store`].
    pub async fn write_member(
        &self,
        team_id: TeamId,
        user_id: UserId,
        role: Option<TeamRole>,
    ) -> Result<(), AdminError> {
        match self.store().write_member(team_id, user_id, role, self.now()).await? {
            MemberWrite::Written => Ok(()),
            MemberWrite::LastOwner => Err(AdminError::LastOwner),
            MemberWrite::TooMany => Err(AdminError::TooManyMembers),
            MemberWrite::NoSuchTeam => Err(AdminError::NoSuchTeam(team_id)),
            MemberWrite::NoSuchAccount => Err(AdminError::NoSuchAccount(user_id)),
        }
    }

    /// Deletes a team that has no app.
    ///
    /// # Errors
    /// [`AdminError::TeamHasApps`], [`AdminError::NoSuchTeam`] and [`AdminError::Store`].
    pub async fn delete_team(&self, team_id: TeamId) -> Result<(), AdminError> {
        match self.store().delete_team(team_id).await? {
            TeamDeletion::Deleted => Ok(()),
            TeamDeletion::HasApps => Err(AdminError::TeamHasApps),
            TeamDeletion::NoSuchTeam => Err(AdminError::NoSuchTeam(team_id)),
        }
    }

    /// Creates an app of a team, with its first key.
    ///
    /// # Errors
    /// Those of [`Admin::create_app`], [`AdminError::NoSuchTeam`] and [`AdminError::TooManyApps`].
    pub async fn create_app_of(&self, team: Option<TeamId>, name: &str) -> Result<CreatedApp, AdminError> {
        check_name(name, limits::APP_NAME_BYTES_MAX).map_err(AdminError::AppName)?;
        let app_id = AppId::from_bytes(random_id());
        let (api_key, key) = self.new_key(app_id);
        let app = NewApp {
            id: app_id,
            name: name.to_owned(),
            team,
            key,
        };
        written(self.store().create_app(app).await?, app_id, name, team)?;
        Ok(CreatedApp { app_id, api_key })
    }

    /// Gives an app to a team: its members administer it from now on, and no other team does.
    ///
    /// # Errors
    /// [`AdminError::NoSuchApp`], [`AdminError::NoSuchTeam`], [`AdminError::TooManyApps`] and [`AdminError::Store`].
    pub async fn give_app(&self, app_id: AppId, team_id: TeamId) -> Result<(), AdminError> {
        written(self.store().give_app(app_id, team_id).await?, app_id, "", Some(team_id))
    }
}

/// The error of a refused write of an app.
pub(super) fn written(answer: AppWrite, app_id: AppId, name: &str, team: Option<TeamId>) -> Result<(), AdminError> {
    match answer {
        AppWrite::Written => Ok(()),
        AppWrite::NameTaken => Err(AdminError::AppNameTaken(name.to_owned())),
        AppWrite::TooMany => Err(AdminError::TooManyApps),
        AppWrite::NoSuchTeam => Err(team.map_or(AdminError::NoSuchApp(app_id), AdminError::NoSuchTeam)),
        AppWrite::NoSuchApp => Err(AdminError::NoSuchApp(app_id)),
    }
}
