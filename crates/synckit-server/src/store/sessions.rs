//! Sessions, as a store takes and returns them.

use synckit_protocol::{DeviceId, SessionId, UserId, wire::UnixSeconds};

use super::StreamId;

/// A session to open.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let store = synckit_server::store::SqliteStore::open(&directory.path().join("store.db"), Default::default())?;
/// # use synckit_protocol::{AppId, DeviceId, KeyId, SessionId, UserId};
/// # use synckit_server::store::{NewAccount, NewApiKey, NewApp, SecretHash, StreamId};
/// # let stream = StreamId { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// # let session = SessionId::from_bytes([3; 16]);
/// # let device = DeviceId::from_bytes([4; 16]);
/// # let key_id = KeyId::from_bytes([5; 16]);
/// # { use synckit_server::store::Store;
/// # let key = NewApiKey { hash: SecretHash([1; 32]), prefix: "sk_1".into(), created_at: 1 };
/// # store.create_app(NewApp { id: stream.app_id, name: "Notes".into(), key }).await?;
/// # store.create_account(NewAccount {
/// #     user_id: stream.user_id, email: "me@example.com".into(),
/// #     record: vec![1], vault: vec![1], invite: None, created_at: 1,
/// # }).await?;
/// # }
/// use synckit_server::store::{EndSessions, NewSession, RefreshUse, Store};
///
/// store.open_session(NewSession { id: session, stream, now: 100 }).await?;
/// assert_eq!(store.advance_refresh(session, 1, 200).await?, RefreshUse::Next { counter: 2, stream });
/// assert_eq!(store.sessions(stream.user_id, 200).await?[0].refreshed_at, 200);
/// assert_eq!(store.end_sessions(EndSessions::One(session)).await?, [session]);
/// assert_eq!(store.advance_refresh(session, 2, 300).await?, RefreshUse::Ended);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// The account and app that it is for.
    pub stream: StreamId,
    /// Now.
    pub now: UnixSeconds,
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
}

/// The answer of [`super::Store::advance_refresh`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshUse {
    /// The session goes on; the next refresh secret has this counter.
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
}
