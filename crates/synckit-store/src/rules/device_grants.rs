//! Sign-ins of machines without a browser: what a poll is told (RFC 8628, section 3.5).

use synckit_protocol::{
    limits::{DEVICE_GRANT_SECONDS, DEVICE_POLL_SECONDS, DEVICE_SLOW_DOWN_SECONDS},
    wire::UnixSeconds,
};

/// When a sign-in that was asked for now ends.
pub const fn expires(now: UnixSeconds) -> UnixSeconds {
    now.saturating_add(DEVICE_GRANT_SECONDS)
}

/// Until when it is kept: a machine that comes late is told that it has expired, rather than that it never was.
pub const fn kept_until(now: UnixSeconds) -> UnixSeconds {
    now.saturating_add(2 * DEVICE_GRANT_SECONDS)
}

/// How a poll of a sign-in that waits came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As agreed.
    Kept,
    /// Too fast. From now on so many seconds must lie between two polls.
    TooFast(u64),
}

/// Judges a poll by the one before, if there was one.
///
/// # Examples
/// ```
/// use synckit_store::rules::device_grants::{Pace, pace};
///
/// assert_eq!(pace(5, None, 100), Pace::Kept);
/// assert_eq!(pace(5, Some(100), 105), Pace::Kept);
/// assert_eq!(pace(5, Some(100), 104), Pace::TooFast(10));
/// ```
pub fn pace(poll_seconds: u64, polled_at: Option<UnixSeconds>, now: UnixSeconds) -> Pace {
    match polled_at {
        Some(before) if now < before.saturating_add(poll_seconds) => {
            let slower = poll_seconds.saturating_add(DEVICE_SLOW_DOWN_SECONDS);
            Pace::TooFast(slower.clamp(DEVICE_POLL_SECONDS, DEVICE_GRANT_SECONDS))
        }
        _ => Pace::Kept,
    }
}
