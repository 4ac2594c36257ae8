//! `/api/sync/auth`: sign-in with OPAQUE (RFC 9807), refresh, sign-out.

use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use crate::{AppId, ByteString, SecretText, UserId};

/// `POST /api/sync/auth/start`: the first message of a login. Counts as a guess.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::auth::LoginStart;
///
/// let json = r#"{"api_key":"sk_1","email":"me@example.com","suite":1,"ke1":"qGsH"}"#;
/// let start: LoginStart = serde_json::from_str(json)?;
/// assert_eq!(start.suite, synckit_protocol::LOGIN_SUITE);
/// assert_eq!(serde_json::to_string(&start)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginStart {
    /// The key of the app.
    pub api_key: String,
    /// The e-mail address of the account.
    pub email: String,
    /// The login suite, [`crate::LOGIN_SUITE`].
    pub suite: u16,
    /// The OPAQUE KE1 message.
    pub ke1: ByteString,
}

/// `POST /api/sync/auth/unlock/start`: the same exchange under a token, to reach the vault again.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::auth::UnlockStart;
///
/// let json = r#"{"suite":1,"ke1":"qGsH"}"#;
/// let start: UnlockStart = serde_json::from_str(json)?;
/// assert_eq!(start.ke1.0.len(), 3);
/// assert_eq!(serde_json::to_string(&start)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnlockStart {
    /// The login suite, [`crate::LOGIN_SUITE`].
    pub suite: u16,
    /// The OPAQUE KE1 message.
    pub ke1: ByteString,
}

/// The answer to [`LoginStart`] and [`UnlockStart`]: the same size and time for an unknown account.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::auth::LoginStarted;
///
/// let json = r#"{"login":"c2VhbGVk","ke2":"ZPJy"}"#;
/// let started: LoginStarted = serde_json::from_str(json)?;
/// assert_eq!(started.login.0, b"sealed"); // goes back as it came
/// assert_eq!(serde_json::to_string(&started)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginStarted {
    /// What the server must remember until the second request, sealed by it. Valid for 60 seconds.
    pub login: ByteString,
    /// The OPAQUE KE2 message.
    pub ke2: ByteString,
}

/// `POST /api/sync/auth`: the last message of a login.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::auth::LoginFinish;
///
/// let json = r#"{"api_key":"sk_1","login":"c2VhbGVk","ke3":"nrP7"}"#;
/// let finish: LoginFinish = serde_json::from_str(json)?;
/// assert_eq!(finish.login.0, b"sealed");
/// assert_eq!(serde_json::to_string(&finish)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginFinish {
    /// The key of the app.
    pub api_key: String,
    /// As it came in [`LoginStarted`].
    pub login: ByteString,
    /// The OPAQUE KE3 message.
    pub ke3: ByteString,
}

/// `POST /api/sync/auth` as a script may send it where the operator allows passwords in bodies.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::auth::PasswordLogin;
///
/// let json = r#"{"api_key":"sk_1","email":"me@example.com","password":"pass"}"#;
/// let login: PasswordLogin = serde_json::from_str(json)?;
/// assert_eq!(login.password.expose(), "pass");
/// assert_eq!(serde_json::to_string(&login)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PasswordLogin {
    /// The key of the app.
    pub api_key: String,
    /// The e-mail address of the account.
    pub email: String,
    /// The password, which the server then sees.
    pub password: SecretText,
}

/// The answer to [`LoginFinish`]: a session.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::auth::SignedIn;
///
/// let json = concat!(
///     r#"{"token":"eyJh","expires_at":1767830400,"refresh":"cmVm","#,
///     r#""user_id":"0190c2a4-7d1e-7f00-8a00-0123456789ab","#,
///     r#""app_id":"c1c1c1c1-c1c1-4c1c-81c1-c1c1c1c1c1c1","account_token":"eyJi"}"#,
/// );
/// let session: SignedIn = serde_json::from_str(json)?;
/// assert!(session.account_token.is_some()); // it came from a password
/// assert_eq!(serde_json::to_string(&session)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignedIn {
    /// The token for everything under `/api/sync`: a JWT (RFC 7519), sent as `Authorization: Bearer`.
    pub token: SecretText,
    /// When the token stops working.
    pub expires_at: UnixSeconds,
    /// The refresh secret: rotates at every use, lives 90 days after the last.
    pub refresh: SecretText,
    /// The account.
    pub user_id: UserId,
    /// The app.
    pub app_id: AppId,
    /// The token for `/api/account`, valid for five minutes. Absent if the session did not come from a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_token: Option<SecretText>,
}

/// `POST /api/sync/auth/unlock`: the last message of an unlock.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::auth::UnlockFinish;
///
/// let json = r#"{"login":"c2VhbGVk","ke3":"nrP7"}"#;
/// let finish: UnlockFinish = serde_json::from_str(json)?;
/// assert_eq!(finish.login.0, b"sealed");
/// assert_eq!(serde_json::to_string(&finish)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnlockFinish {
    /// As it came in [`LoginStarted`].
    pub login: ByteString,
    /// The OPAQUE KE3 message.
    pub ke3: ByteString,
}

/// The answer to [`UnlockFinish`].
///
/// # Examples
/// ```
/// use synckit_protocol::wire::auth::Unlocked;
///
/// let json = r#"{"account_token":"eyJi"}"#;
/// let unlocked: Unlocked = serde_json::from_str(json)?;
/// assert_eq!(unlocked.account_token.expose(), "eyJi");
/// assert_eq!(serde_json::to_string(&unlocked)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unlocked {
    /// The token for `/api/account`, valid for five minutes.
    pub account_token: SecretText,
}

/// `POST /api/sync/auth/refresh`.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::auth::Refresh;
///
/// let json = r#"{"refresh":"cmVm"}"#;
/// let refresh: Refresh = serde_json::from_str(json)?;
/// assert_eq!(refresh.refresh.expose(), "cmVm");
/// assert_eq!(serde_json::to_string(&refresh)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refresh {
    /// The refresh secret. The one before the current is taken too (its answer may have been lost); an older one means
    /// that it was copied, and ends the session.
    pub refresh: SecretText,
}

/// The answer to [`Refresh`].
///
/// # Examples
/// ```
/// use synckit_protocol::wire::auth::Refreshed;
///
/// let json = r#"{"token":"eyJj","expires_at":1767830400,"refresh":"bmV4dA"}"#;
/// let refreshed: Refreshed = serde_json::from_str(json)?;
/// assert_eq!(refreshed.refresh.expose(), "bmV4dA"); // store it before the token is used
/// assert_eq!(serde_json::to_string(&refreshed)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refreshed {
    /// The new token.
    pub token: SecretText,
    /// When the token stops working.
    pub expires_at: UnixSeconds,
    /// The next refresh secret.
    pub refresh: SecretText,
}
