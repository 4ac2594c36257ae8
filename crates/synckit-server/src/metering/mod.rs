//! What each app stores and moves, and what its plan allows.
//!
//! Stored bytes are never counted up and down: the rows of the streams hold them, and a meter reads their sum, so that
//! nothing can drift. What moves is counted in memory and added to the database every few seconds, under a number that makes
//! a repeated addition harmless. See `docs/adr/0046-plans-limit-apps.md`.
//!
//! Invariant: at one node no write makes an app store more than its plan holds. Reading, deletion, export and sign-in ask
//! nothing here but how fast.

mod app;
mod floor;
mod standing;

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    mem,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::RwLock;
use synckit_protocol::{AppId, limits, wire::UnixSeconds};
use synckit_store::{
    FLUSH_KEPT_SECONDS, Hour, Month, Moved, PlanPart, PlannedApp, Store, StoreError, StreamId, UsageFlush,
};
use tokio::time::Instant;

use crate::billing::{Burst, Gigabytes, Megabytes, Plan, UserLimit};

pub(crate) use app::{AppMeter, Reach};
use floor::Paces;
pub(crate) use floor::{TransferLimit, Way};
pub(crate) use standing::Standing;
use standing::rung;

/// A plan as the database holds it. One that this version cannot read limits nothing, and is logged.
pub(crate) fn plan_of(stored: synckit_store::AppPlan) -> Option<Plan> {
    let gigabytes = Gigabytes::new(stored.gigabytes).ok()?;
    let burst = Burst::from_hundredths(stored.burst_hundredths).ok()?;
    Some(Plan::new(gigabytes, burst))
}

/// The limit of each user, as the database holds it. One that this version cannot read limits nothing.
pub(crate) fn user_limit_of(stored: synckit_store::UserLimit) -> Option<UserLimit> {
    let megabytes = Megabytes::new(stored.megabytes).ok()?;
    let burst = Burst::from_hundredths(stored.burst_hundredths).ok()?;
    Some(UserLimit { megabytes, burst })
}

/// In one of so many rounds it is read what an app stores that is far from its limit.
const FAR_ROUNDS: u32 = (limits::STORED_READ_SECONDS / limits::METER_SECONDS) as u32;

/// The meter of one node.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Names this run of the node among the additions in the database.
    id: [u8; 16],
    /// The pause between readings of what an app stores that is far from its limit.
    far_from_limits: Duration,
    apps: RwLock<HashMap<AppId, Arc<AppMeter>>>,
    paces: Paces,
    flushing: tokio::sync::Mutex<Flushing>,
}

/// Additions on their way to the database, one after the other.
#[derive(Debug, Default)]
struct Flushing {
    /// The number of the last one.
    number: u64,
    /// The one that did not get through: it is sent again, unchanged, before any other.
    unsent: Option<UsageFlush>,
    /// What was added and is in no reading of the month yet.
    added: HashMap<AppId, u64>,
    /// The last reading of the stored bytes of each app.
    readings: HashMap<AppId, Reading>,
}

/// A reading of what an app stores.
#[derive(Debug, Clone, Copy)]
struct Reading {
    began: Instant,
    took: Duration,
    /// The last hour for which the database has what the app stored.
    noted: Option<Hour>,
}

impl Reading {
    /// Whether the app is to be read again: at every round near its limit, so that what was deleted lifts it at once, and now and then
    /// otherwise. The readings of one app take a twentieth of the time at most.
    fn is_over(self, standing: Standing, far: Duration) -> bool {
        let pause = if standing.is_near_storage() {
            self.took.saturating_mul(20)
        } else {
            far
        };
        self.began.elapsed() >= pause
    }
}

impl Meter {
    /// A meter with rounds at this interval.
    pub(crate) fn new(id: [u8; 16], interval: Duration) -> Self {
        Self {
            id,
            far_from_limits: interval.saturating_mul(FAR_ROUNDS),
            apps: RwLock::default(),
            paces: Paces::default(),
            flushing: tokio::sync::Mutex::default(),
        }
    }

    /// What this node knows of an app.
    pub(crate) fn app(&self, app_id: AppId) -> Arc<AppMeter> {
        if let Some(app) = self.apps.read().get(&app_id) {
            return Arc::clone(app);
        }
        let mut apps = self.apps.write();
        Arc::clone(apps.entry(app_id).or_insert_with(|| Arc::new(AppMeter::new(app_id))))
    }

    /// Whether the bytes of a way may move now. Over the budget of the month each user has the floor, and so has one who used up the own
    /// share. So many bytes are taken from it at once; what is not known yet is [held](Meter::hold) later.
    pub(crate) fn may_move(
        &self,
        app: &AppMeter,
        stream: StreamId,
        way: Way,
        bytes: u64,
    ) -> Result<Pace, TransferLimit> {
        let app_is_over = app.standing().is_some_and(|standing| standing.is_over_transfer());
        if app_is_over || app.user_limit().is_some() && !self.paces.has_share(stream) {
            self.paces.admit(stream, way, bytes)?;
            Ok(Pace::Floor)
        } else {
            Ok(Pace::Free)
        }
    }

    /// Counts bytes that moved.
    pub(crate) fn moved(&self, app: &AppMeter, stream: StreamId, bytes: u64) {
        // In this order: what is in an addition was unseen before.
        app.moved_unseen.fetch_add(bytes, Ordering::Relaxed);
        app.moved.fetch_add(bytes, Ordering::Relaxed);
        if let Some(limit) = app.user_limit() {
            self.paces.take_share(stream, limit, bytes);
        }
    }

    /// Takes bytes of a way from the floor, if the pace is that.
    pub(crate) fn hold(&self, stream: StreamId, way: Way, bytes: u64, pace: Pace) {
        if pace == Pace::Floor {
            self.paces.charge(stream, way, bytes);
        }
    }

    /// One round: adds what moved, and reads anew what the apps have. Returns the rungs that apps are on now, and whose owners were last told of
    /// others.
    ///
    /// # Errors
    /// Those of the store. Nothing is lost or added twice: the next round sends the same addition again.
    pub(crate) async fn round(&self, store: &dyn Store, now: UnixSeconds) -> Result<Vec<Climb>, StoreError> {
        let mut flushing = self.flushing.lock().await;
        let hour = Hour::of(now);
        self.flush(&mut flushing, store, (hour, now)).await?;
        let apps = store.planned_apps(hour.month()).await?;
        let seen = mem::take(&mut flushing.added);
        // What is in memory first, which cannot fail any more: the month contains what is not unseen from here on.
        for planned in &apps {
            let seen = seen.get(&planned.app_id).copied().unwrap_or_default();
            self.app(planned.app_id).learn(planned, seen);
        }
        let mut climbs = Vec::new();
        for planned in &apps {
            let app = self.app(planned.app_id);
            match self.read_stored(&mut flushing.readings, store, &app, hour).await {
                Ok(()) => {}
                // One that cannot be read does not lift the limits of the others.
                Err(error) => {
                    tracing::error!(app_id = %planned.app_id, error = &error as &dyn Error, "what an app stores cannot be read");
                    continue;
                }
            }
            let standing = *app.read.read();
            climbs.extend(
                standing
                    .iter()
                    .flat_map(|standing| Climb::of(planned, *standing, hour.month())),
            );
        }
        self.forget_deleted(&mut flushing, apps.iter().map(|app| app.app_id).collect());
        Ok(climbs)
    }

    /// Reads what an app stores, if that is due, and notes it once an hour.
    async fn read_stored(
        &self,
        readings: &mut HashMap<AppId, Reading>,
        store: &dyn Store,
        app: &AppMeter,
        hour: Hour,
    ) -> Result<(), StoreError> {
        let (app_id, last) = (app.app_id(), readings.get(&app.app_id()).copied());
        let noted = last.and_then(|last| last.noted);
        let is_due = match (*app.read.read(), last) {
            (_, None) => true,
            (Some(standing), Some(last)) => last.is_over(standing, self.far_from_limits),
            (None, Some(_)) => false,
        };
        if !is_due && noted == Some(hour) {
            return Ok(());
        }
        let began = Instant::now();
        let written = app.written_unseen.load(Ordering::Relaxed);
        let stored = store.app_stored(app_id).await?.counted_bytes;
        app.stores(stored, written);
        let mut reading = Reading {
            began,
            took: began.elapsed(),
            noted,
        };
        readings.insert(app_id, reading);
        if noted != Some(hour) {
            store.note_stored(app_id, hour, stored).await?;
            reading.noted = Some(hour);
            readings.insert(app_id, reading);
        }
        Ok(())
    }

    /// Adds what moved: the next reading of the month contains it.
    async fn flush(
        &self,
        flushing: &mut Flushing,
        store: &dyn Store,
        (hour, now): (Hour, UnixSeconds),
    ) -> Result<(), StoreError> {
        // What did not get through goes first, as it was: its number tells whether it did.
        for _ in 0..2 {
            // By now the database may have forgotten whether it did. What is lost is in favour of the developer.
            if flushing
                .unsent
                .as_ref()
                .is_some_and(|unsent| now.saturating_sub(unsent.now) >= FLUSH_KEPT_SECONDS / 2)
            {
                tracing::error!("what apps moved half a day ago was never added, and is given up");
                flushing.unsent = None;
            }
            if flushing.unsent.is_none() {
                flushing.unsent = self.next_flush(&mut flushing.number, hour, now);
            }
            let Some(flush) = &flushing.unsent else { return Ok(()) };
            store.add_usage(flush.clone()).await?;
            for moved in &flush.moved {
                *flushing.added.entry(moved.app_id).or_default() += moved.bytes;
            }
            flushing.unsent = None;
        }
        Ok(())
    }

    /// An addition of all that moved since the last one.
    fn next_flush(&self, number: &mut u64, hour: Hour, now: UnixSeconds) -> Option<UsageFlush> {
        let apps = self.apps.read();
        let moved = apps.iter().map(|(app_id, app)| Moved {
            app_id: *app_id,
            hour,
            bytes: app.moved.swap(0, Ordering::Relaxed),
        });
        let mut moved: Vec<Moved> = moved.filter(|moved| moved.bytes > 0).collect();
        // In one order at every node: two that add at once wait for each other, and do not meet crosswise.
        moved.sort_by_key(|moved| moved.app_id);
        if moved.is_empty() {
            return None;
        }
        *number += 1;
        Some(UsageFlush {
            meter: self.id,
            number: *number,
            moved,
            now,
        })
    }

    /// Forgets apps that are not in the database any more.
    fn forget_deleted(&self, flushing: &mut Flushing, known: HashSet<AppId>) {
        flushing.readings.retain(|app_id, _| known.contains(app_id));
        self.apps
            .write()
            .retain(|app_id, app| known.contains(app_id) || Arc::strong_count(app) > 1);
    }
}

/// An app is on another rung of a part of its plan than its owners were last told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Climb {
    pub(crate) app_id: AppId,
    pub(crate) part: PlanPart,
    /// What they were told of, in percent; 0 if of nothing.
    pub(crate) from: u32,
    /// Where it is.
    pub(crate) to: u32,
    /// Bytes that are used, and that may be.
    pub(crate) used: u64,
    pub(crate) limit: u64,
}

impl Climb {
    fn of(planned: &PlannedApp, standing: Standing, month: Month) -> impl Iterator<Item = Self> {
        let app_id = planned.app_id;
        let storage = Self {
            app_id,
            part: PlanPart::Storage,
            from: planned.told_storage,
            to: rung(standing.storage_percent(), planned.told_storage),
            used: standing.stored_bytes,
            limit: standing.storage_limit,
        };
        let transfer = Self {
            app_id,
            part: PlanPart::Transfer(month),
            from: planned.told_transfer,
            to: rung(standing.transfer_percent(), planned.told_transfer),
            used: standing.moved_bytes,
            limit: standing.transfer_limit,
        };
        [storage, transfer].into_iter().filter(|climb| climb.from != climb.to)
    }
}

/// How bytes move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as they can.
    Free,
    /// The budget of the month is used up.
    Floor,
}
