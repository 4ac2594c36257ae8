//! A small world for stores: apps, accounts, devices and batches that are told apart by small numbers.

use crate::{
    AccountCreation, AppWrite, Append, CredentialId, Device, DeviceRegistration, EnvelopeWrite, NewAccount, NewApiKey,
    NewApp, NewBatch, NewDevice, NewEnvelope, NewPendingAccount, NewSession, NewUpload, PageRead, PageRequest,
    PasswordRecord, SecretHash, Store, StoredBatch, StreamId, UploadBegin, rules::quotas::PlanRoom,
};
use bytes::Bytes;
use synckit_protocol::{
    AppId, BatchDigest, BatchId, BlobId, Cursor, DeviceId, KeyId, ObjectKey, OwnerKey, Position, SealedHash, SessionId,
    UploadId, UserId,
    wire::{UnixSeconds, devices::Platform},
};

/// When tests happen, unless they say otherwise.
pub const NOW: UnixSeconds = 1_700_000_000;
/// The key that batches are sealed under.
pub const KEY: KeyId = KeyId::from_bytes([0xee; 16]);
/// Its owner key.
pub const OWNER: OwnerKey = OwnerKey::from_bytes([0x0e; 32]);
/// The hash of every object.
pub const HASH: SealedHash = SealedHash::from_bytes([0x0a; 32]);
/// A page of this size is limited by its entries only.
pub const NO_BYTE_LIMIT: u32 = u32::MAX;

/// 16 bytes that end in a number.
pub fn id16(n: u64) -> [u8; 16] {
    u128::from(n).to_be_bytes()
}

/// 32 bytes that end in a number.
pub fn id32(n: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&n.to_be_bytes());
    bytes
}

pub fn app_id(n: u64) -> AppId {
    AppId::from_bytes(id16(n))
}

pub fn user_id(n: u64) -> UserId {
    UserId::from_bytes(id16(n))
}

pub fn session_id(n: u64) -> SessionId {
    SessionId::from_bytes(id16(n))
}

pub fn device_id(n: u64) -> DeviceId {
    DeviceId::from_bytes(id16(n))
}

pub fn batch_id(n: u64) -> BatchId {
    BatchId::from_bytes(id16(n))
}

pub fn blob_id(n: u64) -> BlobId {
    BlobId::from_bytes(id32(n))
}

pub fn object_key(n: u64) -> ObjectKey {
    ObjectKey::from_bytes(id32(n))
}

pub fn upload_id(n: u64) -> UploadId {
    UploadId::from_bytes(id16(n))
}

pub fn secret(n: u64) -> SecretHash {
    SecretHash(id32(n))
}

/// The stream of an account in an app.
pub fn stream_of(app: u64, user: u64) -> StreamId {
    StreamId {
        app_id: app_id(app),
        user_id: user_id(user),
    }
}

/// Key `n` of an app.
pub fn key(n: u64) -> String {
    format!("key_{n}")
}

pub fn new_key(n: u64) -> NewApiKey {
    NewApiKey {
        text: key(n),
        created_at: NOW,
    }
}

/// Creates app `n`, whose first key is number `n`.
pub async fn create_app(store: &dyn Store, n: u64) -> AppId {
    let app = NewApp {
        id: app_id(n),
        name: format!("app {n}"),
        team: None,
        key: new_key(n),
    };
    assert_eq!(store.create_app(app).await.unwrap(), AppWrite::Written);
    app_id(n)
}

/// The record of a password, under credential identifier `n`.
pub fn password(n: u64, record: &[u8]) -> PasswordRecord {
    PasswordRecord {
        credential_id: CredentialId(id16(n)),
        record: record.to_vec(),
    }
}

pub fn new_account(n: u64) -> NewAccount {
    NewAccount {
        user_id: user_id(n),
        email: format!("{n}@example.org"),
        password: password(n, format!("record {n}").as_bytes()),
        vault: format!("vault {n}").into_bytes(),
        invite: None,
        created_at: NOW,
    }
}

/// Pending account `n`, whose code is secret `n` and ends a minute later.
pub fn new_pending(n: u64) -> NewPendingAccount {
    NewPendingAccount {
        account: new_account(n),
        code: secret(n),
        expires_at: NOW + 60,
        pending_max: 100,
    }
}

/// Creates account `n`.
pub async fn create_account(store: &dyn Store, n: u64) -> UserId {
    assert_eq!(
        store.create_account(new_account(n)).await.unwrap(),
        AccountCreation::Created
    );
    user_id(n)
}

/// Creates app `n`, account `n`, and returns their stream.
pub async fn create_stream(store: &dyn Store, n: u64) -> StreamId {
    create_app(store, n).await;
    create_account(store, n).await;
    stream_of(n, n)
}

/// Opens session `n`.
pub async fn open_session(store: &dyn Store, stream: StreamId, n: u64) -> SessionId {
    let session = NewSession {
        id: session_id(n),
        stream,
        login: None,
        credential: None,
        now: NOW,
    };
    store.open_session(session).await.unwrap();
    session_id(n)
}

pub fn new_device(stream: StreamId, n: u64) -> NewDevice {
    NewDevice {
        stream,
        new_id: device_id(n),
        name: format!("device {n}"),
        platform: Platform::Linux,
        installation_id: None,
        session_id: session_id(n),
        now: NOW,
    }
}

/// Registers device `n` in session `n`, which is opened if it is not there.
pub async fn register(store: &dyn Store, stream: StreamId, n: u64) -> DeviceId {
    registered(store, new_device(stream, n)).await.id
}

pub async fn registered(store: &dyn Store, device: NewDevice) -> Device {
    sign_in(store, &device).await;
    match store.register_device(device).await.unwrap() {
        DeviceRegistration::Registered(device) => device,
        other => panic!("no device but {other:?}"),
    }
}

/// Opens the session in which a device is to be registered, if it is not there.
pub async fn sign_in(store: &dyn Store, device: &NewDevice) {
    if store.session(device.session_id, NOW).await.unwrap().is_none() {
        let session = NewSession {
            id: device.session_id,
            stream: device.stream,
            login: None,
            credential: None,
            now: NOW,
        };
        store.open_session(session).await.unwrap();
    }
}

pub fn new_envelope(stream: StreamId, expected_version: u64) -> NewEnvelope {
    NewEnvelope {
        stream,
        envelope: format!("envelope {}", expected_version + 1).into_bytes(),
        key_id: KEY,
        expected_version,
        head: None,
        snapshot: None,
        owner: OWNER,
        signed_by: Some(OWNER),
        now: NOW,
    }
}

/// Sets up encryption under [`KEY`].
pub async fn set_up_encryption(store: &dyn Store, stream: StreamId) {
    let written = store.put_envelope(new_envelope(stream, 0)).await.unwrap();
    assert_eq!(written, EnvelopeWrite::Written(1));
}

/// A stream of app and account `n` that is ready for batches of device `n`.
pub async fn ready_stream(store: &dyn Store, n: u64) -> StreamId {
    let stream = create_stream(store, n).await;
    register(store, stream, n).await;
    set_up_encryption(store, stream).await;
    stream
}

/// The start of a stream.
pub fn start(stream: StreamId) -> Position {
    Position::start_of(stream.app_id, stream.user_id)
}

/// Batch `n` of device `device`: `count` entries in `size` bytes.
pub fn batch(stream: StreamId, parent: Position, device: u64, n: u64, count: u32, size: usize) -> NewBatch {
    let mut sealed = vec![0x5a; size];
    for (byte, number) in sealed.iter_mut().zip(n.to_be_bytes()) {
        *byte = number;
    }
    NewBatch {
        stream,
        parent,
        digest: BatchDigest {
            batch_id: batch_id(n),
            device_id: device_id(device),
            key_id: KEY,
            count,
            sealed_hash: SealedHash::of(&sealed),
        },
        sealed: Bytes::from(sealed),
        room: PlanRoom::default(),
        now: NOW,
    }
}

/// The batch as a page returns it.
pub fn stored(batch: &NewBatch) -> StoredBatch {
    StoredBatch {
        batch_id: batch.digest.batch_id,
        device_id: batch.digest.device_id,
        key_id: batch.digest.key_id,
        first_seq: batch.parent.seq + 1,
        count: batch.digest.count,
        sealed: batch.sealed.clone(),
    }
}

/// Appends a batch that must be stored as new, and returns the position after it.
pub async fn append(store: &dyn Store, batch: &NewBatch) -> Position {
    let expected = batch.parent.advance(&batch.digest).unwrap();
    let stored = Append::Stored {
        first_seq: batch.parent.seq + 1,
        position: expected,
        repeated: false,
    };
    assert_eq!(store.append_batch(batch.clone()).await.unwrap(), stored);
    expected
}

/// Appends batches of these entry counts from device `device`, numbered from `first`, on top of `parent`.
pub async fn append_all(
    store: &dyn Store,
    stream: StreamId,
    mut parent: Position,
    device: u64,
    first: u64,
    counts: &[u32],
) -> Vec<NewBatch> {
    let mut batches = Vec::new();
    for (n, count) in (first..).zip(counts) {
        let batch = batch(stream, parent, device, n, *count, 100);
        parent = append(store, &batch).await;
        batches.push(batch);
    }
    batches
}

/// The position after a batch.
pub fn end_of(batch: &NewBatch) -> Position {
    batch.parent.advance(&batch.digest).unwrap()
}

pub fn page_request(stream: StreamId, device: u64, cursor: Cursor, max_bytes: u32) -> PageRequest {
    PageRequest {
        stream,
        device_id: device_id(device),
        cursor,
        max_bytes,
        ahead: false,
        avoid_snapshot: false,
        now: NOW,
    }
}

/// A page that must be there.
pub async fn page(
    store: &dyn Store,
    stream: StreamId,
    device: u64,
    cursor: Cursor,
    max_bytes: u32,
) -> (Vec<StoredBatch>, Cursor, bool) {
    match store
        .page(page_request(stream, device, cursor, max_bytes))
        .await
        .unwrap()
    {
        PageRead::Page {
            batches,
            cursor,
            has_more,
        } => (batches, cursor, has_more),
        other => panic!("no page but {other:?}"),
    }
}

/// Every batch from the start, page by page.
pub async fn read_all(store: &dyn Store, stream: StreamId, device: u64) -> Vec<StoredBatch> {
    let mut all = Vec::new();
    let mut cursor = Cursor::START;
    loop {
        let (batches, next, has_more) = page(store, stream, device, cursor, NO_BYTE_LIMIT).await;
        all.extend(batches);
        cursor = next;
        if !has_more {
            return all;
        }
    }
}

pub fn new_upload(stream: StreamId, n: u64, blob: u64) -> NewUpload {
    NewUpload {
        stream,
        upload_id: upload_id(n),
        object_key: object_key(n),
        blob_id: blob_id(blob),
        size: 1000 + blob,
        sealed_hash: Some(HASH),
        only_asks: false,
        key_id: KEY,
        replace: false,
        brings_back: true,
        room: PlanRoom::default(),
        expires_at: NOW + 3600,
    }
}

/// Uploads blob `blob` as upload `n`, and replaces an existing one.
pub async fn upload(store: &dyn Store, stream: StreamId, n: u64, blob: u64) {
    let mut upload = new_upload(stream, n, blob);
    upload.replace = true;
    assert_eq!(store.begin_upload(upload).await.unwrap(), UploadBegin::Begun);
    assert!(store.confirm_upload(stream, upload_id(n), HASH, NOW).await.unwrap());
}
