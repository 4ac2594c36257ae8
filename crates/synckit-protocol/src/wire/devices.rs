//! `/api/sync/devices`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use crate::{DeviceId, InstallationId, SessionId};

/// The platform of a device.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::devices::Platform;
///
/// let platform: Platform = "macos".parse()?;
/// assert_eq!(platform, Platform::Macos);
/// assert_eq!(platform.to_string(), "macos");
/// # Ok::<(), synckit_protocol::wire::devices::PlatformParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// macOS.
    Macos,
    /// Windows.
    Windows,
    /// Linux.
    Linux,
    /// iOS and iPadOS.
    Ios,
    /// Android.
    Android,
    /// A browser.
    Web,
}

impl Platform {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Macos => "macos",
            Self::Windows => "windows",
            Self::Linux => "linux",
            Self::Ios => "ios",
            Self::Android => "android",
            Self::Web => "web",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is not a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a platform: expected macos, windows, linux, ios, android or web")]
pub struct PlatformParseError;

impl FromStr for Platform {
    type Err = PlatformParseError;

    fn from_str(text: &str) -> Result<Self, PlatformParseError> {
        match text {
            "macos" => Ok(Self::Macos),
            "windows" => Ok(Self::Windows),
            "linux" => Ok(Self::Linux),
            "ios" => Ok(Self::Ios),
            "android" => Ok(Self::Android),
            "web" => Ok(Self::Web),
            _ => Err(PlatformParseError),
        }
    }
}

/// `POST /api/sync/devices`: registers a device, or finds it again, and binds the session to it permanently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterDevice {
    /// The name that people see, 1 to 100 bytes.
    pub device_name: String,
    /// The platform.
    pub platform: Platform,
    /// The installation, which has one device whatever its name. A device without an installation is found by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<InstallationId>,
}

/// `PATCH /api/sync/devices/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RenameDevice {
    /// The new name. The name of another device is `invalid_value`.
    pub device_name: String,
}

/// A device, as every device endpoint returns it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Device {
    /// The device.
    pub id: DeviceId,
    /// The name that people see.
    pub device_name: String,
    /// The platform.
    pub platform: Platform,
    /// When it was registered.
    pub created_at: UnixSeconds,
    /// When it was last registered, pushed or pulled; exact to about an hour.
    pub last_seen_at: UnixSeconds,
}

/// `GET /api/sync/devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceList {
    /// The devices of the user in this app, without revoked ones, in order of registration.
    pub devices: Vec<Device>,
    /// The sessions of the user in this app, newest first.
    pub sessions: Vec<DeviceSession>,
}

/// A session, for display beside the devices of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceSession {
    /// The session.
    pub id: SessionId,
    /// Its device. Absent until it registers one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// When the user signed in.
    pub created_at: UnixSeconds,
    /// When it was last refreshed.
    pub refreshed_at: UnixSeconds,
    /// Whether it is the session of this request.
    pub current: bool,
}
