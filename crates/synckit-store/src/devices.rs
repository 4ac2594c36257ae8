//! Devices and envelopes, as a store takes and returns them.

use synckit_protocol::{
    DeviceId, InstallationId, KeyId, OwnerKey, Position, SessionId, SnapshotId,
    wire::{UnixSeconds, devices::Platform, snapshots::SnapshotInfo},
};

use crate::{ids::StreamId, log::ChainPage, rules::quotas::Quota};

/// A device to register.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// The stream.
    pub stream: StreamId,
    /// The id to use if the device is new.
    pub new_id: DeviceId,
    /// The name.
    pub name: String,
    /// The platform.
    pub platform: Platform,
    /// The installation, by which its device is found again under any name.
    pub installation_id: Option<InstallationId>,
    /// The session to bind.
    pub session_id: SessionId,
    /// Now.
    pub now: UnixSeconds,
}

/// The answer of [`crate::Store::register_device`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceRegistration {
    /// Registered or found. The name may be another one than the wanted: see [`crate::rules::devices::place`].
    Registered(Device),
    /// The session belongs to another device. Nothing was changed.
    OtherDevice,
    /// The session has ended, or never was. Nothing was changed.
    SessionEnded,
    /// The account has as many devices in this app as it may.
    TooMany,
    /// The account would keep more than it may.
    OverQuota(Quota),
}

/// The answer of [`crate::Store::rename_device`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceRename {
    /// Renamed.
    Renamed(Device),
    /// The device does not exist, or was revoked.
    NotFound,
    /// Another device has the name.
    NameTaken,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Its name.
    pub name: String,
    /// Its platform.
    pub platform: Platform,
    /// When it was registered.
    pub created_at: UnixSeconds,
    /// When it was last seen, to about an hour.
    pub last_seen_at: UnixSeconds,
}

/// An envelope of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The envelope.
    pub envelope: Vec<u8>,
    /// The id of its current master key.
    pub key_id: KeyId,
    /// Its version, from 1.
    pub version: u64,
    /// The owner key of that master key.
    pub owner: OwnerKey,
    /// When it was written.
    pub updated_at: UnixSeconds,
}

/// An envelope to write.
#[derive(Debug, Clone)]
pub struct NewEnvelope {
    /// The stream.
    pub stream: StreamId,
    /// The envelope.
    pub envelope: Vec<u8>,
    /// The id of its current master key.
    pub key_id: KeyId,
    /// The version that it replaces, 0 for the first.
    pub expected_version: u64,
    /// The stream's head, which a change of the master key must name.
    pub head: Option<Position>,
    /// The stream's newest snapshot, required for a change of the master key if a snapshot exists.
    pub snapshot: Option<SnapshotId>,
    /// The owner key of its current master key.
    pub owner: OwnerKey,
    /// The owner key under which the caller verified the signature of exactly this write; `None` if it does not verify.
    pub signed_by: Option<OwnerKey>,
    /// Now.
    pub now: UnixSeconds,
}

/// The answer of [`crate::Store::put_envelope`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvelopeWrite {
    /// Written, as this version.
    Written(u64),
    /// Another version is current (0: none), and nothing changed.
    Conflict(u64),
    /// It is not signed by the owner key of the envelope that it replaces, or, if it is the first, by its own.
    NotProven,
    /// The master key would change, and no head was named.
    HeadMissing,
    /// The head that was named is on the chain, but not its head.
    Behind(ChainPage),
    /// The master key would change, and the newest snapshot is another one than was named.
    SnapshotStale,
    /// The named head is below the base of the log.
    Compacted(SnapshotInfo),
    /// The head that was named is not on the chain.
    Diverged {
        /// The stream's newest position.
        latest: Position,
    },
}

/// The answer of [`crate::Store::restore_envelope`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeRestore {
    /// Restored, as this version. The one that it was is still kept.
    Restored(u64),
    /// It is the current one.
    Current,
    /// This version is not kept.
    NotKept,
}
