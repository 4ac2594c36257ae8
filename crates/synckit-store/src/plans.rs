//! Plans of apps, and their use, as a store takes and returns them.

use std::fmt;

use async_trait::async_trait;
use jiff::{Timestamp, tz::TimeZone};
use synckit_protocol::{AppId, wire::UnixSeconds};

use crate::StoreError;

/// For how many days the hours of use are kept: 13 months.
pub const USAGE_DAYS: u64 = 400;

/// How long the last flush of a node is kept: twice as long as a node tries to send one again.
pub const FLUSH_KEPT_SECONDS: u64 = 24 * 3600;

/// What an app may store, and how often all of that may move in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppPlan {
    /// Gigabytes of 1,000,000,000 bytes that may be stored.
    pub gigabytes: u32,
    /// How often they may move in a month, in hundredths.
    pub burst_hundredths: u32,
}

/// What one user may store in an app, and how often all of that may move in a month, by the word of the app's developer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserLimit {
    /// Megabytes of 1,000,000 bytes that may be stored.
    pub megabytes: u32,
    /// How often they may move in a month, in hundredths.
    pub burst_hundredths: u32,
}

/// An app with its plan and its month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedApp {
    /// The app.
    pub app_id: AppId,
    /// Its plan; an app without one has no limits.
    pub plan: Option<AppPlan>,
    /// The limit of each of its users, if they have one.
    pub user_limit: Option<UserLimit>,
    /// Sealed bytes that moved in the month that was asked for.
    pub moved_bytes: u64,
    /// The part of its storage that its owners were last told of, in percent; 0 if of none.
    pub told_storage: u32,
    /// The part of its transfer in that month that its owners were last told of, in percent; 0 if of none.
    pub told_transfer: u32,
}

/// A part of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanPart {
    /// What may be stored.
    Storage,
    /// What may move in this month.
    Transfer(Month),
}

/// An hour, counted since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(pub u64);

impl Hour {
    /// The hour of a time.
    pub const fn of(time: UnixSeconds) -> Self {
        Self(time / 3600)
    }

    /// When it begins.
    pub const fn begins(self) -> UnixSeconds {
        self.0.saturating_mul(3600)
    }

    /// The calendar month that it is in, in UTC.
    pub fn month(self) -> Month {
        Month::of(self.begins())
    }
}

/// A calendar month in UTC, counted since the year 0.
///
/// # Examples
/// ```
/// use synckit_store::Month;
///
/// let month = Month::of(1_709_251_199);
/// assert_eq!(month.begins(), 1_706_745_600, "1 February 2024");
/// assert_eq!(month.next().begins(), 1_709_251_200, "a leap year: the second after was 1 March");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(pub u32);

impl Month {
    /// The month of a time. Times after the year 9999 are in its last month.
    pub fn of(time: UnixSeconds) -> Self {
        let seconds = i64::try_from(time).unwrap_or(i64::MAX);
        let date = Timestamp::from_second(seconds)
            .unwrap_or(Timestamp::MAX)
            .to_zoned(TimeZone::UTC)
            .date();
        let (year, month) = (date.year().unsigned_abs(), date.month().unsigned_abs());
        Self(u32::from(year) * 12 + u32::from(month) - 1)
    }

    /// When it begins.
    pub fn begins(self) -> UnixSeconds {
        let (year, month) = (i16::try_from(self.0 / 12), i8::try_from(self.0 % 12 + 1));
        let first = match (year, month) {
            (Ok(year), Ok(month)) => jiff::civil::Date::new(year, month, 1).ok(),
            _ => None,
        };
        let begins = first.and_then(|date| date.to_zoned(TimeZone::UTC).ok());
        begins.map_or(UnixSeconds::MAX, |begins| {
            u64::try_from(begins.timestamp().as_second()).unwrap_or(0)
        })
    }

    /// The month after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What one node adds to the use of apps. A number that is not above the last one of its meter is not added again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageFlush {
    /// The meter: a random id that a node draws at its start.
    pub meter: [u8; 16],
    /// Counted up by one from 1.
    pub number: u64,
    /// Bytes that moved.
    pub moved: Vec<Moved>,
    /// Now.
    pub now: UnixSeconds,
}

/// Sealed bytes of an app that moved in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The app.
    pub app_id: AppId,
    /// The hour.
    pub hour: Hour,
    /// The bytes.
    pub bytes: u64,
}

/// What an app stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppStored {
    /// Bytes that count: of batches, snapshots and confirmed blobs that are not deleted.
    pub counted_bytes: u64,
    /// Bytes that are on the disk or in the bucket: with deleted and replaced blobs that wait for their sweep.
    pub held_bytes: u64,
}

/// The use of an app in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourOfUse {
    /// The hour.
    pub hour: Hour,
    /// Sealed bytes that moved.
    pub moved_bytes: u64,
    /// Counted bytes that were stored, when the app was last looked at in the hour.
    pub stored_bytes: Option<u64>,
}

/// Plans of apps, and what they use of them: the second half of a [`crate::Store`].
#[async_trait]
pub trait Plans: fmt::Debug + Send + Sync + 'static {
    /// Gives an app a plan, or takes it away. `false`: there is no such app.
    async fn write_plan(&self, app_id: AppId, plan: Option<AppPlan>, now: UnixSeconds) -> Result<bool, StoreError>;

    /// Limits each user of an app, or no longer. `false`: there is no such app.
    async fn write_user_limit(&self, app_id: AppId, limit: Option<UserLimit>) -> Result<bool, StoreError>;

    /// The limit of each user of an app, if it has one.
    async fn user_limit(&self, app_id: AppId) -> Result<Option<UserLimit>, StoreError>;

    /// Every app with its plan, in order of creation, and what moved in a month.
    async fn planned_apps(&self, month: Month) -> Result<Vec<PlannedApp>, StoreError>;

    /// Notes that the owners of an app are told of `to` percent of a part of its plan, if they were last told of `from` percent.
    /// `false`: somebody else noted something meanwhile, or the app has no plan. So one node of several tells them.
    async fn note_told(&self, app_id: AppId, part: PlanPart, from: u32, to: u32) -> Result<bool, StoreError>;

    /// Adds what moved, once. `false`: it was added before.
    async fn add_usage(&self, flush: UsageFlush) -> Result<bool, StoreError>;

    /// What an app stores now. It reads one row of each of its streams.
    async fn app_stored(&self, app_id: AppId) -> Result<AppStored, StoreError>;

    /// Notes what an app stored in an hour.
    async fn note_stored(&self, app_id: AppId, hour: Hour, bytes: u64) -> Result<(), StoreError>;

    /// The use of an app from an hour on, oldest first. Hours in which nothing was noted are not in it.
    async fn hours_of_use(&self, app_id: AppId, since: Hour) -> Result<Vec<HourOfUse>, StoreError>;

    /// Deletes hours before this one, a few thousand at a time, and flushes that are older than a day. Whether more wait.
    async fn forget_usage(&self, before: Hour, now: UnixSeconds) -> Result<bool, StoreError>;
}
