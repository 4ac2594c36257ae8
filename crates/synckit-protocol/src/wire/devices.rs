//! `/api/sync/devices`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use crate::DeviceId;

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
    ///
    /// # Examples
    /// ```
    /// use synckit_protocol::wire::devices::Platform;
    ///
    /// assert_eq!(Platform::Android.as_str(), "android");
    /// ```
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
///
/// # Examples
/// ```
/// use synckit_protocol::wire::devices::{Platform, PlatformParseError};
///
/// assert_eq!("Linux".parse::<Platform>(), Err(PlatformParseError)); // lower case only
/// ```
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

/// `POST /api/sync/devices`: registers a device, or finds it again by (app, user, name); binds the session to it.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::devices::{Platform, RegisterDevice};
///
/// let json = r#"{"device_name":"MacBook","platform":"macos"}"#;
/// let register: RegisterDevice = serde_json::from_str(json)?;
/// assert_eq!(register.platform, Platform::Macos);
/// assert_eq!(serde_json::to_string(&register)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterDevice {
    /// The name that people see, 1 to 100 bytes.
    pub device_name: String,
    /// The platform.
    pub platform: Platform,
}

/// `PATCH /api/sync/devices/{id}`.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::devices::RenameDevice;
///
/// let json = r#"{"device_name":"Old MacBook"}"#;
/// let rename: RenameDevice = serde_json::from_str(json)?;
/// assert_eq!(rename.device_name, "Old MacBook");
/// assert_eq!(serde_json::to_string(&rename)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RenameDevice {
    /// The new name. A name that another device has is `invalid_value`.
    pub device_name: String,
}

/// A device, as every device endpoint returns it.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::devices::Device;
///
/// let json = concat!(
///     r#"{"id":"c1c1c1c1-c1c1-4c1c-81c1-c1c1c1c1c1c1","device_name":"MacBook","#,
///     r#""platform":"macos","created_at":1767225600,"last_seen_at":1767229200}"#,
/// );
/// let device: Device = serde_json::from_str(json)?;
/// assert!(device.created_at <= device.last_seen_at);
/// assert_eq!(serde_json::to_string(&device)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
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
///
/// # Examples
/// ```
/// use synckit_protocol::wire::devices::DeviceList;
///
/// let json = concat!(
///     r#"{"devices":[{"id":"c1c1c1c1-c1c1-4c1c-81c1-c1c1c1c1c1c1","#,
///     r#""device_name":"MacBook","platform":"macos","created_at":1767225600,"#,
///     r#""last_seen_at":1767229200}]}"#,
/// );
/// let list: DeviceList = serde_json::from_str(json)?;
/// assert_eq!(list.devices[0].device_name, "MacBook");
/// assert_eq!(serde_json::to_string(&list)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceList {
    /// The devices of the user in this app, revoked ones left out, in order of registration.
    pub devices: Vec<Device>,
}
