//! Accounts whose address is not confirmed yet.
//!
//! They have a table of their own, so that no query of another record can find one by mistake: until it is confirmed, a
//! pending account has no session, no stream and no data.

use synckit_protocol::{UserId, limits::PENDING_PER_ADDRESS_MAX, wire::UnixSeconds};

use super::{
    Executor, ImpossibleValue,
    accounts::{invite_is_open, is_taken, key, use_invite},
    params,
};
use crate::{AccountCreation, NewPendingAccount, SecretHash, StoreError};

/// [`crate::Store::put_pending_account`].
///
/// # Errors
/// Those of the engine.
pub async fn put(db: &impl Executor, pending: &NewPendingAccount) -> Result<AccountCreation, StoreError> {
    let account = &pending.account;
    let before = db
        .query_one(
            "SELECT pending_key FROM pending_accounts WHERE user_id = $1",
            params![&account.user_id],
        )
        .await?;
    if before.is_some() || key(db, account.user_id).await?.is_some() {
        return Ok(AccountCreation::Repeated);
    }
    if let Some(code) = account.invite
        && !invite_is_open(db, code).await?
    {
        return Ok(AccountCreation::InviteInvalid);
    }
    let taken = is_taken(db, &account.email).await?;
    let stored = db
        .query_one(
            "INSERT INTO pending_accounts (pending_key, user_id, email, credential_id, record, seed_id, vault, invite,
                 code, created_at, expires_at)
             VALUES ((SELECT coalesce(max(pending_key), 0) + 1 FROM pending_accounts), $1, $2, $3, $4,
                 (SELECT seed_id FROM server), $5, $6, $7, $8, $9) RETURNING pending_key",
            params![
                &account.user_id,
                &account.email,
                &account.password.credential_id,
                &account.password.record,
                &account.vault,
                account.invite.as_ref(),
                &pending.code,
                account.created_at,
                pending.expires_at
            ],
        )
        .await?;
    // The oldest, not the newest: otherwise a stranger who registers an address often would keep its owner from it.
    db.execute(
        "DELETE FROM pending_accounts WHERE email = $1 AND pending_key NOT IN
         (SELECT pending_key FROM pending_accounts WHERE email = $1 ORDER BY pending_key DESC LIMIT $2)",
        params![&account.email, PENDING_PER_ADDRESS_MAX],
    )
    .await?;
    // Keys grow by one with every row, so this bounds the table without a count. The oldest, for the same reason.
    let pending_key: i64 = stored.ok_or(ImpossibleValue("pending account without a key"))?.get(0)?;
    db.execute(
        "DELETE FROM pending_accounts WHERE pending_key <= $1",
        params![pending_key.saturating_sub(i64::from(pending.pending_max))],
    )
    .await?;
    Ok(if taken {
        AccountCreation::EmailTaken
    } else {
        AccountCreation::Created
    })
}

/// [`crate::Store::confirm_account`].
///
/// # Errors
/// Those of the engine.
pub async fn confirm(
    db: &impl Executor,
    user_id: UserId,
    code: SecretHash,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let pending = db
        .query_one(
            "SELECT pending_key, email, invite FROM pending_accounts
             WHERE user_id = $1 AND code = $2 AND created_at <= $3 AND expires_at > $3",
            params![&user_id, &code, now],
        )
        .await?;
    let Some(pending) = pending else { return Ok(false) };
    let (pending_key, email, invite): (i64, String, Option<SecretHash>) =
        (pending.get(0)?, pending.get(1)?, pending.get(2)?);
    if is_taken(db, &email).await? {
        return Ok(false);
    }
    if let Some(invite) = invite
        && !invite_is_open(db, invite).await?
    {
        return Ok(false);
    }
    let created = db
        .query_one(
            "INSERT INTO accounts (user_id, email, credential_id, record, seed_id, vault, created_at, email_verified_at)
             SELECT user_id, email, credential_id, record, seed_id, vault, created_at, $2
             FROM pending_accounts WHERE pending_key = $1 RETURNING account_key",
            params![pending_key, now],
        )
        .await?;
    use_invite(db, invite, created).await?;
    db.execute(
        "DELETE FROM pending_accounts WHERE pending_key = $1",
        params![pending_key],
    )
    .await?;
    Ok(true)
}
