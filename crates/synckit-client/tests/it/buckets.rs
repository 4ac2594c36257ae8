//! Files in a bucket of an S3-compatible store, which answers in its own words.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use synckit_client::{BlobHash, Error};
use synckit_protocol::SecretText;
use synckit_server::config::BlobPlace;
use synckit_store::objects::{BucketAccess, BucketKeys};
use synckit_testbucket::{ACCESS_KEY, Mood, SECRET_KEY, TestBucket};

use crate::{
    interference::{Fate, Interference},
    world::World,
};

pub(crate) async fn world_with(bucket: &TestBucket) -> World {
    let place = BlobPlace::Bucket(Box::new(BucketAccess {
        address: bucket.address().parse().unwrap(),
        keys: BucketKeys {
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SecretText::new(SECRET_KEY),
        },
    }));
    World::start_with(move |config| config.blobs = place.clone()).await
}

/// Whether a request goes to the store.
fn is_for_the_store(path: &str) -> bool {
    path.starts_with("/files/")
}

#[tokio::test]
async fn files_go_to_the_bucket_and_come_back() {
    let bucket = TestBucket::start().await;
    let world = world_with(&bucket).await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let (phone, _) = world.next_device(&user, "phone").await;
    for size in [0, 1, 256 * 1024, 1_000_000] {
        let data = vec![7; size];
        let hash = laptop.blob_put(data.clone(), |_| {}).await.unwrap();
        assert_eq!(
            phone.blob_get(&hash, world.file("x"), |_| {}).await.unwrap(),
            size as u64
        );
        assert_eq!(std::fs::read(world.file("x")).unwrap(), data);
    }
    assert_eq!(bucket.keys().len(), 4);
    // The calls one by one, as an app may make them.
    let data = vec![8; 1000];
    let hash = BlobHash::of(&data);
    let ticket = laptop.blob_upload_url(&hash, 1000).await.unwrap();
    laptop.blob_upload(&ticket.upload_url, data.clone()).await.unwrap();
    laptop.blob_confirm(&hash, 1000).await.unwrap();
    let url = phone.blob_download_url(&hash).await.unwrap();
    assert_eq!(phone.blob_download(&url).await.unwrap(), data);
}

#[tokio::test]
async fn file_changed_on_its_way_to_a_bucket_is_not_stored() {
    let bucket = TestBucket::start().await;
    let world = world_with(&bucket).await;
    let user = world.user().await;
    world.first_device(&user).await;
    let file = world.file("changing");
    // When the URL is asked for: the first time without the hash of the sealed bytes, the second time with it.
    for changed_at in [0, 1] {
        std::fs::write(&file, vec![7; 500_000]).unwrap();
        let (path, requests) = (file.clone(), AtomicUsize::new(0));
        let transport = Interference::new(move |request| {
            let is_for_a_url = request.uri().path() == "/api/sync/blobs/upload";
            if is_for_a_url && requests.fetch_add(1, Ordering::SeqCst) == changed_at {
                std::fs::write(&path, vec![8; 500_000]).unwrap();
            }
            Fate::Delivered
        });
        let client = world.resumed_over(&user, transport);
        let error = client.blob_put(&file, |_| {}).await.unwrap_err();
        assert!(matches!(error, Error::FileChanged), "{changed_at}: {error:?}");
        assert_eq!(client.blobs(None).await.unwrap().0.len(), 0, "{changed_at}");
        assert!(bucket.keys().is_empty(), "{changed_at}");
    }
}

#[tokio::test]
async fn transfers_with_a_bucket_are_tried_again() {
    let bucket = TestBucket::start().await;
    let world = world_with(&bucket).await;
    let user = world.user().await;
    world.first_device(&user).await;
    let attempts = AtomicUsize::new(0);
    let transport = Interference::new(move |request| {
        if !is_for_the_store(request.uri().path()) {
            return Fate::Delivered;
        }
        match attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Fate::RequestLost,
            // The store's own words for an expired URL, and for a busy store.
            1 | 4 => Fate::Answered(403, b"<Error><Code>AccessDenied</Code></Error>".to_vec()),
            2 | 5 => Fate::Answered(503, b"<Error><Code>SlowDown</Code></Error>".to_vec()),
            _ => Fate::Delivered,
        }
    });
    let client = world.resumed_over(&user, transport);
    let hash = client.blob_put(vec![7; 70_000], |_| {}).await.unwrap();
    assert_eq!(client.blob_get(&hash, world.file("x"), |_| {}).await.unwrap(), 70_000);
}

#[tokio::test]
async fn a_bucket_that_refuses_for_good_is_told() {
    let bucket = TestBucket::start().await;
    let world = world_with(&bucket).await;
    let user = world.user().await;
    world.first_device(&user).await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let transport = Interference::new(move |request| {
        if is_for_the_store(request.uri().path()) {
            counted.fetch_add(1, Ordering::SeqCst);
            return Fate::Answered(403, Vec::new());
        }
        Fate::Delivered
    });
    let client = world.resumed_over(&user, transport);
    let error = client.blob_put(vec![7; 100], |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { status: 403, .. }), "{error:?}");
    assert_eq!(attempts.load(Ordering::SeqCst), 4);
    assert_eq!(client.blobs(None).await.unwrap().0.len(), 0);
}

#[tokio::test]
async fn every_attempt_has_a_nonce_of_its_own() {
    let bucket = TestBucket::start().await;
    let world = world_with(&bucket).await;
    let user = world.user().await;
    world.first_device(&user).await;
    let attempts = AtomicUsize::new(0);
    let transport = Interference::new(move |request| {
        // The first two objects arrive whole, and the client does not know.
        if is_for_the_store(request.uri().path()) && attempts.fetch_add(1, Ordering::SeqCst) < 2 {
            return Fate::AnswerLost;
        }
        Fate::Delivered
    });
    let client = world.resumed_over(&user, transport);
    client.blob_put(vec![7; 1000], |_| {}).await.unwrap();
    let mut beginnings: Vec<Vec<u8>> = bucket
        .keys()
        .iter()
        .map(|key| bucket.bytes(key).unwrap()[..24].to_vec())
        .collect();
    beginnings.sort();
    beginnings.dedup();
    assert_eq!(beginnings.len(), 3);
}

#[tokio::test]
async fn a_bucket_that_is_away_is_a_retry_later() {
    let bucket = TestBucket::start().await;
    let world = world_with(&bucket).await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let hash = laptop.blob_put(vec![7; 100], |_| {}).await.unwrap();
    bucket.set_mood(Mood::Busy);
    let error = laptop.blob_get(&hash, world.file("x"), |_| {}).await.unwrap_err();
    assert!(
        matches!(&error, Error::RetryLater { code, .. } if code == "store_unavailable"),
        "{error:?}"
    );
    bucket.set_mood(Mood::Well);
    laptop.blob_get(&hash, world.file("x"), |_| {}).await.unwrap();
}
