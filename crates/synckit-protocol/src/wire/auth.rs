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
/// let json = r#"{"api_key":"skp_a1","email":"me@example.com","suite":1,"ke1":"qGsH"}"#;
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
    /// The mailed code of a pending account, whose address the finished login confirms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<SecretText>,
}

/// `POST /api/sync/auth/unlock/start`: the same exchange under a token, to open the vault again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnlockStart {
    /// The login suite, [`crate::LOGIN_SUITE`].
    pub suite: u16,
    /// The OPAQUE KE1 message.
    pub ke1: ByteString,
}

/// The answer to [`LoginStart`] and [`UnlockStart`]: of the same size and time for an unknown account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginStarted {
    /// The server's sealed state between the two requests. Valid for 60 seconds.
    pub login: ByteString,
    /// The OPAQUE KE2 message.
    pub ke2: ByteString,
}

/// `POST /api/sync/auth`: the last message of a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginFinish {
    /// The key of the app.
    pub api_key: String,
    /// From [`LoginStarted`].
    pub login: ByteString,
    /// The OPAQUE KE3 message.
    pub ke3: ByteString,
}

/// The alternative body of `POST /api/sync/auth` for scripts, if the operator allows passwords in bodies.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignedIn {
    /// The token for everything under `/api/sync`: a JWT (RFC 7519), sent as `Authorization: Bearer`.
    pub token: SecretText,
    /// When the token stops working.
    pub expires_at: UnixSeconds,
    /// The refresh secret: replaced at every use, valid for 90 days after the last.
    pub refresh: SecretText,
    /// The account.
    pub user_id: UserId,
    /// The app.
    pub app_id: AppId,
    /// The token for `/api/account`, valid for five minutes. Absent after a sign-in without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_token: Option<SecretText>,
}

/// `POST /api/sync/auth/unlock`: the last message of an unlock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnlockFinish {
    /// From [`LoginStarted`].
    pub login: ByteString,
    /// The OPAQUE KE3 message.
    pub ke3: ByteString,
}

/// The answer to [`UnlockFinish`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unlocked {
    /// The token for `/api/account`, valid for five minutes.
    pub account_token: SecretText,
}

/// `POST /api/sync/auth/refresh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refresh {
    /// The refresh secret. The previous one is accepted, too, because its answer may have been lost. An older one
    /// proves that the secret was copied, and ends the session.
    pub refresh: SecretText,
}

/// The answer to [`Refresh`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refreshed {
    /// The new token.
    pub token: SecretText,
    /// When the token stops working.
    pub expires_at: UnixSeconds,
    /// The next refresh secret.
    pub refresh: SecretText,
    /// The app of the session, for comparison with the one in the API key.
    pub app_id: AppId,
}
