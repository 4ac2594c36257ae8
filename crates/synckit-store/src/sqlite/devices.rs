//! The row of a device, as the log reads and writes it.

use rusqlite::{Connection, OptionalExtension as _, params};
use synckit_protocol::{DeviceId, wire::UnixSeconds};

use super::{
    columns::{Unsigned, optional_unsigned, unsigned},
    failure::Failure,
};
use crate::rules::devices::DeviceState;

/// A device that reads or appends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Presence {
    pub(super) device_key: i64,
    pub(super) state: DeviceState,
}

pub(super) fn presence(db: &Connection, stream_key: i64, device_id: DeviceId) -> Result<Option<Presence>, Failure> {
    let presence = db
        .prepare_cached(
            "SELECT device_key, revoked_at, last_seen_at, pulled_seq FROM devices WHERE stream_key = ?1 AND device_id = ?2",
        )?
        .query_row(params![stream_key, device_id.as_bytes()], |row| {
            Ok(Presence {
                device_key: row.get(0)?,
                state: DeviceState {
                    revoked: optional_unsigned(row, 1)?.is_some(),
                    last_seen_at: unsigned(row, 2)?,
                    pulled_seq: unsigned(row, 3)?,
                },
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
