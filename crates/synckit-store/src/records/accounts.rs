//! Accounts, invitations, vaults and mailed codes.

use rand::random;
use synckit_protocol::{
    SessionId, UserId,
    limits::{RESET_CODE_SECONDS, RESET_CODES_MAX, RESET_STARTS_MAX},
    wire::{UnixSeconds, accounts::AppUsage},
};

use super::{Executor, ImpossibleValue, Row, params, sessions, streams};
use crate::{
    Account, AccountCreation, AccountOverview, AddressChange, Credential, CredentialId, CredentialOf, NewAccount,
    NewAddress, NewMailCode, PasswordRecord, PasswordReset, ResetStart, SecretHash, StoreError, Vault, VaultWrite,
    VersionedWrite,
    rules::accounts::{EARLIER_VAULTS_KEPT, next_vault},
};

/// [`crate::Store::create_invite`].
///
/// # Errors
/// Those of the engine.
pub async fn create_invite(db: &impl Executor, code: SecretHash, now: UnixSeconds) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO invites (code, created_at) VALUES ($1, $2)",
        params![&code, now],
    )
    .await?;
    Ok(())
}

/// [`crate::Store::invite_is_open`].
///
/// # Errors
/// Those of the engine.
pub async fn invite_is_open(db: &impl Executor, code: SecretHash) -> Result<bool, StoreError> {
    let open = db
        .query_one(
            "SELECT created_at FROM invites WHERE code = $1 AND used_by IS NULL",
            params![&code],
        )
        .await?;
    Ok(open.is_some())
}

/// [`crate::Store::create_account`].
///
/// # Errors
/// Those of the engine.
pub async fn create(db: &impl Executor, account: &NewAccount) -> Result<AccountCreation, StoreError> {
    if key(db, account.user_id).await?.is_some() {
        return Ok(AccountCreation::Repeated);
    }
    // Before the address, so that nobody without an invitation learns which addresses are taken.
    if let Some(code) = account.invite
        && !invite_is_open(db, code).await?
    {
        return Ok(AccountCreation::InviteInvalid);
    }
    if is_taken(db, &account.email).await? {
        return Ok(AccountCreation::EmailTaken);
    }
    let created = db
        .query_one(
            "INSERT INTO accounts (user_id, email, credential_id, record, seed_id, vault, created_at)
             VALUES ($1, $2, $3, $4, (SELECT seed_id FROM server), $5, $6) RETURNING account_key",
            params![
                &account.user_id,
                &account.email,
                &account.password.credential_id,
                &account.password.record,
                &account.vault,
                account.created_at
            ],
        )
        .await?;
    use_invite(db, account.invite, created).await?;
    Ok(AccountCreation::Created)
}

/// Whether an account has an address.
pub(super) async fn is_taken(db: &impl Executor, email: &str) -> Result<bool, StoreError> {
    let taken = db
        .query_one("SELECT account_key FROM accounts WHERE email = $1", params![email])
        .await?;
    Ok(taken.is_some())
}

/// Uses an invitation up for a new account, whose key is in the row.
pub(super) async fn use_invite(
    db: &impl Executor,
    invite: Option<SecretHash>,
    created: Option<Row>,
) -> Result<(), StoreError> {
    if let Some(code) = invite {
        let account_key: i64 = created.ok_or(ImpossibleValue("account without a key"))?.get(0)?;
        db.execute(
            "UPDATE invites SET used_by = $2 WHERE code = $1",
            params![&code, account_key],
        )
        .await?;
    }
    Ok(())
}

/// The key of an account.
pub(crate) async fn key(db: &impl Executor, user_id: UserId) -> Result<Option<i64>, StoreError> {
    let row = db
        .query_one("SELECT account_key FROM accounts WHERE user_id = $1", params![&user_id])
        .await?;
    row.map(|row| row.get(0)).transpose()
}

fn read(row: &Row) -> Result<Account, StoreError> {
    Ok(Account {
        user_id: row.get(0)?,
        email: row.get(1)?,
        created_at: row.get(2)?,
        email_verified_at: row.get(3)?,
        delete_at: row.get(4)?,
    })
}

/// [`crate::Store::accounts`].
///
/// # Errors
/// Those of the engine.
pub async fn list(db: &impl Executor) -> Result<Vec<Account>, StoreError> {
    let rows = db
        .query(
            "SELECT user_id, email, created_at, email_verified_at, delete_at FROM accounts
             WHERE is_deleted = 0 ORDER BY account_key",
            &[],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// [`crate::Store::account`].
///
/// # Errors
/// Those of the engine.
pub async fn overview(db: &impl Executor, user_id: UserId) -> Result<Option<AccountOverview>, StoreError> {
    let account = db
        .query_one(
            "SELECT user_id, email, created_at, email_verified_at, delete_at FROM accounts WHERE user_id = $1",
            params![&user_id],
        )
        .await?;
    let Some(account) = account else { return Ok(None) };
    let apps = db
        .query(
            "SELECT streams.app_id, name, seq, batch_bytes + snapshot_bytes + blob_bytes,
                 (SELECT count(*) FROM devices WHERE devices.stream_key = streams.stream_key AND revoked_at IS NULL)
             FROM streams JOIN apps ON apps.app_id = streams.app_id
             WHERE user_id = $1 AND apps.is_deleted = 0 AND name <> '' ORDER BY stream_key",
            params![&user_id],
        )
        .await?;
    let apps = apps.iter().map(|row| {
        Ok(AppUsage {
            app_id: row.get(0)?,
            app_name: row.get(1)?,
            change_count: row.get(2)?,
            stored_bytes: row.get(3)?,
            devices: row.get(4)?,
        })
    });
    Ok(Some(AccountOverview {
        account: read(&account)?,
        apps: apps.collect::<Result<_, StoreError>>()?,
    }))
}

/// [`crate::Store::credential`].
///
/// # Errors
/// Those of the engine.
pub async fn credential(db: &impl Executor, of: CredentialOf<'_>) -> Result<Option<Credential>, StoreError> {
    let row = match of {
        // For an unknown address another account is read, and dropped below: the time of an answer must not tell whether
        // there was a row to read.
        CredentialOf::Email(email) => {
            db.query_one(
                "SELECT user_id, email, credential_id, record, accounts.seed_id, server.seed_id
                 FROM accounts CROSS JOIN server WHERE account_key = coalesce(
                     (SELECT account_key FROM accounts WHERE email = $1), (SELECT account_key FROM accounts LIMIT 1))",
                params![email],
            )
            .await?
        }
        CredentialOf::User(user_id) => {
            db.query_one(
                "SELECT user_id, email, credential_id, record, accounts.seed_id, server.seed_id
                 FROM accounts CROSS JOIN server WHERE user_id = $1",
                params![&user_id],
            )
            .await?
        }
        CredentialOf::Pending { email, code, now } => {
            db.query_one(
                "SELECT user_id, email, credential_id, record, pending_accounts.seed_id, server.seed_id
                 FROM pending_accounts CROSS JOIN server
                 WHERE email = $1 AND code = $2 AND created_at <= $3 AND expires_at > $3",
                params![email, &code, now],
            )
            .await?
        }
    };
    let Some(row) = row else { return Ok(None) };
    let (made_under, bound): (Option<[u8; 16]>, Option<[u8; 16]>) = (row.get(4)?, row.get(5)?);
    let credential = Credential {
        user_id: row.get(0)?,
        email: row.get(1)?,
        password: PasswordRecord {
            credential_id: row.get(2)?,
            record: row.get(3)?,
        },
        stale: made_under != bound,
    };
    let is_another = matches!(of, CredentialOf::Email(email) if email != credential.email);
    Ok((!is_another).then_some(credential))
}

/// The account, its current vault, and the vault's version.
struct CurrentVault {
    account_key: i64,
    vault: Vec<u8>,
    version: u64,
}

async fn current_vault(db: &impl Executor, user_id: UserId) -> Result<Option<CurrentVault>, StoreError> {
    let row = db
        .query_one(
            "SELECT account_key, vault, vault_version FROM accounts WHERE user_id = $1",
            params![&user_id],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(CurrentVault {
        account_key: row.get(0)?,
        vault: row.get(1)?,
        version: row.get(2)?,
    }))
}

/// [`crate::Store::vault`].
///
/// # Errors
/// Those of the engine.
pub async fn vault(db: &impl Executor, user_id: UserId) -> Result<Option<Vault>, StoreError> {
    let Some(current) = current_vault(db, user_id).await? else {
        return Ok(None);
    };
    let earlier = db
        .query(
            "SELECT vault FROM earlier_vaults WHERE account_key = $1 ORDER BY replaced_by",
            params![current.account_key],
        )
        .await?;
    Ok(Some(Vault {
        vault: current.vault,
        version: current.version,
        earlier: earlier.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?,
    }))
}

/// [`crate::Store::write_vault`].
///
/// # Errors
/// Those of the engine.
pub async fn write_vault(db: &impl Executor, write: &VaultWrite) -> Result<VersionedWrite, StoreError> {
    let current = current_vault(db, write.user_id).await?;
    let decision = next_vault(current.as_ref().map(|current| current.version), write.expected_version);
    if let (VersionedWrite::Written(version), Some(current)) = (decision, current) {
        if write.keep_replaced {
            keep_vault(db, &current, version).await?;
        }
        set_vault(db, current.account_key, &write.vault, version).await?;
        if let Some(password) = &write.password {
            set_password(db, current.account_key, password).await?;
            sessions::end_of_user(db, write.user_id, write.keep_session).await?;
            if let Some(kept) = write.keep_session {
                sessions::replace_refresh(db, kept).await?;
            }
        }
    }
    Ok(decision)
}

/// Keeps a vault that is replaced by this version, and deletes those that are too many.
async fn keep_vault(db: &impl Executor, replaced: &CurrentVault, version: u64) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO earlier_vaults (account_key, replaced_by, vault) VALUES ($1, $2, $3)",
        params![replaced.account_key, version, &replaced.vault],
    )
    .await?;
    db.execute(
        "DELETE FROM earlier_vaults WHERE account_key = $1 AND replaced_by NOT IN
         (SELECT replaced_by FROM earlier_vaults WHERE account_key = $1 ORDER BY replaced_by DESC LIMIT $2)",
        params![replaced.account_key, EARLIER_VAULTS_KEPT],
    )
    .await?;
    Ok(())
}

async fn set_vault(db: &impl Executor, account_key: i64, vault: &[u8], version: u64) -> Result<(), StoreError> {
    db.execute(
        "UPDATE accounts SET vault = $2, vault_version = $3 WHERE account_key = $1",
        params![account_key, vault, version],
    )
    .await?;
    Ok(())
}

async fn set_password(db: &impl Executor, account_key: i64, password: &PasswordRecord) -> Result<(), StoreError> {
    db.execute(
        "UPDATE accounts SET credential_id = $2, record = $3, seed_id = (SELECT seed_id FROM server)
         WHERE account_key = $1",
        params![account_key, &password.credential_id, &password.record],
    )
    .await?;
    Ok(())
}

/// [`crate::Store::put_mail_code`].
///
/// # Errors
/// [`StoreError::NoSuchStream`] if the account does not exist, and those of the engine.
pub async fn put_mail_code(db: &impl Executor, code: &NewMailCode) -> Result<bool, StoreError> {
    // An account that is gone must not pass in silence: hence no INSERT ... SELECT.
    let account_key = key(db, code.user_id).await?.ok_or(StoreError::NoSuchStream)?;
    // The address may have been changed since it was asked for: its mailbox is to have no code then.
    let has_address = db
        .query_one(
            "SELECT account_key FROM accounts WHERE account_key = $1 AND email = $2",
            params![account_key, code.email.as_str()],
        )
        .await?;
    if has_address.is_none() {
        return Ok(false);
    }
    db.execute(
        "DELETE FROM mail_codes WHERE account_key = $1 AND expires_at <= $2",
        params![account_key, code.now],
    )
    .await?;
    // The codes that are valid stay, and this one is not stored: a stranger who requests codes must not end those that the
    // owner received.
    let valid = db
        .query_one(
            "SELECT count(*) FROM mail_codes WHERE account_key = $1 AND expires_at <= $2",
            params![account_key, last_end(code.now)],
        )
        .await?
        .ok_or(ImpossibleValue("no number of codes"))?;
    if valid.get::<u32>(0)? >= RESET_CODES_MAX {
        return Ok(false);
    }
    db.execute(
        "INSERT INTO mail_codes (account_key, code, expires_at) VALUES ($1, $2, $3)",
        params![account_key, &code.code, code.expires_at],
    )
    .await?;
    Ok(true)
}

/// When a code that is made now expires. One that expires later was made by a clock that was ahead: it is not valid, because
/// it would be valid for too long, and it does not keep the account from another one.
const fn last_end(now: UnixSeconds) -> UnixSeconds {
    now.saturating_add(RESET_CODE_SECONDS)
}

/// [`crate::Store::start_reset`].
///
/// # Errors
/// Those of the engine.
pub async fn start_reset(
    db: &impl Executor,
    code: SecretHash,
    now: UnixSeconds,
) -> Result<Option<ResetStart>, StoreError> {
    let started = db
        .query_one(
            "UPDATE mail_codes SET starts = starts + 1
             WHERE code = $1 AND expires_at > $2 AND expires_at <= $3 AND starts < $4 RETURNING account_key",
            params![&code, now, last_end(now), RESET_STARTS_MAX],
        )
        .await?;
    let Some(started) = started else { return Ok(None) };
    let account_key: i64 = started.get(0)?;
    let account = db
        .query_one(
            "SELECT user_id, vault_version FROM accounts WHERE account_key = $1",
            params![account_key],
        )
        .await?
        .ok_or(ImpossibleValue("code without an account"))?;
    Ok(Some(ResetStart {
        user_id: account.get(0)?,
        vault_version: account.get(1)?,
    }))
}

/// The owner of a valid code.
async fn owner_of_code(db: &impl Executor, code: SecretHash, now: UnixSeconds) -> Result<Option<UserId>, StoreError> {
    let owner = db
        .query_one(
            "SELECT user_id FROM mail_codes JOIN accounts USING (account_key)
             WHERE code = $1 AND expires_at > $2 AND expires_at <= $3",
            params![&code, now, last_end(now)],
        )
        .await?;
    owner.map(|owner| owner.get(0)).transpose()
}

/// [`crate::Store::reset_password`].
///
/// # Errors
/// Those of the engine.
pub async fn reset_password(db: &impl Executor, reset: &PasswordReset) -> Result<Option<VersionedWrite>, StoreError> {
    let Some(user_id) = owner_of_code(db, reset.code, reset.now).await? else {
        return Ok(None);
    };
    let current = current_vault(db, user_id).await?;
    let decision = next_vault(current.as_ref().map(|current| current.version), reset.expected_version);
    if let (VersionedWrite::Written(version), Some(current)) = (decision, current) {
        let account_key = current.account_key;
        // All of them: another one in the mailbox must not replace the new password.
        db.execute("DELETE FROM mail_codes WHERE account_key = $1", params![account_key])
            .await?;
        // Who read the mail owns the address.
        db.execute(
            "UPDATE accounts SET email_verified_at = coalesce(email_verified_at, $2) WHERE account_key = $1",
            params![account_key, reset.now],
        )
        .await?;
        keep_vault(db, &current, version).await?;
        set_vault(db, account_key, &reset.vault, version).await?;
        set_password(db, account_key, &reset.password).await?;
        sessions::end_of_user(db, user_id, None).await?;
    }
    Ok(Some(decision))
}

/// Ends the sessions of one stream, and hands it to a nameless row of its own, which the sweep of deleted accounts finds.
pub(crate) async fn abandon_stream(db: &impl Executor, stream_key: i64) -> Result<(), StoreError> {
    db.execute("DELETE FROM sessions WHERE stream_key = $1", params![stream_key])
        .await?;
    let nameless = nameless(db).await?;
    streams::hand_over(db, stream_key, nameless).await
}

/// A new row in place of a deleted account.
async fn nameless(db: &impl Executor) -> Result<UserId, StoreError> {
    let nameless = UserId::from_bytes(random());
    // The address is no address, so it can neither be found nor be taken.
    let address = UserId::from_bytes(random()).to_string();
    db.execute(
        "INSERT INTO accounts (user_id, email, credential_id, record, vault, vault_version, created_at, is_deleted)
         VALUES ($1, $2, $3, $4, $4, 0, 0, 1)",
        params![&nameless, &address, &CredentialId([0; 16]), &[]],
    )
    .await?;
    Ok(nameless)
}

/// [`crate::Store::delete_account`]: one small transaction ends the sessions, deletes the account's own rows, and
/// transfers its streams to a nameless row, which has a secret id and no address. Further transactions delete the data
/// of the streams. See `docs/adr/0013-accounts-are-deleted-under-a-nameless-row.md`.
///
/// # Errors
/// Those of the engine.
pub async fn delete(db: &impl Executor, user_id: UserId) -> Result<Option<Vec<SessionId>>, StoreError> {
    let Some(account_key) = key(db, user_id).await? else {
        return Ok(None);
    };
    let ended = sessions::end_of_user(db, user_id, None).await?;
    for sql in [
        "DELETE FROM mail_codes WHERE account_key = $1",
        // Somebody tried to register the address again. Its code went to nobody.
        "DELETE FROM pending_accounts WHERE email = (SELECT email FROM accounts WHERE account_key = $1)",
        "DELETE FROM earlier_vaults WHERE account_key = $1",
        "DELETE FROM familiar_places WHERE account_key = $1",
        "DELETE FROM team_members WHERE account_key = $1",
        // Not reopened: an invitation is for one account, ever.
        "DELETE FROM invites WHERE used_by = $1",
    ] {
        db.execute(sql, params![account_key]).await?;
    }
    let nameless = nameless(db).await?;
    for stream_key in streams::of_user(db, user_id).await? {
        streams::hand_over(db, stream_key, nameless).await?;
    }
    db.execute("DELETE FROM accounts WHERE account_key = $1", params![account_key])
        .await?;
    Ok(Some(ended))
}

/// [`crate::Store::change_address`].
///
/// # Errors
/// Those of the engine.
pub async fn change_address(db: &impl Executor, change: &NewAddress) -> Result<AddressChange, StoreError> {
    let NewAddress {
        user_id,
        session_id,
        from,
        to,
        now,
    } = change;
    if let Some(session_id) = session_id
        && sessions::find(db, *session_id, *now).await?.is_none()
    {
        return Ok(AddressChange::Outdated);
    }
    let found = db
        .query_one(
            "SELECT account_key FROM accounts WHERE user_id = $1 AND email = $2",
            params![user_id, from.as_str()],
        )
        .await?;
    let Some(found) = found else {
        return Ok(AddressChange::Outdated);
    };
    let account_key: i64 = found.get(0)?;
    let other = db
        .query_one(
            "SELECT account_key FROM accounts WHERE email = $1",
            params![to.as_str()],
        )
        .await?;
    if other.is_some() {
        return Ok(AddressChange::Taken);
    }
    // A code in the old mailbox must not set a new password.
    db.execute("DELETE FROM mail_codes WHERE account_key = $1", params![account_key])
        .await?;
    db.execute(
        "UPDATE accounts SET email = $2, email_verified_at = $3 WHERE account_key = $1",
        params![account_key, to.as_str(), *now],
    )
    .await?;
    Ok(AddressChange::Changed)
}

/// [`crate::Store::schedule_deletion`].
///
/// # Errors
/// Those of the engine.
pub async fn schedule_deletion(
    db: &impl Executor,
    user_id: UserId,
    at: Option<UnixSeconds>,
) -> Result<Option<Vec<SessionId>>, StoreError> {
    let scheduled = db
        .execute(
            "UPDATE accounts SET delete_at = $2 WHERE user_id = $1",
            params![&user_id, at],
        )
        .await?;
    if scheduled == 0 {
        return Ok(None);
    }
    match at {
        Some(_) => Ok(Some(sessions::end_of_user(db, user_id, None).await?)),
        None => Ok(Some(Vec::new())),
    }
}

/// The account whose deletion has been due for longest.
///
/// # Errors
/// Those of the engine.
pub async fn due(db: &impl Executor, now: UnixSeconds) -> Result<Option<UserId>, StoreError> {
    let due = db
        .query_one(
            "SELECT user_id FROM accounts WHERE delete_at <= $1 ORDER BY delete_at LIMIT 1",
            params![now],
        )
        .await?;
    due.map(|row| row.get(0)).transpose()
}

/// Deletes that account; returns whether there is one.
///
/// # Errors
/// Those of the engine.
pub async fn delete_due(db: &impl Executor, now: UnixSeconds) -> Result<bool, StoreError> {
    match due(db, now).await? {
        Some(user_id) => Ok(delete(db, user_id).await?.is_some()),
        None => Ok(false),
    }
}
