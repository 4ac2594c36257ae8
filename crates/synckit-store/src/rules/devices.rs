//! Devices: the device of a registration, and the log's writes to a device.

use synckit_protocol::{InstallationId, limits::DEVICE_NAME_BYTES_MAX, wire::UnixSeconds};

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

    /// Whether its position must be written: only when it passes the newest snapshot for the first time.
    pub const fn passes(&self, seq: u64, snapshot_seq: u64) -> bool {
        self.pulled_seq < snapshot_seq && snapshot_seq <= seq
    }
}

/// A device of a stream that is not revoked, as a registration sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<K> {
    /// The key of its row.
    pub key: K,
    /// Its name.
    pub name: String,
    /// Its installation; `None` if it is found by its name.
    pub installation_id: Option<InstallationId>,
}

/// The device of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place<K> {
    /// One that exists.
    Found(K),
    /// A new one, under this name.
    New(String),
}

/// Finds the device of a registration among the devices of the stream that are not revoked.
///
/// An installation has one device, whatever its present name. A registration without an installation means the device
/// of its name without an installation. If another device has the name, a number is added, so that two machines with
/// the same name are two devices.
///
/// # Examples
/// ```
/// use synckit_protocol::InstallationId;
/// use synckit_store::rules::devices::{Named, Place, place};
///
/// let [mine, other] = [1, 2].map(|n| InstallationId::from_bytes([n; 16]));
/// let devices = [Named { key: 7, name: "MacBook".to_owned(), installation_id: Some(mine) }];
/// assert_eq!(place("another name", Some(mine), &devices), Place::Found(7));
/// assert_eq!(place("MacBook", Some(other), &devices), Place::New("MacBook (2)".to_owned()));
/// ```
pub fn place<K: Copy>(name: &str, installation_id: Option<InstallationId>, devices: &[Named<K>]) -> Place<K> {
    if let Some(own) = devices
        .iter()
        .find(|device| installation_id.is_some() && device.installation_id == installation_id)
    {
        return Place::Found(own.key);
    }
    // Among more names than devices, at least one is free.
    let mut names = (1..=devices.len() + 1).map(|n| numbered(name, n));
    names
        .find_map(|name| match devices.iter().find(|device| device.name == name) {
            None => Some(Place::New(name)),
            Some(device) if installation_id.is_none() && device.installation_id.is_none() => {
                Some(Place::Found(device.key))
            }
            Some(_) => None,
        })
        .unwrap_or_else(|| Place::New(name.to_owned()))
}

/// A name with a number behind it, cut so that it still fits.
fn numbered(name: &str, n: usize) -> String {
    if n == 1 {
        return name.to_owned();
    }
    let suffix = format!(" ({n})");
    let end = name.floor_char_boundary(DEVICE_NAME_BYTES_MAX.saturating_sub(suffix.len()));
    format!("{}{suffix}", name[..end].trim_end())
}
