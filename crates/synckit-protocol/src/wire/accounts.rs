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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Registered {
    /// The id of the new account.
    pub user_id: UserId,
}

/// `POST /api/accounts/verify`: the code from the mail that confirms an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerifyEmail {
    /// The code from the mail.
    pub code: SecretText,
}

/// `POST /api/accounts/reset/request`: ask for a mail with a reset code. The answer is the same for any address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResetRequest {
    /// The address of the account.
    pub email: String,
}

/// `POST /api/accounts/reset/start`: the first message of a registration that replaces a forgotten password. It is
/// finished by `POST /api/accounts/reset` with a [`RegisterFinish`].
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PutVault {
    /// The new vault.
    pub vault: ByteString,
    /// The version that this one replaces; anything else is `version_conflict`.
    pub expected_version: u64,
    /// Whether the replaced vault is kept among the earlier ones: for a vault that begins a generation, because envelopes
    /// of other apps are still sealed under the account key in the replaced one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_replaced: bool,
}

/// The answer to [`PutVault`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VaultWritten {
    /// The version of the vault that was written.
    pub version: u64,
}

/// `POST /api/account/password/start`: the first message of a registration under the new password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PasswordChangeStart {
    /// The login suite, [`crate::LOGIN_SUITE`].
    pub suite: u16,
    /// The OPAQUE registration request.
    pub request: ByteString,
}

/// `POST /api/account/password`: replaces OPAQUE record and vault in one transaction, and ends every other session.
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

/// The answer to [`PasswordChangeFinish`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PasswordChanged {
    /// The version of the vault that was written.
    pub version: u64,
    /// The new refresh secret of the session that made the change: whoever copied the one before is shut out.
    pub refresh: SecretText,
}

/// `GET /api/account`: the account, and what it keeps in each app.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionList {
    /// The sessions of the account in every app, newest first.
    pub sessions: Vec<SessionInfo>,
}
