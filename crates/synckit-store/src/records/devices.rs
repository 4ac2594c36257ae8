//! Devices. A revoked device keeps its row, because batches name it.

use synckit_protocol::{DeviceId, SessionId, limits::DEVICES_MAX, wire::UnixSeconds};

use super::{Executor, ImpossibleValue, Row, params, sessions, streams};
use crate::{
    Device, DeviceRegistration, DeviceRename, NewDevice, StoreError, StreamId,
    rules::{
        devices::{Named, Place, place},
        quotas::{self, Quotas},
    },
};

fn read(row: &Row) -> Result<Device, StoreError> {
    Ok(Device {
        id: row.get(0)?,
        name: row.get(1)?,
        platform: row.get(2)?,
        created_at: row.get(3)?,
        last_seen_at: row.get(4)?,
    })
}

/// [`crate::Store::register_device`].
///
/// # Errors
/// [`StoreError::NoSuchStream`], and those of the engine.
pub async fn register(
    db: &impl Executor,
    device: &NewDevice,
    quotas: &Quotas,
) -> Result<DeviceRegistration, StoreError> {
    let stream_key = streams::find_or_create(db, device.stream).await?;
    // The caller may remember the session from before it ended. One that ended gets no device, or it would outlive the
    // revocation.
    let Some(session) = session_of(db, stream_key, device.session_id).await? else {
        return Ok(DeviceRegistration::SessionEnded);
    };
    let devices = named(db, stream_key).await?;
    let place = place(&device.name, device.installation_id, &devices);
    // A session keeps its device: a thief of the token could otherwise get past the revocation of that device, by the
    // name of another one.
    if let Some(own) = session.device_key
        && !matches!(place, Place::Found(found) if found == own)
    {
        return Ok(DeviceRegistration::OtherDevice);
    }
    let device_key = match place {
        Place::Found(device_key) => {
            db.execute(
                "UPDATE devices SET platform = $2,
                     last_seen_at = CASE WHEN last_seen_at < $3 THEN $3 ELSE last_seen_at END
                 WHERE device_key = $1",
                params![device_key, device.platform.as_str(), device.now],
            )
            .await?;
            device_key
        }
        Place::New(_) if devices.len() >= DEVICES_MAX as usize => return Ok(DeviceRegistration::TooMany),
        Place::New(name) => {
            if let Some(quota) = quotas::device(quotas, count_revoked(db, stream_key).await?) {
                return Ok(DeviceRegistration::OverQuota(quota));
            }
            let inserted = db
                .query_one(
                    "INSERT INTO devices
                         (stream_key, device_id, name, platform, created_at, last_seen_at, installation_id)
                     VALUES ($1, $2, $3, $4, $5, $5, $6) RETURNING device_key",
                    params![
                        stream_key,
                        &device.new_id,
                        &name,
                        device.platform.as_str(),
                        device.now,
                        device.installation_id.as_ref()
                    ],
                )
                .await?;
            inserted.ok_or(ImpossibleValue("device without a key"))?.get(0)?
        }
    };
    db.execute(
        "UPDATE sessions SET device_key = $3 WHERE session_id = $1 AND stream_key = $2",
        params![&device.session_id, stream_key, device_key],
    )
    .await?;
    Ok(DeviceRegistration::Registered(by_key(db, device_key).await?))
}

/// The devices of a stream that are not revoked: at most [`DEVICES_MAX`].
async fn named(db: &impl Executor, stream_key: i64) -> Result<Vec<Named<i64>>, StoreError> {
    let rows = db
        .query(
            "SELECT device_key, name, installation_id FROM devices WHERE stream_key = $1 AND revoked_at IS NULL",
            params![stream_key],
        )
        .await?;
    let devices = rows.iter().map(|row| {
        Ok(Named {
            key: row.get(0)?,
            name: row.get(1)?,
            installation_id: row.get(2)?,
        })
    });
    devices.collect()
}

/// A session that has not ended.
struct LiveSession {
    device_key: Option<i64>,
}

async fn session_of(db: &impl Executor, stream_key: i64, id: SessionId) -> Result<Option<LiveSession>, StoreError> {
    let row = db
        .query_one(
            "SELECT device_key FROM sessions WHERE session_id = $1 AND stream_key = $2",
            params![&id, stream_key],
        )
        .await?;
    row.map(|row| {
        Ok(LiveSession {
            device_key: row.get(0)?,
        })
    })
    .transpose()
}

async fn count_revoked(db: &impl Executor, stream_key: i64) -> Result<u64, StoreError> {
    let row = db
        .query_one(
            "SELECT count(*) FROM devices WHERE stream_key = $1 AND revoked_at IS NOT NULL",
            params![stream_key],
        )
        .await?;
    row.map_or(Ok(0), |row| row.get(0))
}

async fn by_key(db: &impl Executor, device_key: i64) -> Result<Device, StoreError> {
    let row = db
        .query_one(
            "SELECT device_id, name, platform, created_at, last_seen_at FROM devices WHERE device_key = $1",
            params![device_key],
        )
        .await?;
    read(&row.ok_or(ImpossibleValue("device without a row"))?)
}

/// [`crate::Store::devices`].
///
/// # Errors
/// Those of the engine.
pub async fn list(db: &impl Executor, stream: StreamId) -> Result<Vec<Device>, StoreError> {
    let rows = db
        .query(
            "SELECT device_id, devices.name, platform, devices.created_at, last_seen_at
             FROM streams JOIN devices USING (stream_key)
             WHERE user_id = $1 AND app_id = $2 AND revoked_at IS NULL ORDER BY device_key",
            params![&stream.user_id, &stream.app_id],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// The stream and the key of a device, revoked or not.
async fn find(db: &impl Executor, stream: StreamId, id: DeviceId) -> Result<Option<(i64, i64, bool)>, StoreError> {
    let row = db
        .query_one(
            "SELECT stream_key, device_key, revoked_at FROM streams JOIN devices USING (stream_key)
             WHERE user_id = $1 AND app_id = $2 AND device_id = $3",
            params![&stream.user_id, &stream.app_id, &id],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let revoked_at: Option<UnixSeconds> = row.get(2)?;
    Ok(Some((row.get(0)?, row.get(1)?, revoked_at.is_some())))
}

/// [`crate::Store::rename_device`].
///
/// # Errors
/// Those of the engine.
pub async fn rename(
    db: &impl Executor,
    stream: StreamId,
    id: DeviceId,
    name: &str,
) -> Result<DeviceRename, StoreError> {
    let Some((stream_key, device_key, false)) = find(db, stream, id).await? else {
        return Ok(DeviceRename::NotFound);
    };
    let taken = db
        .query_one(
            "SELECT device_key FROM devices
             WHERE stream_key = $1 AND name = $2 AND revoked_at IS NULL AND device_key <> $3",
            params![stream_key, name, device_key],
        )
        .await?;
    if taken.is_some() {
        return Ok(DeviceRename::NameTaken);
    }
    db.execute(
        "UPDATE devices SET name = $2 WHERE device_key = $1",
        params![device_key, name],
    )
    .await?;
    Ok(DeviceRename::Renamed(by_key(db, device_key).await?))
}

/// [`crate::Store::revoke_device`].
///
/// # Errors
/// Those of the engine.
pub async fn revoke(
    db: &impl Executor,
    stream: StreamId,
    id: DeviceId,
    now: UnixSeconds,
) -> Result<Option<Vec<SessionId>>, StoreError> {
    let Some((_, device_key, _)) = find(db, stream, id).await? else {
        return Ok(None);
    };
    db.execute(
        "UPDATE devices SET revoked_at = $2 WHERE device_key = $1 AND revoked_at IS NULL",
        params![device_key, now],
    )
    .await?;
    sessions::end_of_device(db, device_key).await.map(Some)
}
