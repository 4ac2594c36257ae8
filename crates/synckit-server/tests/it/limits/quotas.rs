//! What one account may keep, and that another is not held up by it.

use reqwest::Method;
use synckit_protocol::{
    BlobId, Problem, SealedHash,
    wire::blobs::{BlobConfirm, BlobUpload, BlobUploadAnswer},
};

use crate::support::{Answer, KEY_ID, PASSWORD, User, World};

/// The code of a problem and the quota that it names.
fn quota(answer: &Answer) -> (String, Option<String>) {
    let Problem { code, field, .. } = answer.problem();
    (code, field)
}

fn exceeded(quota: &str) -> (String, Option<String>) {
    ("quota_exceeded".to_owned(), Some(quota.to_owned()))
}

async fn begin(world: &World, user: &User, n: u8, size: u64) -> Answer {
    begin_with(world, user, n, size, false).await
}

async fn begin_with(world: &World, user: &User, n: u8, size: u64, replace: bool) -> Answer {
    let asked = BlobUpload {
        hash: BlobId::from_bytes([n; 32]),
        size,
        sealed_hash: Some(SealedHash::of(&vec![0; size as usize])),
        key_id: KEY_ID,
        hash_at_confirm: false,
        replace,
    };
    world
        .post("/api/sync/blobs/upload")
        .bearer(&user.token)
        .json(&asked)
        .send()
        .await
}

async fn upload(world: &World, user: &User, n: u8, size: u64) {
    let begun = begin(world, user, n, size).await;
    send(world, user, n, size, &begun).await;
}

async fn send(world: &World, user: &User, n: u8, size: u64, begun: &Answer) {
    let begun: BlobUploadAnswer = begun.ok();
    let put = world.call(Method::PUT, &begun.upload_url.unwrap());
    assert_eq!(put.raw(vec![0; size as usize]).send().await.code(), "200");
    let confirm = BlobConfirm {
        hash: BlobId::from_bytes([n; 32]),
        size,
        upload_id: begun.upload_id,
        sealed_hash: None,
    };
    let answer = world.post("/api/sync/blobs/confirm").bearer(&user.token).json(&confirm);
    answer.send().await.empty();
}

#[tokio::test]
async fn account_stores_no_more_bytes_than_its_quota() {
    let world = World::start_with(|config| config.quotas.bytes = 10_000).await;
    let mut ada = world.ready_user("ada@example.com").await;
    let mut bob = world.ready_user("bob@example.com").await;
    ada.push(&world, 1, 4_000).await;
    upload(&world, &ada.user, 1, 4_000).await;
    let batch = ada.batch(1, 3_000);
    assert_eq!(quota(&ada.send(&world, &batch).await), exceeded("bytes"));
    assert_eq!(quota(&begin(&world, &ada.user, 2, 3_000).await), exceeded("bytes"));
    // What fits is taken, and others are not held up.
    assert_eq!(begin(&world, &ada.user, 3, 1_500).await.code(), "200");
    assert_eq!(
        quota(&begin(&world, &ada.user, 4, 1_500).await),
        exceeded("bytes"),
        "announced bytes count"
    );
    ada.push(&world, 1, 2_000).await;
    bob.push(&world, 1, 9_000).await;
}

#[tokio::test]
async fn replacing_a_file_again_and_again_is_bounded() {
    let world = World::start_with(|config| config.quotas.bytes = 10_000).await;
    let user = world.user("ada@example.com").await;
    let other = world.user("bob@example.com").await;
    upload(&world, &user, 1, 4_000).await;
    for n in 0..3 {
        let begun = begin_with(&world, &user, 1, 4_000, true).await;
        if n == 2 {
            // Two files that nobody needs any more are on the disk, beside the one that counts.
            assert_eq!(quota(&begun), exceeded("bytes"));
        } else {
            send(&world, &user, 1, 4_000, &begun).await;
        }
    }
    upload(&world, &other, 1, 9_000).await;
}

#[tokio::test]
async fn account_has_no_more_blobs_than_its_quota() {
    let world = World::start_with(|config| config.quotas.blobs = 2).await;
    let user = world.user("ada@example.com").await;
    for n in 0..2 {
        upload(&world, &user, n, 100).await;
    }
    assert_eq!(quota(&begin(&world, &user, 2, 100).await), exceeded("blobs"));
    assert_eq!(begin(&world, &user, 1, 100).await.code(), "200", "it is there already");
}

#[tokio::test]
async fn account_begins_no_more_uploads_than_its_quota() {
    let world = World::start_with(|config| config.quotas.pending_uploads = 2).await;
    let user = world.user("ada@example.com").await;
    for n in 0..2 {
        assert_eq!(begin(&world, &user, n, 100).await.code(), "200");
    }
    assert_eq!(quota(&begin(&world, &user, 2, 100).await), exceeded("pending_uploads"));
}

#[tokio::test]
async fn session_past_the_quota_ends_the_oldest() {
    let world = World::start_with(|config| config.quotas.sessions = 2).await;
    let first = world.user("ada@example.com").await;
    let other = world.user("bob@example.com").await;
    let mut sessions = vec![first];
    for _ in 0..2 {
        world.clock.advance(10);
        sessions.push(world.sign_in("ada@example.com", PASSWORD).await.unwrap());
    }
    let mut codes = Vec::new();
    for session in sessions.iter().chain([&other]) {
        codes.push(world.get("/api/sync/status").bearer(&session.token).send().await.code());
    }
    assert_eq!(codes, ["session_ended", "200", "200", "200"]);
}

#[tokio::test]
async fn account_revokes_no_more_devices_than_its_quota() {
    let world = World::start_with(|config| config.quotas.revoked_devices = 1).await;
    let user = world.user("ada@example.com").await;
    let lost = user.register_device(&world, "lost").await;
    // Revoking ends the session of the device, so another one does it and goes on.
    let other = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let kept = other.register_device(&world, "kept").await;
    let path = format!("/api/sync/devices/{}", lost.id);
    world
        .call(Method::DELETE, &path)
        .bearer(&other.token)
        .send()
        .await
        .empty();
    let body = synckit_protocol::wire::devices::RegisterDevice {
        device_name: "new".to_owned(),
        platform: synckit_protocol::wire::devices::Platform::Linux,
        installation_id: None,
    };
    let third = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let answer = third.register(&world, &body).await;
    assert_eq!(quota(&answer), exceeded("revoked_devices"));
    assert_eq!(
        other.register_device(&world, "kept").await.id,
        kept.id,
        "it is there already"
    );
}
