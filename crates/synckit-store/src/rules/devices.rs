//! Devices, as the log sees them.

use synckit_protocol::wire::UnixSeconds;

/// The age at which a last-seen time is written again.
pub const LAST_SEEN_SECONDS: u64 = 3600;

/// The stored state of a device that reads or appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceState {
    /// Whether it was revoked.
    pub revoked: bool,
    /// When it was last seen, to about an hour.
    pub last_seen_at: UnixSeconds,
    /// A sequence that its app has reached.
    pub pulled_seq: u64,
}

impl DeviceState {
    /// Whether its last-seen time must be written.
    pub const fn is_due(&self, now: UnixSeconds) -> bool {
        now.saturating_sub(self.last_seen_at) > LAST_SEEN_SECONDS
    }

    /// Whether its position must be written: only where it passes the newest snapshot for the first time.
    pub const fn passes(&self, seq: u64, snapshot_seq: u64) -> bool {
        self.pulled_seq < snapshot_seq && snapshot_seq <= seq
    }
}
