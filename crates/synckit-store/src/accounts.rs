//! Accounts, vaults and mailed codes, as a store takes and returns them.

use synckit_protocol::{
    SessionId, UserId,
    wire::{UnixSeconds, accounts::AppUsage},
};

use crate::ids::SecretHash;

/// The binding of a password to its OPRF key. Fresh for every registration, change and reset, so that no exchange but a
/// counted sign-in evaluates under the key of the current record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialId(pub [u8; 16]);

/// The stored record of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordRecord {
    /// The credential identifier that the record was made under.
    pub credential_id: CredentialId,
    /// The OPAQUE record.
    pub record: Vec<u8>,
}

/// An account to create.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its id.
    pub user_id: UserId,
    /// Its e-mail address, normalised.
    pub email: String,
    /// The record of its password.
    pub password: PasswordRecord,
    /// Its first vault.
    pub vault: Vec<u8>,
    /// The invitation to use up.
    pub invite: Option<SecretHash>,
    /// Now.
    pub created_at: UnixSeconds,
}

/// Another address for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAddress {
    /// The account.
    pub user_id: UserId,
    /// The session that changes it, which must not have ended; none if the operator does.
    pub session_id: Option<SessionId>,
    /// The address that it has.
    pub from: String,
    /// The address that it gets, which is confirmed.
    pub to: String,
    /// Now.
    pub now: UnixSeconds,
}

/// The answer of [`crate::Store::change_address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressChange {
    /// The account has the new address, which is confirmed.
    Changed,
    /// Another account has it.
    Taken,
    /// The account has another address than it should be changed from, or is gone; or the session has ended.
    Outdated,
}

/// An account whose address must be confirmed by a mailed code before anybody signs in to it.
#[derive(Debug, Clone)]
pub struct NewPendingAccount {
    /// The account.
    pub account: NewAccount,
    /// The hash of the mailed code.
    pub code: SecretHash,
    /// When the registration expires.
    pub expires_at: UnixSeconds,
    /// Pending accounts that the store keeps of all addresses; the oldest ones beyond are deleted.
    pub pending_max: u32,
}

/// The answer of [`crate::Store::create_account`] and [`crate::Store::put_pending_account`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountCreation {
    /// Created.
    Created,
    /// Created before by the same request (same user id): nothing changed.
    Repeated,
    /// Another account has the address.
    EmailTaken,
    /// The invitation is unknown or used up.
    InviteInvalid,
}

/// An account as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub user_id: UserId,
    /// Its e-mail address.
    pub email: String,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// When the address was confirmed.
    pub email_verified_at: Option<UnixSeconds>,
    /// When it is deleted, if its owner asked for that.
    pub delete_at: Option<UnixSeconds>,
}

/// An account, and its data in each app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountOverview {
    /// The account.
    pub account: Account,
    /// The apps that it was ever used in, oldest first.
    pub apps: Vec<AppUsage>,
}

/// Whose credential to look up.
#[derive(Debug, Clone, Copy)]
pub enum CredentialOf<'a> {
    /// The account with a normalised e-mail address.
    Email(&'a str),
    /// The account with an id.
    User(UserId),
    /// The pending account with a normalised e-mail address and a code that is valid at `now`.
    Pending {
        /// The address.
        email: &'a str,
        /// The hash of the mailed code.
        code: SecretHash,
        /// Now.
        now: UnixSeconds,
    },
}

/// The columns of an account that a login needs.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The account.
    pub user_id: UserId,
    /// Its e-mail address.
    pub email: String,
    /// The record of its password.
    pub password: PasswordRecord,
    /// Whether the record was made under another OPRF seed than the server's, so that no password can match it.
    pub stale: bool,
}

/// The vault of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    /// The current vault.
    pub vault: Vec<u8>,
    /// Counts the writes, from 1.
    pub version: u64,
    /// The newest vault of each earlier generation, oldest first, at most ten.
    pub earlier: Vec<Vec<u8>>,
}

/// A write of a vault.
#[derive(Debug, Clone)]
pub struct VaultWrite {
    /// The account.
    pub user_id: UserId,
    /// The new vault.
    pub vault: Vec<u8>,
    /// The version that it replaces.
    pub expected_version: u64,
    /// Whether the replaced vault is kept among the earlier ones.
    pub keep_replaced: bool,
    /// The new record, when the password changes.
    pub password: Option<PasswordRecord>,
    /// The session that continues when the password changes.
    pub keep_session: Option<SessionId>,
}

/// The answer of a write that names the version that it replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionedWrite {
    /// Written, as this version.
    Written(u64),
    /// Another version is current (0: none), and nothing changed.
    Conflict(u64),
}

/// A mailed code for replacing a forgotten password.
#[derive(Debug, Clone)]
pub struct NewMailCode {
    /// The account.
    pub user_id: UserId,
    /// The address that it is mailed to, which the account must have.
    pub email: String,
    /// The hash of the code.
    pub code: SecretHash,
    /// When it ends.
    pub expires_at: UnixSeconds,
    /// Now.
    pub now: UnixSeconds,
}

/// A mailed code that still allows to reset a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetStart {
    /// The account.
    pub user_id: UserId,
    /// The version of its vault.
    pub vault_version: u64,
}

/// A reset of a forgotten password.
#[derive(Debug, Clone)]
pub struct PasswordReset {
    /// The mailed code.
    pub code: SecretHash,
    /// The new record.
    pub password: PasswordRecord,
    /// The vault of the new generation.
    pub vault: Vec<u8>,
    /// The version of the vault that it replaces.
    pub expected_version: u64,
    /// Now.
    pub now: UnixSeconds,
}
