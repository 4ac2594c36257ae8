//! Plans and use of apps in PostgreSQL.

use async_trait::async_trait;
use synckit_protocol::{AppId, wire::UnixSeconds};

use super::{
    PostgresStore,
    retry::{read, single, transaction},
};
use crate::{
    AppPlan, AppStored, Hour, HourOfUse, Month, PlanPart, PlannedApp, Plans, StoreError, UsageFlush, UserLimit,
    records::plans,
};

#[async_trait]
impl Plans for PostgresStore {
    async fn write_plan(&self, app_id: AppId, plan: Option<AppPlan>, now: UnixSeconds) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| plans::write(db, app_id, plan, now))
    }

    async fn write_user_limit(&self, app_id: AppId, limit: Option<UserLimit>) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| plans::write_user_limit(db, app_id, limit))
    }

    async fn user_limit(&self, app_id: AppId) -> Result<Option<UserLimit>, StoreError> {
        single!(self, |db| plans::user_limit(db, app_id))
    }

    async fn planned_apps(&self, month: Month) -> Result<Vec<PlannedApp>, StoreError> {
        single!(self, |db| plans::list(db, month))
    }

    async fn note_told(&self, app_id: AppId, part: PlanPart, from: u32, to: u32) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| plans::note_told(db, app_id, part, from, to))
    }

    async fn add_usage(&self, flush: UsageFlush) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| plans::add(db, &flush))
    }

    async fn app_stored(&self, app_id: AppId) -> Result<AppStored, StoreError> {
        single!(self, |db| plans::stored(db, app_id))
    }

    async fn note_stored(&self, app_id: AppId, hour: Hour, bytes: u64) -> Result<(), StoreError> {
        transaction!(self, Serializable, |db| plans::note_stored(db, app_id, hour, bytes))
    }

    async fn hours_of_use(&self, app_id: AppId, since: Hour) -> Result<Vec<HourOfUse>, StoreError> {
        single!(self, |db| plans::hours(db, app_id, since))
    }

    async fn forget_usage(&self, before: Hour, now: UnixSeconds) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| plans::forget(db, before, now))
    }
}
