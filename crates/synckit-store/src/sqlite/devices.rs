//! Devices. A revoked one keeps its row, because batches name it.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use synckit_protocol::{DeviceId, SessionId, limits::DEVICES_MAX, wire::UnixSeconds};

use super::{
    columns::{Unsigned, id, optional_unsigned, platform, unsigned},
    failure::Failure,
    sessions, streams,
};
use crate::{Device, DeviceRegistration, DeviceRename, NewDevice, StreamId};

/// How old a last-seen time may get before it is written again.
const LAST_SEEN_SECONDS: u64 = 3600;

fn read(row: &Row<'_>) -> rusqlite::Result<Device> {
    Ok(Device {
        id: id(row, 0, DeviceId::from_bytes)?,
        name: row.get(1)?,
        platform: platform(row, 2)?,
        created_at: unsigned(row, 3)?,
        last_seen_at: unsigned(row, 4)?,
    })
}

/// What the log needs to know of the device that reads or appends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Presence {
    pub(super) device_key: i64,
    pub(super) revoked: bool,
    last_seen_at: UnixSeconds,
    pulled_seq: u64,
}

impl Presence {
    /// Whether the last-seen time is due.
    pub(super) const fn is_due(&self, now: UnixSeconds) -> bool {
        now.saturating_sub(self.last_seen_at) > LAST_SEEN_SECONDS
    }

    /// Whether it must be written down that the device has come to `seq`: nothing but a snapshot's position that it
    /// passes for the first time is worth a write of its own.
    pub(super) const fn passes(&self, seq: u64, snapshot_seq: u64) -> bool {
        self.pulled_seq < snapshot_seq && snapshot_seq <= seq
    }
}

pub(super) fn presence(db: &Connection, stream_key: i64, device_id: DeviceId) -> Result<Option<Presence>, Failure> {
    let presence = db
        .prepare_cached(
            "SELECT device_key, revoked_at, last_seen_at, pulled_seq FROM devices WHERE stream_key = ?1 AND device_id = ?2",
        )?
        .query_row(params![stream_key, device_id.as_bytes()], |row| {
            Ok(Presence {
                device_key: row.get(0)?,
                revoked: optional_unsigned(row, 1)?.is_some(),
                last_seen_at: unsigned(row, 2)?,
                pulled_seq: unsigned(row, 3)?,
            })
        })
        .optional()?;
    Ok(presence)
}

pub(super) fn seen(db: &Connection, device_key: i64, now: UnixSeconds) -> Result<(), Failure> {
    db.prepare_cached("UPDATE devices SET last_seen_at = max(last_seen_at, ?2) WHERE device_key = ?1")?
        .execute(params![device_key, Unsigned(now)])?;
    Ok(())
}

/// Records that a device has come to `pulled_seq`, too.
pub(super) fn pulled(db: &Connection, device_key: i64, pulled_seq: u64, now: UnixSeconds) -> Result<(), Failure> {
    db.prepare_cached(
        "UPDATE devices SET last_seen_at = max(last_seen_at, ?2), pulled_seq = max(pulled_seq, ?3) WHERE device_key = ?1",
    )?
    .execute(params![device_key, Unsigned(now), Unsigned(pulled_seq)])?;
    Ok(())
}

pub(super) fn register(db: &Connection, device: &NewDevice) -> Result<DeviceRegistration, Failure> {
    let stream_key = streams::find_or_create(db, device.stream)?;
    let found = db
        .prepare_cached("SELECT device_key FROM devices WHERE stream_key = ?1 AND name = ?2 AND revoked_at IS NULL")?
        .query_row(params![stream_key, device.name], |row| row.get(0))
        .optional()?;
    let device_key: i64 = match found {
        Some(device_key) => {
            db.prepare_cached("UPDATE devices SET platform = ?2 WHERE device_key = ?1")?
                .execute(params![device_key, device.platform.as_str()])?;
            seen(db, device_key, device.now)?;
            device_key
        }
        None if count(db, stream_key)? >= DEVICES_MAX => return Ok(DeviceRegistration::TooMany),
        None => {
            db.prepare_cached(
                "INSERT INTO devices (stream_key, device_id, name, platform, created_at, last_seen_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
            )?
            .execute(params![
                stream_key,
                device.new_id.as_bytes(),
                device.name,
                device.platform.as_str(),
                Unsigned(device.now)
            ])?;
            db.last_insert_rowid()
        }
    };
    db.prepare_cached("UPDATE sessions SET device_key = ?3 WHERE session_id = ?1 AND stream_key = ?2")?
        .execute(params![device.session_id.as_bytes(), stream_key, device_key])?;
    Ok(DeviceRegistration::Registered(by_key(db, device_key)?))
}

fn count(db: &Connection, stream_key: i64) -> Result<u32, Failure> {
    Ok(db
        .prepare_cached("SELECT count(*) FROM devices WHERE stream_key = ?1 AND revoked_at IS NULL")?
        .query_row([stream_key], |row| row.get(0))?)
}

fn by_key(db: &Connection, device_key: i64) -> Result<Device, Failure> {
    Ok(db
        .prepare_cached(
            "SELECT device_id, name, platform, created_at, last_seen_at FROM devices WHERE device_key = ?1",
        )?
        .query_row([device_key], read)?)
}

pub(super) fn list(db: &Connection, stream: StreamId) -> Result<Vec<Device>, Failure> {
    let Some(stream) = streams::find(db, stream)? else {
        return Ok(Vec::new());
    };
    let mut statement = db.prepare_cached(
        "SELECT device_id, name, platform, created_at, last_seen_at FROM devices
         WHERE stream_key = ?1 AND revoked_at IS NULL ORDER BY device_key",
    )?;
    let devices = statement.query_map([stream.key], read)?;
    Ok(devices.collect::<Result<_, _>>()?)
}

pub(super) fn rename(
    db: &Connection,
    stream: StreamId,
    device_id: DeviceId,
    name: &str,
) -> Result<DeviceRename, Failure> {
    let Some(stream) = streams::find(db, stream)? else {
        return Ok(DeviceRename::NotFound);
    };
    let Some(device) = presence(db, stream.key, device_id)?.filter(|device| !device.revoked) else {
        return Ok(DeviceRename::NotFound);
    };
    let taken = db
        .prepare_cached(
            "SELECT 1 FROM devices WHERE stream_key = ?1 AND name = ?2 AND revoked_at IS NULL AND device_key <> ?3",
        )?
        .exists(params![stream.key, name, device.device_key])?;
    if taken {
        return Ok(DeviceRename::NameTaken);
    }
    db.prepare_cached("UPDATE devices SET name = ?2 WHERE device_key = ?1")?
        .execute(params![device.device_key, name])?;
    Ok(DeviceRename::Renamed(by_key(db, device.device_key)?))
}

pub(super) fn revoke(
    db: &Connection,
    stream: StreamId,
    device_id: DeviceId,
    now: UnixSeconds,
) -> Result<Option<Vec<SessionId>>, Failure> {
    let Some(stream) = streams::find(db, stream)? else {
        return Ok(None);
    };
    let Some(device) = presence(db, stream.key, device_id)? else {
        return Ok(None);
    };
    db.prepare_cached("UPDATE devices SET revoked_at = ?2 WHERE device_key = ?1 AND revoked_at IS NULL")?
        .execute(params![device.device_key, Unsigned(now)])?;
    sessions::end_of_device(db, device.device_key).map(Some)
}
