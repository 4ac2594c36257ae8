//! What the account page shows: sizes, times and names, which is all that the server can read.

use minijinja::Value;
use serde::Serialize;
use synckit_protocol::{
    AppId,
    wire::{UnixSeconds, devices::Platform},
};
use synckit_store::{PAGES_APP, StreamId};

use super::session::PageAccess;
use crate::{http::ApiError, state::ServerState};

/// A device that was not seen for so long is pointed out.
const FORGOTTEN_DAYS: u64 = 60;
const DAY: u64 = 24 * 3600;

/// An account.
#[derive(Debug, Serialize)]
pub(crate) struct AccountView {
    email: String,
    is_confirmed: bool,
    since: UnixSeconds,
    apps: Vec<AppView>,
    devices: Vec<DeviceView>,
    sessions: Vec<SessionView>,
    stored: u64,
    /// What the form that led here has done.
    done: Option<&'static str>,
    /// What forms carry.
    form: String,
}

#[derive(Debug, Serialize)]
struct AppView {
    name: String,
    stored: u64,
    changes: u64,
    devices: u32,
    last_seen: Option<UnixSeconds>,
    waves: [usize; 2],
}

#[derive(Debug, Serialize)]
struct DeviceView {
    id: String,
    name: String,
    platform: &'static str,
    is_handheld: bool,
    app: String,
    app_id: String,
    last_seen: UnixSeconds,
    /// Days since then, if they are many.
    forgotten: Option<u64>,
}

#[derive(Debug, Serialize)]
struct SessionView {
    id: String,
    app: String,
    device: Option<String>,
    began: UnixSeconds,
    used: UnixSeconds,
    is_this: bool,
    is_page: bool,
}

impl AccountView {
    /// The account of a request, as pages show it; `None` if it is gone.
    pub(super) async fn shown(
        state: &ServerState,
        access: &PageAccess,
        done: Option<&str>,
    ) -> Result<Option<Value>, ApiError> {
        let mut account = Self::of(state, access).await?;
        if let Some(account) = &mut account {
            account.done = done.and_then(told);
        }
        Ok(account.map(Value::from_serialize))
    }

    async fn of(state: &ServerState, access: &PageAccess) -> Result<Option<Self>, ApiError> {
        let now = state.config.clock.now();
        let Some(overview) = state.store.account(access.user_id).await? else {
            return Ok(None);
        };
        let (mut apps, mut devices, mut all) = (Vec::new(), Vec::new(), 0_u64);
        for app in overview.apps {
            let stream = StreamId {
                app_id: app.app_id,
                user_id: access.user_id,
            };
            let of_app = state.store.devices(stream).await?;
            let last_seen = of_app.iter().map(|device| device.last_seen_at).max();
            all = all.saturating_add(app.stored_bytes);
            devices.extend(of_app.into_iter().map(|device| DeviceView {
                id: device.id.to_string(),
                name: device.name,
                platform: name_of(device.platform),
                is_handheld: matches!(device.platform, Platform::Ios | Platform::Android),
                app: app.app_name.clone(),
                app_id: app.app_id.to_string(),
                last_seen: device.last_seen_at,
                forgotten: Some(now.saturating_sub(device.last_seen_at) / DAY).filter(|days| *days >= FORGOTTEN_DAYS),
            }));
            apps.push(AppView {
                stored: app.stored_bytes,
                changes: app.change_count,
                devices: app.devices,
                last_seen,
                waves: waves(app.app_id),
                name: app.app_name,
            });
        }
        let sessions = state.store.sessions(access.user_id, now).await?;
        let sessions = sessions.into_iter().map(|session| SessionView {
            id: session.id.to_string(),
            is_page: session.stream.app_id == PAGES_APP,
            app: session.app_name,
            device: session.device_name,
            began: session.created_at,
            used: session.refreshed_at,
            is_this: session.id == access.session_id,
        });
        Ok(Some(Self {
            email: overview.account.email,
            is_confirmed: overview.account.email_verified_at.is_some(),
            since: overview.account.created_at,
            apps,
            devices,
            sessions: sessions.collect(),
            stored: all,
            done: None,
            form: access.form.clone(),
        }))
    }
}

/// What a page says after a form.
fn told(done: &str) -> Option<&'static str> {
    match done {
        "device" => Some("The device is revoked. It is signed out within 5 seconds."),
        "address" => Some("The account has its new address. You sign in with it from now on."),
        "sessions" => Some("Ended. What was signed in there is signed out within 5 seconds."),
        _ => None,
    }
}

const fn name_of(platform: Platform) -> &'static str {
    match platform {
        Platform::Macos => "macOS",
        Platform::Windows => "Windows",
        Platform::Linux => "Linux",
        Platform::Ios => "iOS",
        Platform::Android => "Android",
        Platform::Web => "Web",
    }
}

/// The two patterns that stand for what is sealed of an app, so that the same app looks the same.
fn waves(app_id: AppId) -> [usize; 2] {
    let [first, second, ..] = *app_id.as_bytes();
    let a = usize::from(first % 8);
    [a, (a + 1 + usize::from(second % 7)) % 8]
}
