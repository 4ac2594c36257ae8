//! Sign-ins of machines without a browser.

use synckit_protocol::{AppId, limits::DEVICE_POLL_SECONDS, wire::UnixSeconds};

use super::{Executor, ImpossibleValue, params};
use crate::{
    DevicePoll, NewDeviceGrant, SecretHash, StoreError, WaitingGrant,
    rules::device_grants::{Pace, expires, kept_until, pace},
};

/// [`crate::DeviceGrants::put_device_grant`].
///
/// # Errors
/// Those of the engine.
pub async fn put(db: &impl Executor, grant: &NewDeviceGrant) -> Result<bool, StoreError> {
    let stored = db
        .query_one(
            "INSERT INTO device_grants (grant_key, device_code, user_code, app_id, asked, poll_seconds, expires_at, kept_until)
             VALUES ((SELECT coalesce(max(grant_key), 0) + 1 FROM device_grants), $1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT DO NOTHING RETURNING grant_key",
            params![
                &grant.device_code,
                &grant.user_code,
                &grant.app_id,
                &grant.asked,
                DEVICE_POLL_SECONDS,
                expires(grant.now),
                kept_until(grant.now)
            ],
        )
        .await?;
    let Some(stored) = stored else { return Ok(false) };
    // Keys grow by one with every row, so this bounds the table without a count.
    let grant_key: i64 = stored.get(0)?;
    db.execute(
        "DELETE FROM device_grants WHERE grant_key <= $1",
        params![grant_key.saturating_sub(i64::from(grant.grants_max))],
    )
    .await?;
    Ok(true)
}

/// [`crate::DeviceGrants::waiting_grant`].
///
/// # Errors
/// Those of the engine.
pub async fn waiting(
    db: &impl Executor,
    user_code: SecretHash,
    now: UnixSeconds,
) -> Result<Option<WaitingGrant>, StoreError> {
    let row = db
        .query_one(
            "SELECT app_id, asked FROM device_grants WHERE user_code = $1 AND state = 'waiting' AND expires_at > $2",
            params![&user_code, now],
        )
        .await?;
    row.map(|row| {
        Ok(WaitingGrant {
            app_id: row.get(0)?,
            asked: row.get(1)?,
        })
    })
    .transpose()
}

/// [`crate::DeviceGrants::answer_device_grant`].
///
/// # Errors
/// Those of the engine.
pub async fn answer(
    db: &impl Executor,
    user_code: SecretHash,
    allowed_by: Option<&[u8]>,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let state = if allowed_by.is_some() { "allowed" } else { "denied" };
    let answered = db
        .execute(
            "UPDATE device_grants SET state = $2, allowed_by = $3
             WHERE user_code = $1 AND state = 'waiting' AND expires_at > $4",
            params![&user_code, state, allowed_by, now],
        )
        .await?;
    Ok(answered > 0)
}

/// [`crate::DeviceGrants::poll_device_grant`].
///
/// # Errors
/// Those of the engine.
pub async fn poll(
    db: &impl Executor,
    device_code: SecretHash,
    app_id: AppId,
    now: UnixSeconds,
) -> Result<DevicePoll, StoreError> {
    let row = db
        .query_one(
            "SELECT grant_key, state, allowed_by, poll_seconds, polled_at, expires_at FROM device_grants
             WHERE device_code = $1 AND app_id = $2 AND state <> 'used'",
            params![&device_code, &app_id],
        )
        .await?;
    let Some(row) = row else { return Ok(DevicePoll::Unknown) };
    let (grant_key, state): (i64, String) = (row.get(0)?, row.get(1)?);
    if row.get::<u64>(5)? <= now {
        return Ok(DevicePoll::Expired);
    }
    match state.as_str() {
        "denied" => Ok(DevicePoll::Denied),
        "allowed" => {
            let allowed_by = row
                .get::<Option<Vec<u8>>>(2)?
                .ok_or(ImpossibleValue("device grant that nobody allowed"))?;
            db.execute(
                "UPDATE device_grants SET state = 'used', allowed_by = NULL WHERE grant_key = $1",
                params![grant_key],
            )
            .await?;
            Ok(DevicePoll::Allowed { allowed_by })
        }
        "waiting" => {
            let before: u64 = row.get(3)?;
            let (poll_seconds, answer) = match pace(before, row.get(4)?, now) {
                Pace::Kept => (before, DevicePoll::Waiting),
                Pace::TooFast(slower) => (slower, DevicePoll::TooFast),
            };
            db.execute(
                "UPDATE device_grants SET poll_seconds = $2, polled_at = $3 WHERE grant_key = $1",
                params![grant_key, poll_seconds, now],
            )
            .await?;
            Ok(answer)
        }
        _ => Err(ImpossibleValue("state of a device grant").into()),
    }
}
