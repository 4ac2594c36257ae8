//! What one node knows of one app.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::HeaderValue;
use parking_lot::RwLock;
use synckit_protocol::AppId;
use synckit_store::{PlannedApp, rules::quotas::PlanRoom};

use super::{plan_of, standing::Standing, user_limit_of};
use crate::billing::UserLimit;

/// How much an app may store after a write, against its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// As much as the plan holds.
    Plan,
    /// Twice as much: snapshots, which allow the server to free space.
    TwicePlan,
}

/// What one node knows of one app. A request looks it up once.
#[derive(Debug)]
pub(crate) struct AppMeter {
    app_id: AppId,
    /// Bytes that moved and are in no addition yet.
    pub(super) moved: AtomicU64,
    /// Bytes that moved and may not be in the month of `read`.
    pub(super) moved_unseen: AtomicU64,
    /// Bytes of writes that go on.
    reserved: AtomicU64,
    /// What it stored when that was last read.
    stored: AtomicU64,
    /// Bytes that were written since then.
    pub(super) written_unseen: AtomicU64,
    /// As it was last read. `None`: the app has no plan.
    pub(super) read: RwLock<Option<Standing>>,
    /// What each user may have, as it was last read. `None`: as much as the app.
    pub(super) user_limit: RwLock<Option<UserLimit>>,
}

impl AppMeter {
    pub(super) fn new(app_id: AppId) -> Self {
        Self {
            app_id,
            moved: AtomicU64::new(0),
            moved_unseen: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            written_unseen: AtomicU64::new(0),
            read: RwLock::new(None),
            user_limit: RwLock::new(None),
        }
    }

    pub(crate) const fn app_id(&self) -> AppId {
        self.app_id
    }

    /// What the database says of the app, apart from what it stores. Of the bytes of its month, so many were unseen.
    pub(super) fn learn(&self, planned: &PlannedApp, seen: u64) {
        let plan = planned.plan.and_then(plan_of);
        if planned.plan.is_some() && plan.is_none() {
            tracing::error!(app_id = %self.app_id, "the database holds a plan that this version cannot read");
        }
        *self.user_limit.write() = planned.user_limit.and_then(user_limit_of);
        let mut read = self.read.write();
        *read = plan.map(|plan| Standing {
            storage_limit: plan.storage_bytes(),
            transfer_limit: plan.transfer_bytes(),
            // Known before the plan is.
            stored_bytes: self.stored.load(Ordering::Relaxed),
            moved_bytes: planned.moved_bytes,
        });
        drop(read);
        self.moved_unseen.fetch_sub(seen, Ordering::Relaxed);
    }

    /// The app stores so many bytes, of which so many were written since the last reading.
    pub(super) fn stores(&self, stored_bytes: u64, written: u64) {
        // In this order: at no time are bytes in neither.
        self.stored.store(stored_bytes, Ordering::Relaxed);
        if let Some(standing) = self.read.write().as_mut() {
            standing.stored_bytes = stored_bytes;
        }
        self.written_unseen.fetch_sub(written, Ordering::Relaxed);
    }

    /// What the app stores and moved, as far as this node can know. `None`: it has no plan.
    pub(super) fn standing(&self) -> Option<Standing> {
        let mut standing = (*self.read.read())?;
        let written = self.written_unseen.load(Ordering::Relaxed);
        standing.stored_bytes = standing.stored_bytes.saturating_add(written);
        let moved = self.moved_unseen.load(Ordering::Relaxed);
        standing.moved_bytes = standing.moved_bytes.saturating_add(moved);
        Some(standing)
    }

    /// What each user may have. `None`: as much as the app.
    pub(super) fn user_limit(&self) -> Option<UserLimit> {
        *self.user_limit.read()
    }

    /// Takes room for a write of so many bytes, as far as there is any, and says what is left to it.
    pub(crate) fn room(self: &Arc<Self>, bytes: u64, reach: Reach) -> (Option<Room>, PlanRoom) {
        // First taken, then judged: of two writes at once, neither overlooks the other.
        let reserved = self.reserved.fetch_add(bytes, Ordering::Relaxed);
        let room = Room {
            app: Arc::clone(self),
            bytes,
        };
        let app_is_full = self.standing().is_some_and(|standing| {
            let limit = match reach {
                Reach::Plan => standing.storage_limit,
                Reach::TwicePlan => standing.storage_limit.saturating_mul(2),
            };
            standing.stored_bytes.saturating_add(reserved).saturating_add(bytes) > limit
        });
        ((!app_is_full).then_some(room), self.left(app_is_full))
    }

    /// What is left to a write of so many bytes. It takes no room: what is only announced must not make the app look full to
    /// others.
    pub(crate) fn room_later(&self, bytes: u64) -> PlanRoom {
        let standing = self.standing();
        self.left(standing.is_some_and(|standing| standing.stored_bytes.saturating_add(bytes) > standing.storage_limit))
    }

    fn left(&self, app_is_full: bool) -> PlanRoom {
        PlanRoom {
            app_is_full,
            user_bytes_max: self.user_limit().map(UserLimit::storage_bytes),
        }
    }

    /// The header `SyncKit-Usage` of answers to an app that has used most of its plan.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.standing()?.told()?).ok()
    }
}

/// Room for bytes of an app that are being written. It is given back unless the bytes are [kept](Room::keep).
#[derive(Debug)]
pub(crate) struct Room {
    app: Arc<AppMeter>,
    bytes: u64,
}

impl Room {
    /// The bytes are stored: they count until the meter has read the sum again.
    pub(crate) fn keep(self) {
        self.app.written_unseen.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.app.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
