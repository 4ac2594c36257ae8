//! Teams, and what their members see of them, as a store takes and returns them.

use std::{fmt, str::FromStr};

use synckit_protocol::{AppId, TeamId, UserId, wire::UnixSeconds};

use crate::App;

/// What a member of a team may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TeamRole {
    /// Everything, also to delete apps.
    Owner,
    /// To make apps and change them.
    Developer,
}

impl TeamRole {
    /// Every role.
    pub const ALL: [Self; 2] = [Self::Owner, Self::Developer];

    /// Its name in the database and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Developer => "developer",
        }
    }
}

impl fmt::Display for TeamRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a role; there are owner and developer")]
pub struct NoSuchRole;

impl FromStr for TeamRole {
    type Err = NoSuchRole;

    fn from_str(text: &str) -> Result<Self, NoSuchRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or(NoSuchRole)
    }
}

/// A team to create, with its first owner.
#[derive(Debug, Clone)]
pub struct NewTeam {
    /// Its id.
    pub id: TeamId,
    /// Its name.
    pub name: String,
    /// Its first owner.
    pub owner: UserId,
    /// Now.
    pub created_at: UnixSeconds,
}

/// The answer of [`crate::Store::create_team`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TeamCreation {
    /// Created.
    Created,
    /// Another team has the name.
    NameTaken,
    /// The account does not exist.
    NoSuchAccount,
}

/// The answer of [`crate::Store::write_member`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberWrite {
    /// It is as asked for, as before or from now on.
    Written,
    /// The team would have no owner.
    LastOwner,
    /// The team has [`TEAM_MEMBERS_MAX`](synckit_protocol::limits::TEAM_MEMBERS_MAX) members already.
    TooMany,
    /// The team does not exist.
    NoSuchTeam,
    /// The account does not exist, or is not a member.
    NoSuchAccount,
}

/// The answer of [`crate::Store::delete_team`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TeamDeletion {
    /// Deleted.
    Deleted,
    /// It has apps, which would be nobody's.
    HasApps,
    /// The team does not exist.
    NoSuchTeam,
}

/// A team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Its id.
    pub id: TeamId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// Its members, in order of their addresses.
    pub members: Vec<Member>,
    /// Its apps, in order of creation.
    pub apps: Vec<AppId>,
}

/// A member of a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub user_id: UserId,
    /// Its address.
    pub email: String,
    /// What it may do.
    pub role: TeamRole,
    /// Since when it is a member.
    pub joined_at: UnixSeconds,
}

/// A team as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTeam {
    /// Its id.
    pub id: TeamId,
    /// Its name.
    pub name: String,
    /// What the member may do.
    pub role: TeamRole,
    /// All members, in order of their addresses.
    pub members: Vec<Member>,
    /// Its apps, in order of creation.
    pub apps: Vec<App>,
}
