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
    /// The invitation, if the server requires one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<SecretText>,
}

/// The answer to [`RegisterStart`] and [`PasswordChangeStart`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterStarted {
    /// The server's sealed state between the two requests. Valid for 60 seconds.
    pub registration: ByteString,
    /// The id of the future account, which the vault is bound to.
    pub user_id: UserId,
    /// The OPAQUE registration response.
    pub response: ByteString,
    /// The generation of the new vault: 1 for a new account, after a reset more than any earlier one. Absent for a
    /// change of password, which keeps the generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_generation: Option<u32>,
}

/// `POST /api/accounts`: the second message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterFinish {
    /// From [`RegisterStarted`].
    pub registration: ByteString,
    /// The OPAQUE registration upload.
    pub record: ByteString,
    /// The first account vault.
    pub vault: ByteString,
}

/// The answer to a [`RegisterFinish`] that creates an account: the same if the e-mail address was taken; its owner then gets
/// a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Registered {
    /// The id of the new account.
    pub user_id: UserId,
    /// Whether the account waits for the confirmation of its address. The first sign-in then names the mailed code.
    pub pending: bool,
}

/// The answer to a [`RegisterFinish`] that replaces a forgotten password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PasswordReplaced {
    /// The account.
    pub user_id: UserId,
}

/// `POST /api/accounts/reset/request`: requests a mail with a reset code. The answer is the same for any address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResetRequest {
    /// The address of the account.
    pub email: String,
}

/// `POST /api/accounts/reset/start`: the first message of a registration that replaces a forgotten password. `POST
/// /api/accounts/reset` with a [`RegisterFinish`] completes it.
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
    /// The newest vault of each earlier generation, oldest first: left by password resets, for the recovery code to
    /// open.
    #[serde(default)]
    pub earlier: Vec<ByteString>,
}

/// `PUT /api/account/vault`: replaces the vault and keeps the password (for a recovery slot, for example).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PutVault {
    /// The new vault.
    pub vault: ByteString,
    /// The version of the replaced vault; any other is `version_conflict`.
    pub expected_version: u64,
    /// Whether the server keeps the replaced vault among the earlier ones: for a vault that begins a generation,
    /// because envelopes of other apps are still sealed under the account key in the replaced one.
    #[serde(
        default,
        deserialize_with = "super::flag",
        skip_serializing_if = "std::ops::Not::not"
    )]
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
    /// From [`RegisterStarted`].
    pub registration: ByteString,
    /// The OPAQUE registration upload.
    pub record: ByteString,
    /// The vault with the new password slot.
    pub vault: ByteString,
    /// The version of the replaced vault.
    pub expected_version: u64,
}

/// The answer to [`PasswordChangeFinish`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PasswordChanged {
    /// The version of the vault that was written.
    pub version: u64,
    /// The new refresh secret of this session: a copy of the old one no longer works.
    pub refresh: SecretText,
}

/// `GET /api/account`: the account, and its data in each app.
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
    /// The apps in which it was ever used, oldest first.
    pub apps: Vec<AppUsage>,
}

/// The data of an account in one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppUsage {
    /// The app.
    pub app_id: AppId,
    /// Its name.
    pub app_name: String,
    /// Changes ever pushed.
    pub change_count: u64,
    /// Sealed bytes of batches, snapshots and blobs. A deleted blob counts until it can no longer be restored.
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
    /// The name of its app.
    pub app_name: String,
    /// The name of its device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// When it began.
    pub created_at: UnixSeconds,
    /// When it was last refreshed.
    pub refreshed_at: UnixSeconds,
    /// Whether it is the session of this request's token.
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
