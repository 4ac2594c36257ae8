//! Plans of apps, and what they use of them.

use synckit_protocol::{AppId, wire::UnixSeconds};
use synckit_store::{AppPlan, Hour, HourOfUse, Month};

use super::service::{Admin, AdminError};
use crate::{
    billing::{Plan, UserLimit},
    metering::{plan_of, user_limit_of},
};

/// The days that [`Admin::usage`] looks back.
const DAYS: u64 = 30;
const DAY_HOURS: u64 = 24;

/// What an app has, what it uses, and what it used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppUsage {
    /// Its plan; without one it has no limits.
    pub plan: Option<Plan>,
    /// What each of its users may have, if that is limited.
    pub user_limit: Option<UserLimit>,
    /// Sealed bytes that count against the plan.
    pub stored_bytes: u64,
    /// Sealed bytes on the disk or in the bucket: with deleted and replaced files that wait for the sweep.
    pub held_bytes: u64,
    /// Sealed bytes that moved since the month began, as far as the nodes have added them: a few seconds old.
    pub moved_bytes: u64,
    /// When the next month begins, and transfer is counted anew: the first of a month, 00:00 UTC.
    pub month_ends: UnixSeconds,
    /// The last 30 days that have something, oldest first.
    pub days: Vec<DayOfUse>,
}

/// The use of an app in a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayOfUse {
    /// When it began: 00:00 UTC.
    pub begins: UnixSeconds,
    /// Sealed bytes that moved.
    pub moved_bytes: u64,
    /// Sealed bytes that were stored and counted, when they were last read that day.
    pub stored_bytes: Option<u64>,
}

impl Admin {
    /// Gives an app a plan, or takes it away. It holds within a few seconds at every node.
    ///
    /// # Errors
    /// [`AdminError::PlanTooSmall`] if the app stores more than the plan holds, [`AdminError::NoSuchApp`] and
    /// [`AdminError::Store`].
    pub async fn write_plan(&self, app_id: AppId, plan: Option<Plan>) -> Result<(), AdminError> {
        if let Some(plan) = plan {
            let stored_bytes = self.store().app_stored(app_id).await?.counted_bytes;
            if stored_bytes > plan.storage_bytes() {
                return Err(AdminError::PlanTooSmall { stored_bytes });
            }
        }
        let plan = plan.map(|plan| AppPlan {
            gigabytes: plan.gigabytes().number(),
            burst_hundredths: plan.burst().hundredths(),
        });
        if self.store().write_plan(app_id, plan, self.now()).await? {
            Ok(())
        } else {
            Err(AdminError::NoSuchApp(app_id))
        }
    }

    /// Limits each user of an app, or no longer. It holds within a few seconds at every node. Who stores more keeps it, and
    /// stores nothing more.
    ///
    /// # Errors
    /// [`AdminError::NoSuchApp`] and [`AdminError::Store`].
    pub async fn write_user_limit(&self, app_id: AppId, limit: Option<UserLimit>) -> Result<(), AdminError> {
        let limit = limit.map(|limit| synckit_store::UserLimit {
            megabytes: limit.megabytes.number(),
            burst_hundredths: limit.burst.hundredths(),
        });
        if self.store().write_user_limit(app_id, limit).await? {
            Ok(())
        } else {
            Err(AdminError::NoSuchApp(app_id))
        }
    }

    /// The plan of an app, and what it uses of it.
    ///
    /// # Errors
    /// [`AdminError::NoSuchApp`] and [`AdminError::Store`].
    pub async fn usage(&self, app_id: AppId) -> Result<AppUsage, AdminError> {
        let now = self.now();
        let month = Month::of(now);
        let apps = self.store().planned_apps(month).await?;
        let planned = apps.into_iter().find(|app| app.app_id == app_id);
        let planned = planned.ok_or(AdminError::NoSuchApp(app_id))?;
        let stored = self.store().app_stored(app_id).await?;
        // Whole days.
        let today = Hour::of(now).0 / DAY_HOURS;
        let since = Hour(today.saturating_sub(DAYS - 1) * DAY_HOURS);
        let hours = self.store().hours_of_use(app_id, since).await?;
        Ok(AppUsage {
            plan: planned.plan.and_then(plan_of),
            user_limit: planned.user_limit.and_then(user_limit_of),
            stored_bytes: stored.counted_bytes,
            held_bytes: stored.held_bytes,
            moved_bytes: planned.moved_bytes,
            month_ends: month.next().begins(),
            days: days(&hours),
        })
    }
}

fn days(hours: &[HourOfUse]) -> Vec<DayOfUse> {
    let of_one_day = hours.chunk_by(|one, next| one.hour.0 / DAY_HOURS == next.hour.0 / DAY_HOURS);
    let days = of_one_day.filter_map(|hours| {
        let first = hours.first()?;
        Some(DayOfUse {
            begins: Hour(first.hour.0 / DAY_HOURS * DAY_HOURS).begins(),
            moved_bytes: hours.iter().map(|hour| hour.moved_bytes).fold(0, u64::saturating_add),
            stored_bytes: hours.iter().rev().find_map(|hour| hour.stored_bytes),
        })
    });
    days.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_adds_its_hours_up() {
        let hour = |hour, moved_bytes, stored_bytes| HourOfUse {
            hour: Hour(hour),
            moved_bytes,
            stored_bytes,
        };
        let hours = [
            hour(23, 1, Some(5)),
            hour(24, 2, Some(6)),
            hour(25, 3, Some(7)),
            hour(47, 4, None),
        ];
        let day = |begins, moved_bytes, stored| DayOfUse {
            begins,
            moved_bytes,
            stored_bytes: Some(stored),
        };
        assert_eq!(days(&hours), [day(0, 1, 5), day(86_400, 9, 7)]);
        assert!(days(&[]).is_empty());
    }
}
