//! Objects in a bucket: what its store must refuse, and what the server does while the store is down.

use reqwest::Method;
use synckit_protocol::{BlobId, limits, wire::blobs::BlobUploadAnswer};
use synckit_testbucket::{Mood, Obstruction};

use super::{HASH, contents, hash_comes_later, keys};
use crate::support::World;

#[tokio::test]
async fn bytes_of_a_bucket_pass_no_node() {
    let world = World::start_with_bucket(|_| {}).await;
    let user = world.user("ada@example.com").await;
    let upload = user.ask_upload(&world, HASH, &contents(100), false).await;
    let get = user.put_blob(&world, BlobId::from_bytes([1; 32]), &contents(100)).await;
    for url in [upload.url(), &get] {
        assert!(!url.starts_with(&world.url), "{url}");
    }
    for key in keys(&world) {
        let (prefix, rest) = key.split_at("synckit/".len());
        let (shard, name) = rest.split_once('/').unwrap();
        assert!(
            prefix == "synckit/" && name.starts_with(shard) && name.len() == 64,
            "{key}"
        );
    }
    // The routes of the directory lead nowhere.
    let path = format!("/blobs/{}?op=get&size=1&expires=9&by=AA&sig=AA", "0".repeat(64));
    assert_eq!(world.get(&path).send().await.code(), "url_invalid");
    assert_eq!(world.call(Method::PUT, &path).send().await.code(), "url_invalid");
    assert_eq!(std::fs::read_dir(world.path().join("blobs")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_url_of_a_bucket_needs_the_hash_first() {
    let world = World::start_with_bucket(|_| {}).await;
    let user = world.user("ada@example.com").await;
    let answer: BlobUploadAnswer = user.ask(&world, &hash_comes_later(1000)).await.ok();
    assert!(!answer.already_exists);
    assert_eq!((answer.upload_url, answer.upload_id), (None, None));
    user.put_blob(&world, HASH, &contents(1000)).await;
    let answer: BlobUploadAnswer = user.ask(&world, &hash_comes_later(1000)).await.ok();
    assert!(answer.already_exists);
}

#[tokio::test]
async fn a_changed_url_is_refused_by_the_store() {
    let world = World::start_with_bucket(|_| {}).await;
    let user = world.user("ada@example.com").await;
    let get = user.put_blob(&world, HASH, &contents(100)).await;
    let stored = keys(&world).pop().unwrap();
    let upload = user
        .ask_upload(&world, BlobId::from_bytes([1; 32]), &contents(100), false)
        .await;
    let put = async |url: &str, checksum: Option<&str>, body: Vec<u8>| {
        let mut call = world.call(Method::PUT, url);
        if let Some(checksum) = checksum {
            call = call.header("x-amz-checksum-sha256", checksum);
        }
        call.raw(body).send().await.code()
    };
    let checksum = upload.0.headers["x-amz-checksum-sha256"].as_str();
    let refused = "SignatureDoesNotMatch";
    assert_eq!(put(upload.url(), None, contents(100)).await, refused);
    // The hash of 100 zeros.
    let other = "zQDiksWXDTxeLw/6UXHlVbxGv8T63ftKQYtoQLhueaM=";
    assert_eq!(put(upload.url(), Some(other), vec![0; 100]).await, refused);
    let (before, after) = upload.url().split_once('?').unwrap();
    let over_the_blob = format!("{}/{stored}?{after}", before.split("/synckit/").next().unwrap());
    assert_eq!(put(&over_the_blob, Some(checksum), contents(100)).await, refused);
    let longer = upload.url().replace("X-Amz-Expires=3600", "X-Amz-Expires=7200");
    assert_eq!(put(&longer, Some(checksum), contents(100)).await, refused);
    assert_eq!(put(&get, Some(checksum), contents(100)).await, refused);
    assert_eq!(world.get(upload.url()).send().await.code(), refused);
    assert_eq!(keys(&world), [stored]);
}

#[tokio::test]
async fn a_url_of_a_bucket_expires_after_an_hour() {
    let world = World::start_with_bucket(|_| {}).await;
    // The store goes by the real time: these URLs are as old as the server's clock is behind.
    for (age, is_valid) in [
        (limits::PRESIGNED_URL_SECONDS / 2, true),
        (limits::PRESIGNED_URL_SECONDS + 1, false),
    ] {
        world.clock.set_back(age);
        let user = world.user(&format!("{age}@example.com")).await;
        let upload = user.ask_upload(&world, HASH, &contents(100), false).await;
        let put = upload.put(&world, contents(100)).await;
        assert_eq!(put.status.is_success(), is_valid, "{age}");
        world.clock.advance(age);
    }
    assert_eq!(keys(&world).len(), 1);
}

/// A store that is down: nothing is half confirmed, nothing is forgotten, and everything goes on when it is back.
#[tokio::test]
async fn a_store_that_is_down_is_unavailable() {
    for mood in [Mood::Busy, Mood::Gone] {
        let world = World::start_with_bucket(super::sweeping).await;
        let user = world.user("ada@example.com").await;
        let stored = BlobId::from_bytes([1; 32]);
        user.put_blob(&world, stored, &contents(100)).await;
        let upload = user.ask_upload(&world, HASH, &contents(100), false).await;
        upload.put(&world, contents(100)).await;
        world.bucket().unwrap().set_mood(mood);
        let confirm = async || user.confirm(&world, HASH, 100, upload.0.upload_id).await;
        let answer = confirm().await;
        assert_eq!(answer.code(), "store_unavailable", "{mood:?}");
        assert_eq!(answer.header("retry-after"), "1");
        assert!(!String::from_utf8_lossy(&answer.body).contains("127.0.0.1"));
        assert_eq!(user.ask_download(&world, stored).await.code(), "store_unavailable");
        assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
        // An upload needs the store only where the blob is known.
        user.ask_upload(&world, BlobId::from_bytes([2; 32]), &contents(100), false)
            .await;
        world.bucket().unwrap().set_mood(Mood::Well);
        confirm().await.empty();
        let url = user.download_url(&world, HASH).await;
        assert_eq!(world.get(&url).send().await.body, contents(100));

        // The sweep waits for the store, too.
        let abandoned = user
            .ask_upload(&world, BlobId::from_bytes([3; 32]), &contents(100), false)
            .await;
        abandoned.put(&world, contents(100)).await;
        world.bucket().unwrap().set_mood(mood);
        world
            .clock
            .advance(limits::PRESIGNED_URL_SECONDS + limits::UPLOAD_SWEEP_SECONDS + 1);
        world.bucket().unwrap().set_mood(Mood::Well);
        super::sweep_on(&world, 2).await;
    }
}

/// A sweep ends where the store gives no answer: the next one begins elsewhere.
#[tokio::test]
async fn an_unanswered_deletion_holds_up_no_others() {
    let world = World::start_with_bucket(super::sweeping).await;
    let bucket = world.bucket().unwrap();
    let user = world.user("ada@example.com").await;
    let abandon_upload = async || {
        let upload = user.ask_upload(&world, HASH, &contents(100), false).await;
        upload.put(&world, contents(100)).await;
    };
    abandon_upload().await;
    let unanswered = keys(&world);
    bucket.obstruct_deletion(&unanswered[0], Some(Obstruction::Unanswered));
    world.clock.advance(1);
    abandon_upload().await;
    world
        .clock
        .advance(limits::PRESIGNED_URL_SECONDS + limits::UPLOAD_SWEEP_SECONDS - 1);
    while bucket.obstructed() == 0 {
        tokio::task::yield_now().await;
    }
    world.clock.advance(1);
    super::wait_for_objects(&world, 1).await;
    assert_eq!(keys(&world), unanswered);
    bucket.obstruct_deletion(&unanswered[0], None);
    super::sweep_on(&world, 0).await;
}

/// The right to list unfinished uploads is needed for those alone.
#[tokio::test]
async fn keys_that_may_not_list_delete_objects() {
    let world = World::start_with_bucket(super::sweeping).await;
    let user = world.user("ada@example.com").await;
    let upload = user.ask_upload(&world, HASH, &contents(100), false).await;
    upload.put(&world, contents(100)).await;
    world.bucket().unwrap().set_mood(Mood::WithoutListing);
    world
        .clock
        .advance(limits::PRESIGNED_URL_SECONDS + limits::UPLOAD_SWEEP_SECONDS + 1);
    super::wait_for_objects(&world, 0).await;
}

#[tokio::test]
async fn store_without_checksums_confirms_nothing() {
    let world = World::start_with_bucket(|_| {}).await;
    world.bucket().unwrap().set_mood(Mood::WithoutChecksums);
    let user = world.user("ada@example.com").await;
    let upload = user.ask_upload(&world, HASH, &contents(100), false).await;
    upload.put(&world, contents(100)).await;
    assert_eq!(
        user.confirm(&world, HASH, 100, upload.0.upload_id).await.code(),
        "upload_incomplete"
    );
}
