//! Plans of apps, and their use.

use synckit_protocol::{AppId, wire::UnixSeconds};

use super::{Executor, Row, apps, params};
use crate::{
    AppPlan, AppStored, FLUSH_KEPT_SECONDS, Hour, HourOfUse, Month, PlanPart, PlannedApp, StoreError, UsageFlush,
    UserLimit,
};

/// Hours that one transaction deletes.
const FORGET_MAX: u32 = 2_000;

/// [`crate::Plans::write_plan`].
///
/// # Errors
/// Those of the engine.
pub async fn write(
    db: &impl Executor,
    app_id: AppId,
    plan: Option<AppPlan>,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let Some(app_key) = apps::find(db, app_id).await? else {
        return Ok(false);
    };
    match plan {
        Some(plan) => {
            db.execute(
                "INSERT INTO plans (app_key, gigabytes, burst_hundredths, changed_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (app_key) DO UPDATE SET gigabytes = excluded.gigabytes,
                     burst_hundredths = excluded.burst_hundredths, changed_at = excluded.changed_at",
                params![app_key, plan.gigabytes, plan.burst_hundredths, now],
            )
            .await?;
        }
        None => {
            db.execute("DELETE FROM plans WHERE app_key = $1", params![app_key])
                .await?;
        }
    }
    Ok(true)
}

/// [`crate::Plans::write_user_limit`].
///
/// # Errors
/// Those of the engine.
pub async fn write_user_limit(db: &impl Executor, app_id: AppId, limit: Option<UserLimit>) -> Result<bool, StoreError> {
    let Some(app_key) = apps::find(db, app_id).await? else {
        return Ok(false);
    };
    db.execute(
        "UPDATE apps SET user_megabytes = $2, user_burst_hundredths = $3 WHERE app_key = $1",
        params![
            app_key,
            limit.map(|limit| limit.megabytes),
            limit.map(|limit| limit.burst_hundredths)
        ],
    )
    .await?;
    Ok(true)
}

/// [`crate::Plans::user_limit`].
///
/// # Errors
/// Those of the engine.
pub async fn user_limit(db: &impl Executor, app_id: AppId) -> Result<Option<UserLimit>, StoreError> {
    let row = db
        .query_one(
            "SELECT user_megabytes, user_burst_hundredths FROM apps WHERE app_id = $1",
            params![&app_id],
        )
        .await?;
    row.map_or(Ok(None), |row| read_user_limit(&row, 0))
}

/// From the columns `user_megabytes, user_burst_hundredths`, from this one on.
fn read_user_limit(row: &Row, first: usize) -> Result<Option<UserLimit>, StoreError> {
    let (megabytes, burst): (Option<u32>, Option<u32>) = (row.get(first)?, row.get(first + 1)?);
    Ok(megabytes.zip(burst).map(|(megabytes, burst_hundredths)| UserLimit {
        megabytes,
        burst_hundredths,
    }))
}

/// [`crate::Plans::planned_apps`].
///
/// # Errors
/// Those of the engine.
pub async fn list(db: &impl Executor, month: Month) -> Result<Vec<PlannedApp>, StoreError> {
    let rows = db
        .query(
            "SELECT app_id, gigabytes, burst_hundredths, coalesce(moved_bytes, 0), coalesce(told_storage, 0),
                 CASE WHEN told_month = $1 THEN told_transfer ELSE 0 END, user_megabytes, user_burst_hundredths
             FROM apps LEFT JOIN plans ON plans.app_key = apps.app_key
                 LEFT JOIN usage_months ON usage_months.app_key = apps.app_key AND month = $1
             WHERE is_deleted = 0 AND name <> '' ORDER BY apps.app_key",
            params![month.0],
        )
        .await?;
    let planned = rows.iter().map(|row| {
        let (gigabytes, burst): (Option<u32>, Option<u32>) = (row.get(1)?, row.get(2)?);
        Ok(PlannedApp {
            app_id: row.get(0)?,
            plan: gigabytes.zip(burst).map(|(gigabytes, burst_hundredths)| AppPlan {
                gigabytes,
                burst_hundredths,
            }),
            user_limit: read_user_limit(row, 6)?,
            moved_bytes: row.get(3)?,
            told_storage: row.get(4)?,
            told_transfer: row.get(5)?,
        })
    });
    planned.collect()
}

/// [`crate::Plans::note_told`].
///
/// # Errors
/// Those of the engine.
pub async fn note_told(
    db: &impl Executor,
    app_id: AppId,
    part: PlanPart,
    from: u32,
    to: u32,
) -> Result<bool, StoreError> {
    let Some(app_key) = apps::find(db, app_id).await? else {
        return Ok(false);
    };
    let noted = match part {
        PlanPart::Storage => {
            db.execute(
                "UPDATE plans SET told_storage = $3 WHERE app_key = $1 AND told_storage = $2",
                params![app_key, from, to],
            )
            .await?
        }
        PlanPart::Transfer(month) => {
            db.execute(
                "UPDATE plans SET told_transfer = $3, told_month = $4
                 WHERE app_key = $1 AND CASE WHEN told_month = $4 THEN told_transfer ELSE 0 END = $2",
                params![app_key, from, to, month.0],
            )
            .await?
        }
    };
    Ok(noted > 0)
}

/// [`crate::Plans::add_usage`].
///
/// # Errors
/// Those of the engine.
pub async fn add(db: &impl Executor, flush: &UsageFlush) -> Result<bool, StoreError> {
    let added = db
        .execute(
            "INSERT INTO usage_flushes (meter, number, flushed_at) VALUES ($1, $2, $3)
             ON CONFLICT (meter) DO UPDATE SET number = excluded.number, flushed_at = excluded.flushed_at
             WHERE usage_flushes.number < excluded.number",
            params![&flush.meter, flush.number, flush.now],
        )
        .await?;
    if added == 0 {
        return Ok(false);
    }
    for moved in &flush.moved {
        // An app that was deleted meanwhile pays for nothing.
        let Some(app_key) = apps::find(db, moved.app_id).await? else {
            continue;
        };
        db.execute(
            "INSERT INTO usage_hours (app_key, hour, moved_bytes) VALUES ($1, $2, $3)
             ON CONFLICT (app_key, hour) DO UPDATE SET moved_bytes = usage_hours.moved_bytes + excluded.moved_bytes",
            params![app_key, moved.hour.0, moved.bytes],
        )
        .await?;
        db.execute(
            "INSERT INTO usage_months (app_key, month, moved_bytes) VALUES ($1, $2, $3)
             ON CONFLICT (app_key, month) DO UPDATE SET moved_bytes = usage_months.moved_bytes + excluded.moved_bytes",
            params![app_key, moved.hour.month().0, moved.bytes],
        )
        .await?;
    }
    Ok(true)
}

/// [`crate::Plans::app_stored`].
///
/// # Errors
/// Those of the engine.
pub async fn stored(db: &impl Executor, app_id: AppId) -> Result<AppStored, StoreError> {
    let row = db
        .query_one(
            "SELECT CAST(coalesce(sum(CASE WHEN is_deleted = 0
                     THEN batch_bytes + snapshot_bytes + blob_bytes - deleted_bytes ELSE 0 END), 0) AS bigint),
                 CAST(coalesce(sum(batch_bytes + snapshot_bytes + blob_bytes + replaced_bytes), 0) AS bigint)
             FROM streams JOIN accounts USING (user_id) WHERE app_id = $1",
            params![&app_id],
        )
        .await?;
    row.map_or(Ok(AppStored::default()), |row| {
        Ok(AppStored {
            counted_bytes: row.get(0)?,
            held_bytes: row.get(1)?,
        })
    })
}

/// [`crate::Plans::note_stored`].
///
/// # Errors
/// Those of the engine.
pub async fn note_stored(db: &impl Executor, app_id: AppId, hour: Hour, bytes: u64) -> Result<(), StoreError> {
    let Some(app_key) = apps::find(db, app_id).await? else {
        return Ok(());
    };
    db.execute(
        "INSERT INTO usage_hours (app_key, hour, stored_bytes) VALUES ($1, $2, $3)
         ON CONFLICT (app_key, hour) DO UPDATE SET stored_bytes = excluded.stored_bytes",
        params![app_key, hour.0, bytes],
    )
    .await?;
    Ok(())
}

/// [`crate::Plans::hours_of_use`].
///
/// # Errors
/// Those of the engine.
pub async fn hours(db: &impl Executor, app_id: AppId, since: Hour) -> Result<Vec<HourOfUse>, StoreError> {
    let rows = db
        .query(
            "SELECT hour, moved_bytes, stored_bytes FROM apps JOIN usage_hours USING (app_key)
             WHERE app_id = $1 AND hour >= $2 ORDER BY hour",
            params![&app_id, since.0],
        )
        .await?;
    let hours = rows.iter().map(|row| {
        Ok(HourOfUse {
            hour: Hour(row.get(0)?),
            moved_bytes: row.get(1)?,
            stored_bytes: row.get(2)?,
        })
    });
    hours.collect()
}

/// [`crate::Plans::forget_usage`].
///
/// # Errors
/// Those of the engine.
pub async fn forget(db: &impl Executor, before: Hour, now: UnixSeconds) -> Result<bool, StoreError> {
    let old = db
        .query(
            "SELECT app_key, hour FROM usage_hours WHERE hour < $1 ORDER BY hour LIMIT $2",
            params![before.0, FORGET_MAX],
        )
        .await?;
    for row in &old {
        let (app_key, hour): (i64, u64) = (row.get(0)?, row.get(1)?);
        db.execute(
            "DELETE FROM usage_hours WHERE app_key = $1 AND hour = $2",
            params![app_key, hour],
        )
        .await?;
    }
    db.execute("DELETE FROM usage_months WHERE month < $1", params![before.month().0])
        .await?;
    db.execute(
        "DELETE FROM usage_flushes WHERE flushed_at < $1",
        params![now.saturating_sub(FLUSH_KEPT_SECONDS)],
    )
    .await?;
    Ok(old.len() >= FORGET_MAX as usize)
}
