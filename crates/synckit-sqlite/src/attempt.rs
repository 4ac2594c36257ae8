//! What a sync leaves in the status.

use std::time::SystemTime;

use crate::{database::SyncedDatabase, error::Error, shadow::settings, status::SyncStatus, sync::Done};

/// A sync that goes on. If it is cancelled, the status is what it was before.
pub(crate) struct Attempt<'a> {
    database: &'a SyncedDatabase,
    before: SyncStatus,
    after: Option<SyncStatus>,
}

impl<'a> Attempt<'a> {
    pub(crate) fn begin(database: &'a SyncedDatabase) -> Self {
        let before = database.0.status.borrow().clone();
        Self {
            database,
            before,
            after: None,
        }
    }

    pub(crate) const fn before(&self) -> &SyncStatus {
        &self.before
    }

    pub(crate) fn end(mut self, status: SyncStatus) {
        self.after = Some(status);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let after = self.after.take().unwrap_or_else(|| self.before.clone());
        self.database.0.status.send_if_modified(|status| {
            let is_changed = *status != after;
            *status = after;
            is_changed
        });
    }
}

impl SyncedDatabase {
    pub(crate) async fn status_after(&self, done: &Result<Done, Error>, before: &SyncStatus) -> SyncStatus {
        let now = SystemTime::now();
        let held = match done {
            Ok(_) => self.with(|replica| replica.held_deletions()).await,
            Err(_) => Ok(None),
        };
        let failed = match (done, &held) {
            // The user can answer whatever else is in the way.
            (Ok(_), Ok(Some(question))) => return SyncStatus::NeedsDecision(question.clone()),
            (Ok(Done { report, left: None }), Ok(None)) => return before.idle(now, *report),
            (_, Err(error)) | (Err(error), _) | (Ok(Done { left: Some(error), .. }), _) => error,
        };
        let is_agreed = matches!(self.fact(settings::RESTORED).await, Ok(Some(_)));
        SyncStatus::of_error(failed, before, is_agreed, now)
    }
}
