//! Sessions, as a store takes and returns them.

use synckit_protocol::{DeviceId, SessionId, UserId, wire::UnixSeconds};

use crate::{
    accounts::CredentialId,
    ids::{SecretHash, StreamId},
};

/// A session to open.
#[derive(Debug, Clone, Copy)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// The account and app that it is for.
    pub stream: StreamId,
    /// The login that opens it, as [`FinishedLogin::login`] named it; `None` for a sign-in without one.
    pub login: Option<SecretHash>,
    /// The credential whose password was proven; `None` where that is not asked. A session opens only while the account has it.
    pub credential: Option<CredentialId>,
    /// Now.
    pub now: UnixSeconds,
}

/// A sign-in or an unlock whose password was proven.
#[derive(Debug, Clone, Copy)]
pub struct FinishedLogin {
    /// The hash that identifies the login.
    pub login: SecretHash,
    /// The account.
    pub user_id: UserId,
    /// The session that it is about to open; `None` for an unlock.
    pub session_id: Option<SessionId>,
    /// Now.
    pub now: UnixSeconds,
}

/// The answer of [`crate::Store::finish_login`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginUse {
    /// The login was not finished before.
    First,
    /// The login was finished before. The session that it opened ended, if it had no device yet, and a session that it
    /// has not opened yet is never opened: nobody has the answer that opened it, or two people have it.
    Repeated {
        /// The ended sessions.
        ended: Vec<SessionId>,
    },
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The account and app that it is for.
    pub stream: StreamId,
    /// The name of the app.
    pub app_name: String,
    /// The device that it is bound to.
    pub device_id: Option<DeviceId>,
    /// The name of that device.
    pub device_name: Option<String>,
    /// When it was opened.
    pub created_at: UnixSeconds,
    /// When it was last refreshed.
    pub refreshed_at: UnixSeconds,
    /// The counter of its current refresh secret.
    pub refresh_counter: u64,
}

/// The answer of [`crate::Store::advance_refresh`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshUse {
    /// The session continues; the next refresh secret has this counter.
    Next {
        /// The counter of the next refresh secret.
        counter: u64,
        /// The account and app of the session.
        stream: StreamId,
    },
    /// The session has ended, or was ended by this use: it never comes back.
    Ended,
    /// The session was not refreshed for too long, by the given time, or was never given this counter. Nothing was
    /// changed.
    Refused,
}

/// Which sessions to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndSessions {
    /// One session.
    One(SessionId),
    /// One session, if it is one of this account.
    OneOfUser(UserId, SessionId),
    /// Every session of an account, in every app.
    OfUser(UserId),
    /// Every session of an account but one.
    OthersOfUser(UserId, SessionId),
}
