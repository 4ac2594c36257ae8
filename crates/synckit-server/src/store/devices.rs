//! Devices and envelopes, as a store takes and returns them.

use synckit_protocol::{
    DeviceId, KeyId, OwnerKey, Position, SessionId,
    wire::{UnixSeconds, devices::Platform, snapshots::SnapshotInfo},
};

use super::{ChainPage, StreamId};

/// A device to register.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let store = synckit_server::store::SqliteStore::open(&directory.path().join("store.db"), Default::default())?;
/// # use synckit_protocol::{AppId, DeviceId, KeyId, SessionId, UserId};
/// # use synckit_server::store::{NewAccount, NewApiKey, NewApp, SecretHash, StreamId};
/// # let stream = StreamId { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// # let session = SessionId::from_bytes([3; 16]);
/// # let device = DeviceId::from_bytes([4; 16]);
/// # let key_id = KeyId::from_bytes([5; 16]);
/// # { use synckit_server::store::Store;
/// # let key = NewApiKey { hash: SecretHash([1; 32]), prefix: "sk_1".into(), created_at: 1 };
/// # store.create_app(NewApp { id: stream.app_id, name: "Notes".into(), key }).await?;
/// # store.create_account(NewAccount {
/// #     user_id: stream.user_id, email: "me@example.com".into(),
/// #     record: vec![1], vault: vec![1], invite: None, created_at: 1,
/// # }).await?;
/// # }
/// # store.open_session(synckit_server::store::NewSession { id: session, stream, now: 100 }).await?;
/// use synckit_protocol::wire::devices::Platform;
/// use synckit_server::store::{DeviceRegistration, DeviceRename, NewDevice, Store};
///
/// let laptop = NewDevice {
///     stream,
///     new_id: device,
///     name: "laptop".into(),
///     platform: Platform::Linux,
///     session_id: session,
///     now: 100,
/// };
/// let registered = store.register_device(laptop.clone()).await?;
/// assert!(matches!(&registered, DeviceRegistration::Registered(found) if found.id == device));
/// assert_eq!(store.register_device(laptop).await?, registered); // found again by its name
/// assert!(matches!(store.rename_device(stream, device, "old laptop").await?, DeviceRename::Renamed(_)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// The stream.
    pub stream: StreamId,
    /// The id to use if the name is new.
    pub new_id: DeviceId,
    /// The name.
    pub name: String,
    /// The platform.
    pub platform: Platform,
    /// The session to bind.
    pub session_id: SessionId,
    /// Now.
    pub now: UnixSeconds,
}

/// The answer of [`super::Store::register_device`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceRegistration {
    /// Registered or found.
    Registered(Device),
    /// The account has as many devices in this app as it may.
    TooMany,
}

/// The answer of [`super::Store::rename_device`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceRename {
    /// Renamed.
    Renamed(Device),
    /// There is no such device, or it was revoked.
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
    /// The owner key of that master key, unless it was written before there were any.
    pub owner: Option<OwnerKey>,
    /// When it was written.
    pub updated_at: UnixSeconds,
}

/// An envelope to write.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let store = synckit_server::store::SqliteStore::open(&directory.path().join("store.db"), Default::default())?;
/// # use synckit_protocol::{AppId, DeviceId, KeyId, SessionId, UserId};
/// # use synckit_server::store::{NewAccount, NewApiKey, NewApp, SecretHash, StreamId};
/// # let stream = StreamId { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// # let session = SessionId::from_bytes([3; 16]);
/// # let device = DeviceId::from_bytes([4; 16]);
/// # let key_id = KeyId::from_bytes([5; 16]);
/// # { use synckit_server::store::Store;
/// # let key = NewApiKey { hash: SecretHash([1; 32]), prefix: "sk_1".into(), created_at: 1 };
/// # store.create_app(NewApp { id: stream.app_id, name: "Notes".into(), key }).await?;
/// # store.create_account(NewAccount {
/// #     user_id: stream.user_id, email: "me@example.com".into(),
/// #     record: vec![1], vault: vec![1], invite: None, created_at: 1,
/// # }).await?;
/// # }
/// use synckit_protocol::OwnerKey;
/// use synckit_server::store::{EnvelopeWrite, NewEnvelope, Store};
///
/// let owner = OwnerKey::from_bytes([5; 32]);
/// let first = NewEnvelope {
///     stream,
///     envelope: b"sealed".to_vec(),
///     key_id,
///     expected_version: 0,
///     head: None,
///     owner,
///     signed_by: Some(owner), // the server verified it
///     now: 100,
/// };
/// assert_eq!(store.put_envelope(first.clone()).await?, EnvelopeWrite::Written(1));
/// assert_eq!(store.put_envelope(first).await?, EnvelopeWrite::Conflict(1)); // another device was first
/// assert_eq!(store.envelope(stream).await?.ok_or("none")?.version, 1);
/// # Ok(())
/// # }
/// ```
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
    /// The owner key of its current master key.
    pub owner: OwnerKey,
    /// The owner key under which the caller verified a signature of exactly this write, if there is one.
    pub signed_by: Option<OwnerKey>,
    /// Now.
    pub now: UnixSeconds,
}

/// The answer of [`super::Store::put_envelope`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvelopeWrite {
    /// Written, as this version.
    Written(u64),
    /// Another version is current (0: there is none), and nothing changed.
    Conflict(u64),
    /// It is not signed by the owner key of the envelope that it replaces, or, where that has none, by its own.
    NotProven,
    /// The master key would change, and no head was named.
    HeadMissing,
    /// The head that was named is on the chain, but not its head.
    Behind(ChainPage),
    /// The head that was named is below what the log still holds.
    Compacted(SnapshotInfo),
    /// The head that was named is not on the chain.
    Diverged {
        /// The stream's newest position.
        latest: Position,
    },
}

/// The answer of [`super::Store::restore_envelope`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeRestore {
    /// Restored, as this version. The one that it was is still kept.
    Restored(u64),
    /// It is the current one.
    Current,
    /// This version is not kept.
    NotKept,
}
