//! What an app uses of its plan.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use minijinja::{Value, context};
use serde::Serialize;
use synckit_store::{App, OwnTeam};

use super::{ConsoleAccess, admin, not_found, view};
use crate::{
    admin::{AdminError, AppUsage},
    billing::Plan,
    http::{ApiError, PathText},
    metering::Standing,
    oauth::Page,
    state::ServerState,
};

/// `GET /console/apps/{app}/usage`.
pub(super) async fn show(
    State(state): State<Arc<ServerState>>,
    access: ConsoleAccess,
    PathText(id): PathText,
) -> Result<Response, ApiError> {
    let Some(found) = access.app(&id) else {
        return not_found(&state);
    };
    let usage = match admin(&state).usage(found.1.id).await {
        Ok(usage) => usage,
        Err(AdminError::Store(error)) => return Err(error.into()),
        Err(AdminError::NoSuchApp(_)) => return not_found(&state),
        Err(error) => return Err(ApiError::internal(error)),
    };
    let shown = shown(&state, &access, found, &usage).await?;
    state.pages.show(&Page::Usage(shown))
}

#[derive(Debug, Serialize)]
struct MeterView {
    name: &'static str,
    used: u64,
    limit: u64,
    percent: u64,
    is_transfer: bool,
}

#[derive(Debug, Serialize)]
struct DayView {
    begins: u64,
    moved: u64,
    stored: Option<u64>,
    /// How long its bar is, in hundredths of the longest.
    part: u64,
}

/// A rung of the ladder of limits.
#[derive(Debug, Serialize)]
struct Rung {
    mark: &'static str,
    title: &'static str,
    text: &'static str,
    is_limit: bool,
    /// What has reached it.
    is_here: Option<&'static str>,
}

async fn shown(
    state: &ServerState,
    access: &ConsoleAccess,
    found: (&OwnTeam, &App),
    usage: &AppUsage,
) -> Result<Value, ApiError> {
    let standing = usage.plan.map(|plan| standing(plan, usage));
    let plan = standing.map(meters);
    let most = usage
        .days
        .iter()
        .map(|day| day.moved_bytes)
        .max()
        .unwrap_or_default()
        .max(1);
    let days = usage.days.iter().rev().map(|day| DayView {
        begins: day.begins,
        moved: day.moved_bytes,
        stored: day.stored_bytes,
        part: u64::try_from(u128::from(day.moved_bytes) * 100 / u128::from(most)).unwrap_or(100),
    });
    let days: Vec<DayView> = days.collect();
    let rungs = standing.map(rungs);
    Ok(context! {
        plan, days, rungs, stored => usage.stored_bytes, held => usage.held_bytes, moved => usage.moved_bytes,
        month_ends => usage.month_ends, is_usage => true, ..view::of_app(state, access, found).await?
    })
}

fn standing(plan: Plan, usage: &AppUsage) -> Standing {
    Standing {
        storage_limit: plan.storage_bytes(),
        transfer_limit: plan.transfer_bytes(),
        stored_bytes: usage.stored_bytes,
        moved_bytes: usage.moved_bytes,
    }
}

fn meters(standing: Standing) -> [MeterView; 2] {
    [
        MeterView {
            name: "Stored",
            used: standing.stored_bytes,
            limit: standing.storage_limit,
            percent: standing.storage_percent(),
            is_transfer: false,
        },
        MeterView {
            name: "Moved this month",
            used: standing.moved_bytes,
            limit: standing.transfer_limit,
            percent: standing.transfer_percent(),
            is_transfer: true,
        },
    ]
}

fn rungs(standing: Standing) -> [Rung; 4] {
    let (storage, transfer) = (standing.storage_percent(), standing.transfer_percent());
    let at = |from: u64, to: u64| {
        let reached = [storage, transfer].map(|percent| (from..to).contains(&percent));
        match reached {
            [true, true] => Some("Storage and transfer are here"),
            [true, false] => Some("Storage is here"),
            [false, true] => Some("Transfer is here"),
            [false, false] => None,
        }
    };
    [
        Rung {
            mark: "80",
            title: "80 %: you and your app are told",
            text: "A mail to the owners. Every answer has a header, <code>SyncKit-Usage</code>, which the SDK gives to your app.",
            is_limit: false,
            is_here: at(80, 95),
        },
        Rung {
            mark: "95",
            title: "95 %: time to act",
            text: "Another mail. Ask for a larger plan, or delete data.",
            is_limit: false,
            is_here: at(95, 100),
        },
        Rung {
            mark: "T",
            title: "Transfer full: slower",
            text: "<code>429 transfer_limit</code>. Each person still moves 64 KiB a minute in each direction, so notes keep \
                syncing, until the next month.",
            is_limit: true,
            is_here: (transfer >= 100).then_some("Transfer is here"),
        },
        Rung {
            mark: "S",
            title: "Storage full: no new data",
            text: "<code>402 storage_limit_reached</code> for pushes and uploads. It lifts within 5 seconds when data is deleted \
                or the plan grows.",
            is_limit: true,
            is_here: (storage >= 100).then_some("Storage is here"),
        },
    ]
}
