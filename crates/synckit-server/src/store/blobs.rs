//! Blobs and uploads, as a store takes and returns them.

use synckit_protocol::{BlobId, KeyId, ObjectKey, UploadId, wire::UnixSeconds};

use super::StreamId;

/// An upload to begin.
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
/// # let (platform, name) = (synckit_protocol::wire::devices::Platform::Linux, "laptop".to_owned());
/// # store.open_session(synckit_server::store::NewSession { id: session, stream, now: 1 }).await?;
/// # store.register_device(synckit_server::store::NewDevice {
/// #     stream, new_id: device, name, platform, session_id: session, now: 1,
/// # }).await?;
/// # let owner = synckit_protocol::OwnerKey::from_bytes([5; 32]);
/// # store.put_envelope(synckit_server::store::NewEnvelope {
/// #     stream, envelope: vec![1], key_id, expected_version: 0, head: None, owner, signed_by: Some(owner), now: 1,
/// # }).await?;
/// # }
/// use synckit_protocol::{BlobId, ObjectKey, UploadId};
/// use synckit_server::store::{NewUpload, Store, UploadBegin};
///
/// let blob_id = BlobId::from_bytes([8; 32]);
/// let upload = NewUpload {
///     stream,
///     upload_id: UploadId::from_bytes([9; 16]),
///     object_key: ObjectKey::from_bytes([10; 32]),
///     blob_id,
///     size: 1040,
///     key_id,
///     replace: false,
///     expires_at: 3700,
/// };
/// assert_eq!(store.begin_upload(upload).await?, UploadBegin::Begun);
/// assert_eq!(store.pending_uploads(stream, blob_id, 1040, None).await?[0].object_key, upload.object_key);
/// assert!(store.blob(stream, blob_id).await?.is_none()); // it counts from its confirmation on
/// assert!(store.confirm_upload(stream, upload.upload_id, 200).await?);
/// assert_eq!(store.blob(stream, blob_id).await?.ok_or("none")?.object_key, upload.object_key);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct NewUpload {
    /// The stream.
    pub stream: StreamId,
    /// Its id.
    pub upload_id: UploadId,
    /// The object that it will write, never used before.
    pub object_key: ObjectKey,
    /// The blob.
    pub blob_id: BlobId,
    /// The sealed size.
    pub size: u64,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// Begin even if the blob is there.
    pub replace: bool,
    /// When the URL stops working.
    pub expires_at: UnixSeconds,
}

/// The answer of [`super::Store::begin_upload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadBegin {
    /// The upload may begin.
    Begun,
    /// The blob is there.
    AlreadyExists,
}

/// An upload that is begun and not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingUpload {
    /// Its id.
    pub upload_id: UploadId,
    /// The object that it writes.
    pub object_key: ObjectKey,
}

/// A confirmed blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Its id.
    pub blob_id: BlobId,
    /// The object that holds it.
    pub object_key: ObjectKey,
    /// The sealed size.
    pub size: u64,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// When it was confirmed.
    pub created_at: UnixSeconds,
}
