//! One user's ids are nothing to another user, nor to the same user in another app.

use reqwest::Method;
use synckit_protocol::{
    BlobId, Cursor, Position, SealedHash,
    wire::{
        blobs::{BlobConfirm, BlobDownload, BlobDownloadAnswer, BlobList, BlobUpload, BlobUploadAnswer},
        devices::{DeviceList, RenameDevice},
        log::{Pull, Status},
    },
};

use crate::support::{KEY_ID, PASSWORD, Syncing, User, World};

const HASH: BlobId = BlobId::from_bytes([0xab; 32]);

/// Ada with a device, an envelope, a batch and a blob.
async fn ada(world: &World) -> (Syncing, BlobUploadAnswer) {
    let mut ada = world.ready_user("ada@example.com").await;
    ada.push(world, 3, 100).await;
    let body = BlobUpload {
        hash: HASH,
        size: 100,
        sealed_hash: Some(SealedHash::of(&[1; 100])),
        key_id: KEY_ID,
        hash_at_confirm: false,
        replace: false,
    };
    let upload: BlobUploadAnswer = world
        .post("/api/sync/blobs/upload")
        .bearer(&ada.user.token)
        .cbor(&body)
        .send()
        .await
        .ok();
    world
        .call(Method::PUT, upload.upload_url.as_ref().unwrap())
        .raw(vec![1; 100])
        .send()
        .await;
    let body = BlobConfirm {
        hash: HASH,
        size: 100,
        upload_id: upload.upload_id,
        sealed_hash: None,
    };
    world
        .post("/api/sync/blobs/confirm")
        .bearer(&ada.user.token)
        .cbor(&body)
        .send()
        .await
        .empty();
    (ada, upload)
}

/// Nothing of Ada's is there for a stranger.
async fn sees_nothing(world: &World, stranger: &User, ada: &mut Syncing, upload: &BlobUploadAnswer) {
    let token = &stranger.token;
    let device = format!("/api/sync/devices/{}", ada.device_id);
    let rename = RenameDevice {
        device_name: "mine now".to_owned(),
    };
    let answer = world
        .call(Method::PATCH, &device)
        .bearer(token)
        .json(&rename)
        .send()
        .await;
    assert_eq!(answer.code(), "device_not_found");
    assert_eq!(
        world.call(Method::DELETE, &device).bearer(token).send().await.code(),
        "device_not_found"
    );
    let devices: DeviceList = world.get("/api/sync/devices").bearer(token).send().await.ok();
    assert!(devices.devices.iter().all(|device| device.id != ada.device_id));

    let mut push = ada.batch(1, 100);
    push.parent = Position::start_of(stranger.app_id, stranger.user_id);
    let answer = world.post("/api/sync/push").bearer(token).cbor(&push).send().await;
    assert_eq!(answer.code(), "device_mismatch");
    let pull = Pull {
        device_id: ada.device_id,
        cursor: Cursor::START,
        max_bytes: None,
        ahead: false,
        avoid_snapshot: false,
    };
    assert_eq!(
        world
            .post("/api/sync/pull")
            .bearer(token)
            .cbor(&pull)
            .send()
            .await
            .code(),
        "device_mismatch"
    );
    let chain = format!("/api/sync/chain?from={}", Cursor::at(ada.head));
    assert_eq!(world.get(&chain).bearer(token).send().await.code(), "history_diverged");
    let status: Status = world.get("/api/sync/status").bearer(token).send().await.ok();
    assert_eq!((status.change_count, status.stored_bytes), (0, 0));
    assert_eq!(
        world.get("/api/sync/keys").bearer(token).send().await.code(),
        "no_envelope"
    );

    let download = BlobDownload { hash: HASH };
    let answer = world
        .post("/api/sync/blobs/download")
        .bearer(token)
        .cbor(&download)
        .send()
        .await;
    assert_eq!(answer.code(), "blob_not_found");
    let confirm = BlobConfirm {
        hash: HASH,
        size: 100,
        upload_id: upload.upload_id,
        sealed_hash: None,
    };
    let answer = world
        .post("/api/sync/blobs/confirm")
        .bearer(token)
        .cbor(&confirm)
        .send()
        .await;
    assert_eq!(answer.code(), "upload_incomplete");
    let blob = format!("/api/sync/blobs/{HASH}");
    assert_eq!(
        world.call(Method::DELETE, &blob).bearer(token).send().await.code(),
        "blob_not_found"
    );
    let blobs: BlobList = world.get("/api/sync/blobs").bearer(token).send().await.ok();
    assert_eq!(blobs.blobs, []);
    let body = BlobUpload {
        hash: HASH,
        size: 100,
        sealed_hash: Some(SealedHash::of(&[1; 100])),
        key_id: KEY_ID,
        hash_at_confirm: false,
        replace: false,
    };
    let own: BlobUploadAnswer = world
        .post("/api/sync/blobs/upload")
        .bearer(token)
        .cbor(&body)
        .send()
        .await
        .ok();
    assert!(!own.already_exists, "whether another user has a blob is not told");
}

async fn ada_lost_nothing(world: &World, ada: &Syncing) {
    assert_eq!(ada.page(world, Cursor::START).await.batches.len(), 1);
    let download = BlobDownload { hash: HASH };
    let answer = world
        .post("/api/sync/blobs/download")
        .bearer(&ada.user.token)
        .cbor(&download)
        .send()
        .await;
    assert_eq!(
        world
            .get(&answer.ok::<BlobDownloadAnswer>().download_url)
            .send()
            .await
            .body,
        vec![1; 100]
    );
}

#[tokio::test]
async fn another_user_sees_nothing() {
    let world = World::start().await;
    let (mut ada, upload) = ada(&world).await;
    let eve = world.user("eve@example.com").await;
    sees_nothing(&world, &eve, &mut ada, &upload).await;
    ada_lost_nothing(&world, &ada).await;
}

#[tokio::test]
async fn the_same_user_in_another_app_sees_nothing() {
    let world = World::start().await;
    let (mut ada, upload) = ada(&world).await;
    let other = world.admin().await.create_app("Photos").await.unwrap();
    let elsewhere = world
        .sign_in_to(other.api_key.expose(), "ada@example.com", PASSWORD)
        .await
        .unwrap();
    assert_eq!(elsewhere.user_id, ada.user.user_id);
    sees_nothing(&world, &elsewhere, &mut ada, &upload).await;
    ada_lost_nothing(&world, &ada).await;
}
