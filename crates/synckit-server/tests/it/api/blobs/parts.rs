//! Uploads in parts: in a bucket as the store's own, in the directory as files. Both are the same to a client.

use super::{HASH, Place, Upload, change, hash_comes_later, keys, sweeping};
use crate::support::{Answer, KEY_ID, User, World};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use synckit_protocol::{
    BlobId, Parts, SealedHash, SealedHasher, UploadId, limits,
    wire::blobs::{BlobUpload, BlobUploadAnswer, UploadPart, UploadPartAnswer, UploadStatus},
};
use synckit_server::Config;
use synckit_store::objects::{Bucket, BucketAccess, BucketKeys};
use synckit_testbucket::{ACCESS_KEY, Mood, SECRET_KEY};

/// The smallest blob that goes in parts: eight whole ones and a byte.
const LARGE: u64 = limits::UPLOAD_WHOLE_BYTES_MAX + 1;

super::on_both!(
    a_large_blob_goes_up_in_parts,
    parts_survive_a_restart_and_are_told,
    a_part_takes_only_the_signed_bytes,
    no_blob_comes_of_other_parts,
    an_upload_of_others_is_no_upload,
    an_ended_upload_counts_until_its_urls_end,
    an_ended_upload_is_not_confirmed,
    confirmations_at_once_all_succeed,
    a_part_can_be_corrected,
    a_late_part_of_a_blob_is_not_kept,
    unfinished_parts_are_swept_after_their_time,
    unfinished_parts_count_as_the_whole_blob,
);

/// The bytes of a part: each has others.
fn bytes_of(number: u32) -> Vec<u8> {
    let size = Parts::of(LARGE).unwrap().size_of(number).unwrap();
    vec![number as u8; size as usize]
}

fn part(number: u32) -> UploadPart {
    UploadPart {
        number,
        sealed_hash: SealedHash::of(&bytes_of(number)),
    }
}

fn whole() -> Vec<u8> {
    (1..=9).flat_map(bytes_of).collect()
}

fn hash_of_whole() -> SealedHash {
    SealedHasher::of_parts((1..=9).map(|number| part(number).sealed_hash))
}

/// An upload in parts that a server let begin.
struct InParts<'a> {
    world: &'a World,
    user: &'a User,
    upload_id: UploadId,
}

impl<'a> InParts<'a> {
    async fn begin(world: &'a World, user: &'a User) -> Self {
        let answer: BlobUploadAnswer = user.ask(world, &hash_comes_later(LARGE)).await.ok();
        assert!(!answer.already_exists && answer.upload_url.is_none() && answer.headers.is_empty());
        let end = world.clock.now() + limits::UPLOAD_IN_PARTS_SECONDS;
        assert_eq!(answer.expires_at, Some(end));
        Self {
            world,
            user,
            upload_id: answer.upload_id.unwrap(),
        }
    }

    fn path(&self) -> String {
        format!("/api/sync/blobs/uploads/{}", self.upload_id)
    }

    async fn ask(&self, part: &UploadPart) -> Answer {
        let call = self.world.post(&format!("{}/parts", self.path()));
        call.bearer(&self.user.token).cbor(part).send().await
    }

    /// Another last part than that of the file, as somebody with the user's token may send it.
    async fn put_another_last(&self) -> UploadPart {
        let other = UploadPart {
            number: 9,
            sealed_hash: SealedHash::of(&[7]),
        };
        self.url(&other).await.put(self.world, vec![7]).await;
        other
    }

    async fn url(&self, part: &UploadPart) -> Upload {
        let answer: UploadPartAnswer = self.ask(part).await.ok();
        Upload(BlobUploadAnswer {
            already_exists: false,
            upload_url: Some(answer.upload_url),
            headers: answer.headers,
            upload_id: None,
            expires_at: Some(answer.expires_at),
        })
    }

    async fn put(&self, number: u32) -> Answer {
        let url = self.url(&part(number)).await;
        url.put(self.world, bytes_of(number)).await
    }

    async fn put_all(&self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            assert_eq!(self.put(number).await.status, StatusCode::OK, "{number}");
        }
    }

    async fn status(&self) -> Answer {
        self.world.get(&self.path()).bearer(&self.user.token).send().await
    }

    async fn numbers(&self) -> Vec<u32> {
        let status: UploadStatus = self.status().await.ok();
        status.parts.iter().map(|part| part.number).collect()
    }

    async fn end(&self) -> Answer {
        let call = self.world.call(Method::DELETE, &self.path());
        call.bearer(&self.user.token).send().await
    }

    async fn confirm_hash(&self, hash: Option<SealedHash>) -> Answer {
        self.user
            .confirm_hash(self.world, (HASH, LARGE), Some(self.upload_id), hash)
            .await
    }

    async fn confirm(&self) -> Answer {
        self.confirm_hash(Some(hash_of_whole())).await
    }
}

/// The unfinished uploads in either place, as the numbers of their parts.
fn unfinished(world: &World) -> Vec<Vec<i32>> {
    match world.bucket() {
        Some(bucket) => bucket.uploads().into_iter().map(|(_, parts)| parts).collect(),
        None => {
            let Ok(uploads) = std::fs::read_dir(world.path().join("blobs/parts")) else {
                return Vec::new();
            };
            // The sweep may remove them meanwhile.
            let parts = uploads.map(|upload| {
                let names = std::fs::read_dir(upload.unwrap().path())
                    .into_iter()
                    .flatten()
                    .flatten();
                let numbers = names.map(|name| name.file_name().to_str().unwrap().parse().unwrap());
                let mut numbers: Vec<i32> = numbers.collect();
                numbers.sort_unstable();
                numbers
            });
            parts.collect()
        }
    }
}

async fn a_large_blob_goes_up_in_parts(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    // Out of order, and some twice: at once, and one after the other.
    for number in [9, 1, 4, 3, 2, 8, 7, 6] {
        assert_eq!(upload.confirm().await.code(), "upload_incomplete");
        assert_eq!(upload.put(number).await.status, StatusCode::OK);
    }
    let url = upload.url(&part(5)).await;
    let twice = tokio::join!(url.put(&world, bytes_of(5)), url.put(&world, bytes_of(5)));
    let again = upload.put(1).await;
    for answer in [&twice.0, &twice.1, &again] {
        assert!(["200", "object_exists"].contains(&answer.code().as_str()));
    }
    assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
    assert_eq!(upload.confirm_hash(None).await.code(), "upload_incomplete");
    // The hash of the bytes is not that of the parts.
    let other = Some(SealedHash::of(&whole()));
    assert_eq!(upload.confirm_hash(other).await.code(), "upload_incomplete");
    upload.confirm().await.empty();
    upload.confirm().await.empty();
    assert_eq!(unfinished(&world), Vec::<Vec<i32>>::new());
    let world = world.restart().await;
    let url = user.download_url(&world, HASH).await;
    assert!(world.get(&url).send().await.body == whole());
    let part = world.get(&url).header("range", "bytes=8388607-8388608").send().await;
    assert_eq!(part.body, [1, 2]);
}

async fn parts_survive_a_restart_and_are_told(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let begun = InParts::begin(&world, &user).await;
    begun.put_all([3, 1]).await;
    let upload_id = begun.upload_id;
    let world = world.restart().await;
    let upload = InParts {
        world: &world,
        user: &user,
        upload_id,
    };
    let status: UploadStatus = upload.status().await.ok();
    assert_eq!(status.parts, [part(1), part(3)]);
    assert!(!status.already_exists);
    upload.put_all([2, 4, 5, 6, 7, 8, 9]).await;
    // Without the id: the newest upload that is whole.
    let confirmed = user.confirm_hash(&world, (HASH, LARGE), None, Some(hash_of_whole()));
    confirmed.await.empty();
    assert_eq!(upload.status().await.code(), "upload_not_found");
    let asked: BlobUploadAnswer = user.ask(&world, &hash_comes_later(LARGE)).await.ok();
    assert!(asked.already_exists);
}

async fn a_part_takes_only_the_signed_bytes(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    for number in [0, 10, u32::MAX] {
        let refused = UploadPart { number, ..part(1) };
        assert_eq!(upload.ask(&refused).await.code(), "invalid_value", "{number}");
    }
    let url = upload.url(&part(9)).await;
    for body in [vec![], vec![8], vec![9, 9]] {
        let (length, answer) = (body.len(), url.put(&world, body).await);
        assert!(answer.status.is_client_error(), "{length}: {}", answer.status);
    }
    // A URL of one part is none of another, and none of the object.
    let number = if place == Place::Bucket {
        "partNumber=9"
    } else {
        "&part=9"
    };
    for other in [number.replace('9', "8"), String::new()] {
        let changed = Upload(BlobUploadAnswer {
            upload_url: Some(url.url().replace(number, &other)),
            ..url.0.clone()
        });
        assert_eq!(changed.put(&world, vec![9]).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(upload.numbers().await, Vec::<u32>::new());
    assert_eq!(url.put(&world, vec![9]).await.status, StatusCode::OK);
    assert_eq!(upload.numbers().await, [9]);
    assert_eq!(keys(&world).len(), usize::from(place == Place::Directory));
}

async fn no_blob_comes_of_other_parts(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    let other = upload.put_another_last().await;
    upload.put_all(1..=8).await;
    assert_eq!(upload.confirm().await.code(), "upload_incomplete");
    assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
    let hashes = (1..=8).map(|number| part(number).sealed_hash);
    let hash = SealedHasher::of_parts(hashes.chain([other.sealed_hash]));
    upload.confirm_hash(Some(hash)).await.empty();
}

async fn an_upload_of_others_is_no_upload(place: Place) {
    let world = place.world().await;
    let (ada, eve) = (world.user("ada@example.com").await, world.user("eve@example.com").await);
    let upload = InParts::begin(&world, &ada).await;
    upload.put_all([9]).await;
    let seen_by_eve = InParts {
        world: &world,
        user: &eve,
        upload_id: upload.upload_id,
    };
    assert_eq!(seen_by_eve.status().await.code(), "upload_not_found");
    assert_eq!(seen_by_eve.ask(&part(1)).await.code(), "upload_not_found");
    assert_eq!(seen_by_eve.end().await.code(), "upload_not_found");
    assert_eq!(seen_by_eve.confirm().await.code(), "upload_incomplete");
    // A blob that goes as a whole has no parts.
    let small = ada
        .ask_upload(&world, BlobId::from_bytes([1; 32]), &[1; 100], false)
        .await;
    let small = InParts {
        upload_id: small.0.upload_id.unwrap(),
        ..upload
    };
    assert_eq!(small.status().await.code(), "upload_not_found");
    assert_eq!(small.ask(&part(1)).await.code(), "upload_not_found");
    // Nor can it be ended: its URL takes bytes for an hour, and they must count for as long.
    assert_eq!(small.end().await.code(), "upload_not_found");
    let nonsense = world.get("/api/sync/blobs/uploads/x").bearer(&ada.token).send().await;
    assert_eq!(nonsense.code(), "upload_not_found");
}

/// Else an account could end an upload, so that its bytes count no more, and send them all the same.
async fn an_ended_upload_counts_until_its_urls_end(place: Place) {
    let change = |config: &mut Config| {
        sweeping(config);
        config.quotas.pending_uploads = 1;
    };
    let world = place.world_with(change).await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    let late = upload.url(&part(9)).await;
    upload.put_all([1]).await;
    upload.end().await.empty();
    for answer in [upload.end().await, upload.ask(&part(1)).await, upload.status().await] {
        assert_eq!(answer.code(), "upload_not_found");
    }
    assert_eq!(upload.confirm().await.code(), "upload_incomplete");
    // Its URL still takes bytes, and they count.
    assert_eq!(late.put(&world, vec![9]).await.status, StatusCode::OK);
    let another = async || user.ask(&world, &hash_comes_later(LARGE)).await.code();
    assert_eq!(another().await, "quota_exceeded");
    world.clock.advance(limits::PRESIGNED_URL_SECONDS);
    if place == Place::Directory {
        assert_eq!(late.put(&world, vec![9]).await.code(), "url_expired");
    }
    world.clock.advance(limits::UPLOAD_SWEEP_SECONDS - 1);
    assert_eq!(another().await, "quota_exceeded");
    world.clock.advance(1);
    wait_until_nothing_is_unfinished(&world).await;
    super::wait_for_count(&world).await;
    assert_eq!(another().await, "200");
}

/// What is complete is not confirmed either, once it was ended.
async fn an_ended_upload_is_not_confirmed(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    upload.put_all(1..=9).await;
    upload.end().await.empty();
    assert_eq!(upload.confirm().await.code(), "upload_incomplete");
    let without_id = user.confirm_hash(&world, (HASH, LARGE), None, Some(hash_of_whole()));
    assert_eq!(without_id.await.code(), "upload_incomplete");
    assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
}

/// A client that had no answer asks again, perhaps while the first request still works.
async fn confirmations_at_once_all_succeed(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    upload.put_all(1..=9).await;
    let answers = join_all((0..8).map(|_| upload.confirm())).await;
    for answer in answers {
        answer.empty();
    }
}

/// The second one asked for the object before the first one made it, and for the parts after.
#[tokio::test]
async fn confirmations_that_cross_both_succeed() {
    let world = World::start_with_bucket(|_| {}).await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    upload.put_all(1..=9).await;
    let late = world.bucket().unwrap().answer_next_list_late();
    let crossing = late.after(async { upload.confirm().await.empty() });
    let (answer, ()) = tokio::join!(upload.confirm(), crossing);
    answer.empty();
    let url = user.download_url(&world, HASH).await;
    assert!(world.get(&url).send().await.body == whole());
}

/// The right part replaces one with other bytes.
async fn a_part_can_be_corrected(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    upload.put_another_last().await;
    upload.put_all(1..=9).await;
    let status: UploadStatus = upload.status().await.ok();
    assert_eq!(status.parts.last(), Some(&part(9)));
    upload.confirm().await.empty();
}

async fn a_late_part_of_a_blob_is_not_kept(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    let late = upload.url(&part(9)).await;
    upload.put_all(1..=9).await;
    upload.confirm().await.empty();
    assert!(late.put(&world, vec![9]).await.status.is_client_error());
    assert_eq!(unfinished(&world), Vec::<Vec<i32>>::new());
}

async fn unfinished_parts_are_swept_after_their_time(place: Place) {
    let world = place.world_with(sweeping).await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    upload.put_all([9]).await;
    if let Some(bucket) = world.bucket() {
        // The server died when the store had answered, and before it noted the name of the upload.
        let access = BucketAccess {
            address: bucket.address().parse().unwrap(),
            keys: BucketKeys {
                access_key: ACCESS_KEY.to_owned(),
                secret_key: synckit_protocol::SecretText::new(SECRET_KEY),
            },
        };
        let (key, _) = bucket.uploads().pop().unwrap();
        let key = key.rsplit_once('/').unwrap().1.parse().unwrap();
        let store = Bucket::new(&access).unwrap();
        store.begin_parts(key, world.clock.now()).await.unwrap();
        assert_eq!(unfinished(&world).len(), 2);
    }
    world
        .clock
        .advance(limits::UPLOAD_IN_PARTS_SECONDS + limits::PRESIGNED_URL_SECONDS + limits::UPLOAD_SWEEP_SECONDS);
    wait_until_nothing_is_unfinished(&world).await;
    super::wait_for_count(&world).await;
}

async fn unfinished_parts_count_as_the_whole_blob(place: Place) {
    // Files leave one byte in 64 to batches.
    let world = place
        .world_with(|config| config.quotas.bytes = (LARGE + 1000) * 64 / 63)
        .await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    let small = BlobUpload {
        hash: BlobId::from_bytes([1; 32]),
        size: 1001,
        sealed_hash: Some(SealedHash::of(b"")),
        hash_at_confirm: false,
        key_id: KEY_ID,
        replace: false,
    };
    assert_eq!(user.ask(&world, &small).await.code(), "quota_exceeded");
    upload.put_all(1..=9).await;
    upload.confirm().await.empty();
    assert_eq!(user.ask(&world, &small).await.code(), "quota_exceeded");
    assert_eq!(
        user.ask(&world, &BlobUpload { size: 1000, ..small }).await.code(),
        "200"
    );
}

async fn wait_until_nothing_is_unfinished(world: &World) {
    while !unfinished(world).is_empty() {
        tokio::task::yield_now().await;
    }
}

/// A store that goes away between any two steps: nothing is half confirmed, and everything goes on when it is back.
#[tokio::test]
async fn parts_wait_for_a_store_that_is_down() {
    for mood in [Mood::Busy, Mood::Gone] {
        let world = World::start_with_bucket(|config| config.quotas.pending_uploads = 1).await;
        let bucket = world.bucket().unwrap();
        let user = world.user("ada@example.com").await;
        bucket.set_mood(mood);
        let answer = user.ask(&world, &hash_comes_later(LARGE)).await;
        assert_eq!(answer.code(), "store_unavailable", "{mood:?}");
        bucket.set_mood(Mood::Well);
        // What could not begin counts against no quota.
        let upload = InParts::begin(&world, &user).await;
        upload.put_all(1..=8).await;
        bucket.set_mood(mood);
        assert_eq!(upload.status().await.code(), "store_unavailable");
        assert_eq!(upload.confirm().await.code(), "store_unavailable");
        assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
        bucket.set_mood(Mood::Well);
        upload.put_all([9]).await;
        bucket.set_mood(mood);
        assert_eq!(upload.confirm().await.code(), "store_unavailable");
        bucket.set_mood(Mood::Well);
        upload.confirm().await.empty();
        let url = user.download_url(&world, HASH).await;
        assert!(world.get(&url).send().await.body == whole());
    }
}

#[tokio::test]
async fn parts_of_a_store_without_checksums_are_no_blob() {
    let world = World::start_with_bucket(|_| {}).await;
    world.bucket().unwrap().set_mood(Mood::WithoutChecksums);
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    upload.put_all(1..=9).await;
    assert_eq!(upload.numbers().await, Vec::<u32>::new());
    assert_eq!(upload.confirm().await.code(), "upload_incomplete");
}

/// A part that the disk has not kept: its hash was noted when it was whole.
#[tokio::test]
async fn a_part_that_rotted_is_no_blob() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let upload = InParts::begin(&world, &user).await;
    upload.put_all(1..=9).await;
    let directory = super::directory::objects(&world).pop().unwrap();
    let file = directory.join("9");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[0] ^= 1;
    change(&world, file.to_str().unwrap(), Some(bytes));
    assert_eq!(upload.confirm().await.code(), "upload_incomplete");
    assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
}

#[tokio::test]
async fn the_url_of_a_part_ends_with_its_upload() {
    for place in [Place::Directory, Place::Bucket] {
        let world = place.world().await;
        let user = world.user("ada@example.com").await;
        let upload = InParts::begin(&world, &user).await;
        let url = upload.url(&part(1)).await;
        assert_eq!(
            url.0.expires_at,
            Some(world.clock.now() + limits::PRESIGNED_URL_SECONDS)
        );
        world.clock.advance(limits::UPLOAD_IN_PARTS_SECONDS - 60);
        let user = world
            .sign_in("ada@example.com", crate::support::PASSWORD)
            .await
            .unwrap();
        let upload = InParts { user: &user, ..upload };
        let url = upload.url(&part(1)).await;
        assert_eq!(url.0.expires_at, Some(world.clock.now() + 60));
        world.clock.advance(60);
        assert_eq!(upload.ask(&part(1)).await.code(), "upload_not_found");
        assert_eq!(upload.status().await.code(), "upload_not_found");
    }
}
