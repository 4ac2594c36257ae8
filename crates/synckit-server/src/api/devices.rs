//! `/api/sync/devices`.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use synckit_protocol::{
    DeviceId, ProblemCode, check_name, limits,
    wire::devices::{Device, DeviceList, DeviceSession, RegisterDevice, RenameDevice},
};
use synckit_store::{DeviceRegistration, DeviceRename, NewDevice};

use super::{access::AppAccess, problems};
use crate::{
    http::{ApiError, PathText, Received, Reply},
    platform::random_id,
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `POST /api/sync/devices`.
pub(super) async fn register(
    State(state): Server,
    access: AppAccess,
    Received { value: body, reply }: Received<RegisterDevice>,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    let device = NewDevice {
        stream: access.stream,
        new_id: DeviceId::from_bytes(random_id()),
        name: device_name(body.device_name)?,
        platform: body.platform,
        installation_id: body.installation_id,
        session_id: access.session_id,
        now,
    };
    match state.store.register_device(device).await? {
        DeviceRegistration::Registered(device) => {
            access.remember_device(&state, device.id, now);
            reply.ok(&on_the_wire(device))
        }
        DeviceRegistration::SessionEnded => Err(ProblemCode::SessionEnded.into()),
        DeviceRegistration::OtherDevice => Err(ProblemCode::DeviceMismatch.into()),
        DeviceRegistration::OverQuota(quota) => Err(problems::over_quota(quota)),
        DeviceRegistration::TooMany => Err(ApiError::new(ProblemCode::DeviceLimit).with_detail(format!(
            "an account may have {} devices in one app: revoke one",
            limits::DEVICES_MAX
        ))),
    }
}

/// `GET /api/sync/devices`.
pub(super) async fn list(State(state): Server, access: AppAccess, reply: Reply) -> Result<Response, ApiError> {
    let devices = state.store.devices(access.stream).await?;
    let sessions = state
        .store
        .sessions(access.stream.user_id, state.config.clock.now())
        .await?;
    let sessions = sessions
        .into_iter()
        .filter(|session| session.stream == access.stream)
        .map(|session| DeviceSession {
            id: session.id,
            device_id: session.device_id,
            created_at: session.created_at,
            refreshed_at: session.refreshed_at,
            current: session.id == access.session_id,
        });
    reply.ok(&DeviceList {
        devices: devices.into_iter().map(on_the_wire).collect(),
        sessions: sessions.collect(),
    })
}

/// `PATCH /api/sync/devices/{id}`.
pub(super) async fn rename(
    State(state): Server,
    access: AppAccess,
    PathText(id): PathText,
    Received { value: body, reply }: Received<RenameDevice>,
) -> Result<Response, ApiError> {
    let id = device_id(&id)?;
    let name = device_name(body.device_name)?;
    match state.store.rename_device(access.stream, id, &name).await? {
        DeviceRename::Renamed(device) => reply.ok(&on_the_wire(device)),
        DeviceRename::NotFound => Err(ProblemCode::DeviceNotFound.into()),
        DeviceRename::NameTaken => Err(ApiError::invalid("device_name", "another device has this name")),
    }
}

/// `DELETE /api/sync/devices/{id}`.
pub(super) async fn revoke(
    State(state): Server,
    access: AppAccess,
    PathText(id): PathText,
) -> Result<Response, ApiError> {
    let now = state.config.clock.now();
    let ended = state
        .store
        .revoke_device(access.stream, device_id(&id)?, now)
        .await?
        .ok_or(ProblemCode::DeviceNotFound)?;
    state.sessions.end(&ended, now);
    Ok(Reply::empty())
}

/// A text that is no id names no device.
fn device_id(text: &str) -> Result<DeviceId, ApiError> {
    text.parse().map_err(|_| ProblemCode::DeviceNotFound.into())
}

fn device_name(name: String) -> Result<String, ApiError> {
    match check_name(&name, limits::DEVICE_NAME_BYTES_MAX) {
        Ok(()) => Ok(name),
        Err(error) => Err(ApiError::invalid("device_name", error.to_string())),
    }
}

fn on_the_wire(device: synckit_store::Device) -> Device {
    Device {
        id: device.id,
        device_name: device.name,
        platform: device.platform,
        created_at: device.created_at,
        last_seen_at: device.last_seen_at,
    }
}
