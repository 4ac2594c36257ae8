//! The row of a device, as the log reads and writes it.

use synckit_protocol::wire::UnixSeconds;

use crate::{
    StoreError,
    records::{Executor, Row, params},
    rules::devices::DeviceState,
};

/// A device that reads or appends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Presence {
    pub(super) device_key: i64,
    pub(super) state: DeviceState,
}

/// A device that was seen, and how far its app has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) stream_key: i64,
    pub(super) device_key: i64,
    pub(super) pulled_seq: u64,
}

/// Reads four columns from `first` on; `None` if there was no device to join.
pub(super) fn read(row: &Row, first: usize) -> Result<Option<Presence>, StoreError> {
    let Some(device_key) = row.get::<Option<i64>>(first)? else {
        return Ok(None);
    };
    Ok(Some(Presence {
        device_key,
        state: DeviceState {
            revoked: row.get::<Option<UnixSeconds>>(first + 1)?.is_some(),
            last_seen_at: row.get(first + 2)?,
            pulled_seq: row.get(first + 3)?,
        },
    }))
}

/// Records that a device was seen, and how far its app has come.
pub(super) async fn pulled(db: &impl Executor, seen: &Seen, now: UnixSeconds) -> Result<(), StoreError> {
    db.execute(
        "UPDATE devices SET last_seen_at = greatest(last_seen_at, $3), pulled_seq = greatest(pulled_seq, $4)
         WHERE stream_key = $1 AND device_key = $2",
        params![seen.stream_key, seen.device_key, now, seen.pulled_seq],
    )
    .await?;
    Ok(())
}
