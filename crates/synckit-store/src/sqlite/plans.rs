//! Plans and use of apps in the embedded store.

use async_trait::async_trait;
use synckit_protocol::{AppId, wire::UnixSeconds};

use super::{
    SqliteStore,
    executor::{Transaction, run},
    writer::Lane,
};
use crate::{
    AppPlan, AppStored, Hour, HourOfUse, Month, PlanPart, PlannedApp, Plans, StoreError, UsageFlush, UserLimit,
    records::plans,
};

#[async_trait]
impl Plans for SqliteStore {
    async fn write_plan(&self, app_id: AppId, plan: Option<AppPlan>, now: UnixSeconds) -> Result<bool, StoreError> {
        self.write(Lane::Server, move |db| {
            run(plans::write(&Transaction(db), app_id, plan, now))
        })
        .await
    }

    async fn write_user_limit(&self, app_id: AppId, limit: Option<UserLimit>) -> Result<bool, StoreError> {
        self.write(Lane::Server, move |db| {
            run(plans::write_user_limit(&Transaction(db), app_id, limit))
        })
        .await
    }

    async fn user_limit(&self, app_id: AppId) -> Result<Option<UserLimit>, StoreError> {
        self.read(move |db| run(plans::user_limit(&Transaction(db), app_id)))
            .await
    }

    async fn planned_apps(&self, month: Month) -> Result<Vec<PlannedApp>, StoreError> {
        self.read(move |db| run(plans::list(&Transaction(db), month))).await
    }

    async fn note_told(&self, app_id: AppId, part: PlanPart, from: u32, to: u32) -> Result<bool, StoreError> {
        self.write(Lane::Server, move |db| {
            run(plans::note_told(&Transaction(db), app_id, part, from, to))
        })
        .await
    }

    async fn add_usage(&self, flush: UsageFlush) -> Result<bool, StoreError> {
        self.write(Lane::Server, move |db| run(plans::add(&Transaction(db), &flush)))
            .await
    }

    async fn app_stored(&self, app_id: AppId) -> Result<AppStored, StoreError> {
        self.read(move |db| run(plans::stored(&Transaction(db), app_id))).await
    }

    async fn note_stored(&self, app_id: AppId, hour: Hour, bytes: u64) -> Result<(), StoreError> {
        self.write(Lane::Server, move |db| {
            run(plans::note_stored(&Transaction(db), app_id, hour, bytes))
        })
        .await
    }

    async fn hours_of_use(&self, app_id: AppId, since: Hour) -> Result<Vec<HourOfUse>, StoreError> {
        self.read(move |db| run(plans::hours(&Transaction(db), app_id, since)))
            .await
    }

    async fn forget_usage(&self, before: Hour, now: UnixSeconds) -> Result<bool, StoreError> {
        self.write(Lane::Server, move |db| {
            run(plans::forget(&Transaction(db), before, now))
        })
        .await
    }
}
