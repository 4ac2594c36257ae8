//! Accounts, invitations, vaults and mailed codes.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use synckit_protocol::{
    AppId, UserId,
    wire::{UnixSeconds, accounts::AppUsage},
};

use super::{
    columns::{Unsigned, id, optional_unsigned, purpose, unsigned},
    failure::Failure,
    sessions,
};
use crate::{
    Account, AccountCreation, AccountOverview, Credential, CredentialOf, MailPurpose, NewAccount, NewMailCode,
    PasswordReset, SecretHash, Vault, VaultWrite, VersionedWrite,
};

/// Earlier generations of a vault that are kept.
const EARLIER_VAULTS_KEPT: u32 = 10;

pub(super) fn create_invite(db: &Connection, code: SecretHash, now: UnixSeconds) -> Result<(), Failure> {
    db.prepare_cached("INSERT INTO invites (code, created_at) VALUES (?1, ?2)")?
        .execute(params![code.0, Unsigned(now)])?;
    Ok(())
}

pub(super) fn invite_is_open(db: &Connection, code: SecretHash) -> Result<bool, Failure> {
    Ok(db
        .prepare_cached("SELECT 1 FROM invites WHERE code = ?1 AND used_by IS NULL")?
        .exists([code.0])?)
}

pub(super) fn create(db: &Connection, account: &NewAccount) -> Result<AccountCreation, Failure> {
    if account_key(db, account.user_id)?.is_some() {
        return Ok(AccountCreation::Created);
    }
    // Before the address, so that nobody without an invitation learns which addresses are taken.
    if let Some(code) = account.invite
        && !invite_is_open(db, code)?
    {
        return Ok(AccountCreation::InviteInvalid);
    }
    if db
        .prepare_cached("SELECT 1 FROM accounts WHERE email = ?1")?
        .exists([&account.email])?
    {
        return Ok(AccountCreation::EmailTaken);
    }
    db.prepare_cached(
        "INSERT INTO accounts (user_id, email, record, seed_id, vault, created_at)
         VALUES (?1, ?2, ?3, (SELECT seed_id FROM server), ?4, ?5)",
    )?
    .execute(params![
        account.user_id.as_bytes(),
        account.email,
        account.record,
        account.vault,
        Unsigned(account.created_at)
    ])?;
    if let Some(code) = account.invite {
        db.prepare_cached("UPDATE invites SET used_by = ?2 WHERE code = ?1")?
            .execute(params![code.0, db.last_insert_rowid()])?;
    }
    Ok(AccountCreation::Created)
}

pub(super) fn account_key(db: &Connection, user_id: UserId) -> Result<Option<i64>, Failure> {
    let key = db
        .prepare_cached("SELECT account_key FROM accounts WHERE user_id = ?1")?
        .query_row([user_id.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(key)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        user_id: id(row, 0, UserId::from_bytes)?,
        email: row.get(1)?,
        created_at: unsigned(row, 2)?,
        email_verified_at: optional_unsigned(row, 3)?,
    })
}

pub(super) fn list(db: &Connection) -> Result<Vec<Account>, Failure> {
    let mut statement = db.prepare_cached(
        "SELECT user_id, email, created_at, email_verified_at FROM accounts WHERE is_deleted = 0 ORDER BY account_key",
    )?;
    let accounts = statement.query_map([], read)?;
    Ok(accounts.collect::<Result<_, _>>()?)
}

pub(super) fn overview(db: &Connection, user_id: UserId) -> Result<Option<AccountOverview>, Failure> {
    let account = db
        .prepare_cached("SELECT user_id, email, created_at, email_verified_at FROM accounts WHERE user_id = ?1")?
        .query_row([user_id.as_bytes()], read)
        .optional()?;
    let Some(account) = account else { return Ok(None) };
    let mut apps = db.prepare_cached(
        "SELECT streams.app_id, name, seq, batch_bytes + snapshot_bytes + blob_bytes,
             (SELECT count(*) FROM devices WHERE devices.stream_key = streams.stream_key AND revoked_at IS NULL)
         FROM streams JOIN apps USING (app_id) WHERE user_id = ?1 ORDER BY stream_key",
    )?;
    let apps = apps.query_map([user_id.as_bytes()], |row| {
        Ok(AppUsage {
            app_id: id(row, 0, AppId::from_bytes)?,
            app_name: row.get(1)?,
            change_count: unsigned(row, 2)?,
            stored_bytes: unsigned(row, 3)?,
            devices: row.get(4)?,
        })
    })?;
    Ok(Some(AccountOverview {
        account,
        apps: apps.collect::<Result<_, _>>()?,
    }))
}

/// Whose credential to look up, owned: the query runs on another thread.
#[derive(Debug, Clone)]
pub(super) enum Owner {
    Email(String),
    User(UserId),
}

impl From<CredentialOf<'_>> for Owner {
    fn from(of: CredentialOf<'_>) -> Self {
        match of {
            CredentialOf::Email(email) => Self::Email(email.to_owned()),
            CredentialOf::User(user_id) => Self::User(user_id),
        }
    }
}

pub(super) fn credential(db: &Connection, of: &Owner) -> Result<Option<Credential>, Failure> {
    let read = |row: &Row<'_>| {
        Ok(Credential {
            user_id: id(row, 0, UserId::from_bytes)?,
            email: row.get(1)?,
            record: row.get(2)?,
            stale: row.get(3)?,
        })
    };
    let credential = match of {
        Owner::Email(email) => db
            .prepare_cached(
                "SELECT user_id, email, record, seed_id IS NOT (SELECT seed_id FROM server)
                 FROM accounts WHERE email = ?1",
            )?
            .query_row([email], read),
        Owner::User(user_id) => db
            .prepare_cached(
                "SELECT user_id, email, record, seed_id IS NOT (SELECT seed_id FROM server)
                 FROM accounts WHERE user_id = ?1",
            )?
            .query_row([user_id.as_bytes()], read),
    };
    Ok(credential.optional()?)
}

/// The account, its current vault, and the vault's version.
struct CurrentVault {
    account_key: i64,
    vault: Vec<u8>,
    version: u64,
}

fn current_vault(db: &Connection, user_id: UserId) -> Result<Option<CurrentVault>, Failure> {
    let current = db
        .prepare_cached("SELECT account_key, vault, vault_version FROM accounts WHERE user_id = ?1")?
        .query_row([user_id.as_bytes()], |row| {
            Ok(CurrentVault {
                account_key: row.get(0)?,
                vault: row.get(1)?,
                version: unsigned(row, 2)?,
            })
        })
        .optional()?;
    Ok(current)
}

pub(super) fn vault(db: &Connection, user_id: UserId) -> Result<Option<Vault>, Failure> {
    let Some(current) = current_vault(db, user_id)? else {
        return Ok(None);
    };
    let mut earlier =
        db.prepare_cached("SELECT vault FROM earlier_vaults WHERE account_key = ?1 ORDER BY replaced_by")?;
    let earlier = earlier.query_map([current.account_key], |row| row.get(0))?;
    Ok(Some(Vault {
        vault: current.vault,
        version: current.version,
        earlier: earlier.collect::<Result<_, _>>()?,
    }))
}

pub(super) fn write_vault(db: &Connection, write: &VaultWrite) -> Result<VersionedWrite, Failure> {
    let Some(current) = current_vault(db, write.user_id)? else {
        return Ok(VersionedWrite::Conflict(0));
    };
    if current.version != write.expected_version {
        return Ok(VersionedWrite::Conflict(current.version));
    }
    let version = current.version + 1;
    set_vault(db, current.account_key, &write.vault, version)?;
    if let Some(record) = &write.record {
        set_record(db, current.account_key, record)?;
        sessions::end_of_user(db, write.user_id, write.keep_session)?;
    }
    Ok(VersionedWrite::Written(version))
}

fn set_vault(db: &Connection, account_key: i64, vault: &[u8], version: u64) -> Result<(), Failure> {
    db.prepare_cached("UPDATE accounts SET vault = ?2, vault_version = ?3 WHERE account_key = ?1")?
        .execute(params![account_key, vault, Unsigned(version)])?;
    Ok(())
}

fn set_record(db: &Connection, account_key: i64, record: &[u8]) -> Result<(), Failure> {
    db.prepare_cached(
        "UPDATE accounts SET record = ?2, seed_id = (SELECT seed_id FROM server) WHERE account_key = ?1",
    )?
    .execute(params![account_key, record])?;
    Ok(())
}

pub(super) fn put_mail_code(db: &Connection, code: &NewMailCode) -> Result<(), Failure> {
    // An account that is not there is a broken reference, which must not pass in silence: hence no INSERT ... SELECT.
    let key: i64 = db
        .prepare_cached("SELECT account_key FROM accounts WHERE user_id = ?1")?
        .query_row([code.user_id.as_bytes()], |row| row.get(0))?;
    db.prepare_cached(
        "INSERT INTO mail_codes (account_key, purpose, code, expires_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (account_key, purpose) DO UPDATE SET code = excluded.code, expires_at = excluded.expires_at",
    )?
    .execute(params![
        key,
        purpose(code.purpose),
        code.code.0,
        Unsigned(code.expires_at)
    ])?;
    Ok(())
}

pub(super) fn mail_code_owner(
    db: &Connection,
    of: MailPurpose,
    code: SecretHash,
    now: UnixSeconds,
) -> Result<Option<UserId>, Failure> {
    let owner = db
        .prepare_cached(
            "SELECT user_id FROM mail_codes JOIN accounts USING (account_key)
             WHERE code = ?1 AND purpose = ?2 AND expires_at > ?3",
        )?
        .query_row(params![code.0, purpose(of), Unsigned(now)], |row| {
            id(row, 0, UserId::from_bytes)
        })
        .optional()?;
    Ok(owner)
}

/// The owner of a valid code, which is used up by this.
fn use_mail_code(
    db: &Connection,
    of: MailPurpose,
    code: SecretHash,
    now: UnixSeconds,
) -> Result<Option<UserId>, Failure> {
    let owner = mail_code_owner(db, of, code, now)?;
    if owner.is_some() {
        db.prepare_cached("DELETE FROM mail_codes WHERE code = ?1")?
            .execute([code.0])?;
    }
    Ok(owner)
}

pub(super) fn verify_email(db: &Connection, code: SecretHash, now: UnixSeconds) -> Result<bool, Failure> {
    let Some(user_id) = use_mail_code(db, MailPurpose::Verify, code, now)? else {
        return Ok(false);
    };
    db.prepare_cached("UPDATE accounts SET email_verified_at = coalesce(email_verified_at, ?2) WHERE user_id = ?1")?
        .execute(params![user_id.as_bytes(), Unsigned(now)])?;
    Ok(true)
}

pub(super) fn reset_password(db: &Connection, reset: &PasswordReset) -> Result<bool, Failure> {
    let Some(user_id) = use_mail_code(db, MailPurpose::Reset, reset.code, reset.now)? else {
        return Ok(false);
    };
    let Some(current) = current_vault(db, user_id)? else {
        return Ok(false);
    };
    let version = current.version + 1;
    db.prepare_cached("INSERT INTO earlier_vaults (account_key, replaced_by, vault) VALUES (?1, ?2, ?3)")?
        .execute(params![current.account_key, Unsigned(version), current.vault])?;
    db.prepare_cached(
        "DELETE FROM earlier_vaults WHERE account_key = ?1 AND replaced_by NOT IN
         (SELECT replaced_by FROM earlier_vaults WHERE account_key = ?1 ORDER BY replaced_by DESC LIMIT ?2)",
    )?
    .execute(params![current.account_key, EARLIER_VAULTS_KEPT])?;
    set_vault(db, current.account_key, &reset.vault, version)?;
    set_record(db, current.account_key, &reset.record)?;
    sessions::end_of_user(db, user_id, None)?;
    Ok(true)
}
