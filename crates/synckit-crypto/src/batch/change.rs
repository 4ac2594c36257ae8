//! One change of one row, as the app sees it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// One change of one row.
///
/// `Insert` and `Update` carry the whole row and replace it; `Delete` removes it. The state of a stream is the fold of
/// its entries in the order of the log.
///
/// # Examples
/// ```
/// use synckit_crypto::batch::{ChangeEntry, ChangeOp, Timestamp};
///
/// let change = ChangeEntry {
///     table: "notes".into(),
///     op: ChangeOp::Insert,
///     row_id: "0190c2a4-7d1e-7f00-8a00-0123456789ab".into(),
///     timestamp: Timestamp::from(std::time::SystemTime::now()),
///     data: Some(serde_json::json!({ "title": "Milk", "done": false })),
/// };
/// let json = serde_json::to_string(&change)?; // for an outbox, say
/// assert_eq!(serde_json::from_str::<ChangeEntry>(&json)?, change);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeEntry {
    /// The table, named by the app.
    pub table: String,
    /// The operation.
    pub op: ChangeOp,
    /// The row, named by the app.
    pub row_id: String,
    /// The app's time of the change. It decides nothing; the order of the log does.
    pub timestamp: Timestamp,
    /// The row. Absent (`None`) and JSON `null` (`Some(Value::Null)`) are different and stay so.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub data: Option<Value>,
}

/// Reads a present field as `Some`, even if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The operation on a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeOp {
    /// The row is new.
    Insert,
    /// The row existed and has new contents.
    Update,
    /// The row was deleted.
    Delete,
}

/// A point in time in microseconds since 1970-01-01T00:00:00Z, negative before, by the app's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// A timestamp that the system's clock type cannot represent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the timestamp is out of the range of the system's clock")]
pub struct TimestampRangeError;

impl Timestamp {
    /// Wraps microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

impl From<SystemTime> for Timestamp {
    /// Rounds towards the past; saturates some 292,000 years from 1970.
    fn from(time: SystemTime) -> Self {
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(error) => {
                let before = error.duration();
                let whole = i64::try_from(before.as_micros()).unwrap_or(i64::MAX);
                let fraction = i64::from(before.subsec_nanos() % 1000 != 0);
                (-whole).saturating_sub(fraction)
            }
        })
    }
}

impl TryFrom<Timestamp> for SystemTime {
    type Error = TimestampRangeError;

    fn try_from(timestamp: Timestamp) -> Result<Self, TimestampRangeError> {
        let distance = Duration::from_micros(timestamp.0.unsigned_abs());
        let time = if timestamp.0 < 0 {
            UNIX_EPOCH.checked_sub(distance)
        } else {
            UNIX_EPOCH.checked_add(distance)
        };
        time.ok_or(TimestampRangeError)
    }
}
