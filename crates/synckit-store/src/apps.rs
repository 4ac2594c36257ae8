//! The seed binding, apps and their keys, as a store takes and returns them.

use synckit_protocol::{AppId, TeamId, wire::UnixSeconds};

/// Whether a database that was made under another OPRF seed may be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptNewSeed {
    /// Refuse it: the default.
    No,
    /// Take it over: password records of every other seed are stale from then on.
    Yes,
}

/// The answer of [`crate::Store::claim_seed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedClaim {
    /// The database was new, or is bound to this seed.
    Bound,
    /// The database is bound to another seed, which stays so.
    OtherSeed,
    /// The database is bound to this seed now, and so many password records are stale.
    Rebound {
        /// Records of other seeds.
        stale_records: u64,
    },
}

/// An app to create.
#[derive(Debug, Clone)]
pub struct NewApp {
    /// Its id.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// The team that administers it; the operator alone if there is none.
    pub team: Option<TeamId>,
    /// Its first key.
    pub key: NewApiKey,
}

/// The answer of [`crate::Store::create_app`], [`crate::Store::rename_app`] and [`crate::Store::give_app`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppWrite {
    /// It is as asked for, as before or from now on.
    Written,
    /// Another app of the server has the name.
    NameTaken,
    /// The team has [`TEAM_APPS_MAX`](synckit_protocol::limits::TEAM_APPS_MAX) apps already.
    TooMany,
    /// The team does not exist.
    NoSuchTeam,
    /// The app does not exist.
    NoSuchApp,
}

/// A publishable key to add. It is no secret: every copy of the app contains it.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// The key.
    pub text: String,
    /// Now.
    pub created_at: UnixSeconds,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// Its keys that are not expired, newest first.
    pub keys: Vec<ApiKey>,
}

/// A publishable key of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The key.
    pub text: String,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// When it ends, if a newer key replaced it.
    pub ends_at: Option<UnixSeconds>,
}

/// What a sign-in page needs of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppProfile {
    /// Its name.
    pub name: String,
    /// The registered addresses that a sign-in may return to, in order of their text.
    pub redirects: Vec<String>,
}

/// The answer of [`crate::Store::put_redirect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectWrite {
    /// The address is registered, as before or from now on.
    Registered,
    /// The app has [`REDIRECTS_MAX`](synckit_protocol::limits::REDIRECTS_MAX) addresses already.
    TooMany,
    /// The app does not exist.
    NoSuchApp,
}
