//! `/api/accounts` (registration, no token) and `/api/account` (a token of account audience).

use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use crate::{AppId, ByteString, SecretText, SessionId, UserId};

/// `POST /api/accounts/start`: the first message of an OPAQUE registration.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::RegisterStart;
///
/// let json = r#"{"email":"me@example.com","suite":1,"request":"HF9t"}"#;
/// let start: RegisterStart = serde_json::from_str(json)?;
/// assert_eq!(start.suite, synckit_protocol::LOGIN_SUITE);
/// assert_eq!(serde_json::to_string(&start)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterStart {
    /// The e-mail address to register.
    pub email: String,
    /// The login suite, [`crate::LOGIN_SUITE`].
    pub suite: u16,
    /// The OPAQUE registration request.
    pub request: ByteString,
    /// The invitation, where the server asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<SecretText>,
}

/// The answer to [`RegisterStart`] and [`PasswordChangeStart`].
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::RegisterStarted;
///
/// let json = concat!(
///     r#"{"registration":"c2VhbGVk","#,
///     r#""user_id":"0190c2a4-7d1e-7f00-8a00-0123456789ab","response":"wquA","#,
///     r#""vault_generation":1}"#,
/// );
/// let started: RegisterStarted = serde_json::from_str(json)?;
/// assert_eq!(started.vault_generation, Some(1));
/// assert_eq!(serde_json::to_string(&started)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterStarted {
    /// What the server must remember until the second request, sealed by it. Valid for 60 seconds.
    pub registration: ByteString,
    /// The id that the account will have, which the vault is bound to.
    pub user_id: UserId,
    /// The OPAQUE registration response.
    pub response: ByteString,
    /// The generation that the new vault must have: 1 for a new account, after a reset more than any before. Absent
    /// for a change of password, which keeps the generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_generation: Option<u32>,
}

/// `POST /api/accounts`: the second message.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::RegisterFinish;
///
/// let json = r#"{"registration":"c2VhbGVk","record":"Hp4A","vault":"AQAA"}"#;
/// let finish: RegisterFinish = serde_json::from_str(json)?;
/// assert_eq!(finish.vault.0, [1, 0, 0]);
/// assert_eq!(serde_json::to_string(&finish)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterFinish {
    /// As it came in [`RegisterStarted`].
    pub registration: ByteString,
    /// The OPAQUE registration upload.
    pub record: ByteString,
    /// The first account vault.
    pub vault: ByteString,
}

/// The answer to [`RegisterFinish`]: the same for an e-mail address that was taken, whose owner gets a mail.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::Registered;
///
/// let json = r#"{"user_id":"0190c2a4-7d1e-7f00-8a00-0123456789ab"}"#;
/// let registered: Registered = serde_json::from_str(json)?;
/// assert_eq!(registered.user_id.to_string(), "0190c2a4-7d1e-7f00-8a00-0123456789ab");
/// assert_eq!(serde_json::to_string(&registered)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Registered {
    /// The id of the new account.
    pub user_id: UserId,
}

/// `POST /api/accounts/verify`: the code from the mail that confirms an address.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::VerifyEmail;
///
/// let json = r#"{"code":"from the mail"}"#;
/// let verify: VerifyEmail = serde_json::from_str(json)?;
/// assert_eq!(verify.code.expose(), "from the mail");
/// assert_eq!(serde_json::to_string(&verify)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerifyEmail {
    /// The code from the mail.
    pub code: SecretText,
}

/// `POST /api/accounts/reset/request`: ask for a mail with a reset code. The answer is the same for any address.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::ResetRequest;
///
/// let json = r#"{"email":"me@example.com"}"#;
/// let request: ResetRequest = serde_json::from_str(json)?;
/// assert_eq!(request.email, "me@example.com");
/// assert_eq!(serde_json::to_string(&request)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResetRequest {
    /// The address of the account.
    pub email: String,
}

/// `POST /api/accounts/reset/start`: the first message of a registration that replaces a forgotten password. It is
/// finished by `POST /api/accounts/reset` with a [`RegisterFinish`].
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::ResetStart;
///
/// let json = r#"{"code":"from the mail","suite":1,"request":"HF9t"}"#;
/// let start: ResetStart = serde_json::from_str(json)?;
/// assert_eq!(start.request.0.len(), 3);
/// assert_eq!(serde_json::to_string(&start)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResetStart {
    /// The code from the mail.
    pub code: SecretText,
    /// The login suite, [`crate::LOGIN_SUITE`].
    pub suite: u16,
    /// The OPAQUE registration request.
    pub request: ByteString,
}

/// `GET /api/account/vault`.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::VaultAnswer;
///
/// let json = r#"{"vault":"AQAA","version":2,"earlier":[]}"#;
/// let answer: VaultAnswer = serde_json::from_str(json)?;
/// assert!(answer.earlier.is_empty()); // the password was never reset
/// assert_eq!(serde_json::to_string(&answer)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VaultAnswer {
    /// The current vault.
    pub vault: ByteString,
    /// Counts the writes of this vault, from 1.
    pub version: u64,
    /// The newest vault of each earlier generation, oldest first: what a reset of the password left behind, for the
    /// recovery code to open.
    #[serde(default)]
    pub earlier: Vec<ByteString>,
}

/// `PUT /api/account/vault`: replaces the vault without touching the password (a recovery slot, say).
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::PutVault;
///
/// let json = r#"{"vault":"AQAA","expected_version":2}"#;
/// let put: PutVault = serde_json::from_str(json)?;
/// assert_eq!(put.expected_version, 2);
/// assert_eq!(serde_json::to_string(&put)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PutVault {
    /// The new vault.
    pub vault: ByteString,
    /// The version that this one replaces; anything else is `version_conflict`.
    pub expected_version: u64,
}

/// The answer to [`PutVault`] and [`PasswordChangeFinish`].
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::VaultWritten;
///
/// let json = r#"{"version":3}"#;
/// let written: VaultWritten = serde_json::from_str(json)?;
/// assert_eq!(written.version, 3);
/// assert_eq!(serde_json::to_string(&written)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VaultWritten {
    /// The version of the vault that was written.
    pub version: u64,
}

/// `POST /api/account/password/start`: the first message of a registration under the new password.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::PasswordChangeStart;
///
/// let json = r#"{"suite":1,"request":"HF9t"}"#;
/// let start: PasswordChangeStart = serde_json::from_str(json)?;
/// assert_eq!(start.suite, synckit_protocol::LOGIN_SUITE);
/// assert_eq!(serde_json::to_string(&start)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PasswordChangeStart {
    /// The login suite, [`crate::LOGIN_SUITE`].
    pub suite: u16,
    /// The OPAQUE registration request.
    pub request: ByteString,
}

/// `POST /api/account/password`: replaces OPAQUE record and vault in one transaction, and ends every other session.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::PasswordChangeFinish;
///
/// let json = concat!(
///     r#"{"registration":"c2VhbGVk","record":"Hp4A","vault":"AQAA","#,
///     r#""expected_version":2}"#,
/// );
/// let finish: PasswordChangeFinish = serde_json::from_str(json)?;
/// assert_eq!(finish.expected_version, 2);
/// assert_eq!(serde_json::to_string(&finish)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PasswordChangeFinish {
    /// As it came in [`RegisterStarted`].
    pub registration: ByteString,
    /// The OPAQUE registration upload.
    pub record: ByteString,
    /// The vault with the new password slot.
    pub vault: ByteString,
    /// The version of the vault that this one replaces.
    pub expected_version: u64,
}

/// `GET /api/account`: the account, and what it keeps in each app.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::AccountInfo;
///
/// let json = concat!(
///     r#"{"user_id":"0190c2a4-7d1e-7f00-8a00-0123456789ab","email":"me@example.com","#,
///     r#""created_at":1767225600,"apps":[]}"#,
/// );
/// let account: AccountInfo = serde_json::from_str(json)?;
/// assert!(account.email_verified_at.is_none() && account.apps.is_empty());
/// assert_eq!(serde_json::to_string(&account)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AccountInfo {
    /// Its id.
    pub user_id: UserId,
    /// Its e-mail address, normalised.
    pub email: String,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// When the address was confirmed, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_verified_at: Option<UnixSeconds>,
    /// The apps that it was ever used in, oldest first.
    pub apps: Vec<AppUsage>,
}

/// What an account keeps in one app.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::AppUsage;
///
/// let json = concat!(
///     r#"{"app_id":"0190c2a4-7d1e-7f00-8a00-0123456789ab","app_name":"Notes","#,
///     r#""change_count":6,"stored_bytes":4096,"devices":2}"#,
/// );
/// let usage: AppUsage = serde_json::from_str(json)?;
/// assert_eq!((usage.change_count, usage.devices), (6, 2));
/// assert_eq!(serde_json::to_string(&usage)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppUsage {
    /// The app.
    pub app_id: AppId,
    /// Its name.
    pub app_name: String,
    /// Changes ever pushed.
    pub change_count: u64,
    /// Sealed bytes of batches, snapshots and blobs. A deleted blob counts until it can no longer be brought back.
    pub stored_bytes: u64,
    /// Devices that are not revoked.
    pub devices: u32,
}

/// One entry of `GET /api/account/sessions`.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::SessionInfo;
///
/// let json = concat!(
///     r#"{"id":"0190c2a4-7d1e-7f00-8a00-0123456789ab","app_name":"Notes","#,
///     r#""device_name":"MacBook","created_at":1767225600,"#,
///     r#""refreshed_at":1767229200,"current":true}"#,
/// );
/// let session: SessionInfo = serde_json::from_str(json)?;
/// assert!(session.current && session.device_name.as_deref() == Some("MacBook"));
/// assert_eq!(serde_json::to_string(&session)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionInfo {
    /// The session.
    pub id: SessionId,
    /// The name of the app that it is for.
    pub app_name: String,
    /// The name of the device that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// When it began.
    pub created_at: UnixSeconds,
    /// When it was last refreshed.
    pub refreshed_at: UnixSeconds,
    /// Whether it is the session of the token that asked.
    #[serde(default)]
    pub current: bool,
}

/// `GET /api/account/sessions`.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::accounts::SessionList;
///
/// let json = concat!(
///     r#"{"sessions":[{"id":"0190c2a4-7d1e-7f00-8a00-0123456789ab","#,
///     r#""app_name":"Notes","device_name":"MacBook","created_at":1767225600,"#,
///     r#""refreshed_at":1767229200,"current":false}]}"#,
/// );
/// let list: SessionList = serde_json::from_str(json)?;
/// assert_eq!(list.sessions[0].app_name, "Notes");
/// assert_eq!(serde_json::to_string(&list)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionList {
    /// The sessions of the account in every app, newest first.
    pub sessions: Vec<SessionInfo>,
}
