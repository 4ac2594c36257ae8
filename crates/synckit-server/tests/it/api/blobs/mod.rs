//! `/api/sync/blobs` and the presigned URLs of objects. What holds for both places of objects is tested with both.

mod bucket;
mod directory;
mod parts;

use reqwest::{Method, StatusCode};
use synckit_protocol::{
    BlobId, SealedHash, UploadId, limits,
    wire::blobs::{BlobConfirm, BlobDownload, BlobDownloadAnswer, BlobList, BlobUpload, BlobUploadAnswer},
};
use synckit_server::Config;
use synckit_testbucket::Obstruction;

use crate::support::{Answer, KEY_ID, User, World};

const HASH: BlobId = BlobId::from_bytes([0xab; 32]);

fn contents(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8).collect()
}

/// Where the objects of a world are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Directory,
    Bucket,
}

impl Place {
    async fn world(self) -> World {
        self.world_with(|_| {}).await
    }

    async fn world_with(self, change: impl FnOnce(&mut Config)) -> World {
        match self {
            Self::Directory => World::start_with(change).await,
            Self::Bucket => World::start_with_bucket(change).await,
        }
    }
}

/// Runs facts with both places.
macro_rules! on_both {
    ($($fact:ident),* $(,)?) => {
        mod in_directory {
            $(#[tokio::test] async fn $fact() { super::$fact(super::Place::Directory).await })*
        }
        mod in_bucket {
            $(#[tokio::test] async fn $fact() { super::$fact(super::Place::Bucket).await })*
        }
    };
}
use on_both;

on_both!(
    a_blob_goes_up_and_comes_down_whole,
    a_url_takes_only_the_signed_bytes,
    a_url_used_twice_changes_nothing,
    a_question_gives_no_url,
    a_hash_in_the_confirmation_is_compared,
    a_changed_object_is_not_confirmed,
    confirm_without_id_takes_newest_whole_upload,
    confirm_looks_at_few_uploads,
    sizes_are_bounded,
    deleted_blob_is_gone_until_uploaded_again,
    a_corrupt_blob_is_replaced_by_a_new_object,
    blobs_are_listed_in_order_of_their_hashes,
    a_file_of_another_size_is_missing_and_comes_back,
    the_sweep_removes_what_nothing_points_at,
    an_upload_that_ends_after_the_sweep_is_swept,
    objects_that_cannot_be_swept_hold_up_no_others,
);

/// A request for an upload whose hash comes with the confirmation.
fn hash_comes_later(size: u64) -> BlobUpload {
    BlobUpload {
        hash: HASH,
        size,
        sealed_hash: None,
        hash_at_confirm: true,
        key_id: KEY_ID,
        replace: false,
    }
}

/// An upload that a server let begin.
struct Upload(BlobUploadAnswer);

impl Upload {
    fn url(&self) -> &str {
        self.0.upload_url.as_deref().unwrap()
    }

    async fn put(&self, world: &World, body: impl Into<reqwest::Body>) -> Answer {
        let mut call = world.call(Method::PUT, self.url());
        for (name, value) in &self.0.headers {
            if name != "content-length" {
                call = call.header(name, value);
            }
        }
        call.raw(body).send().await
    }
}

impl User {
    async fn ask(&self, world: &World, body: &BlobUpload) -> Answer {
        world
            .post("/api/sync/blobs/upload")
            .bearer(&self.token)
            .cbor(body)
            .send()
            .await
    }

    /// Asks for a URL to upload these bytes by.
    async fn ask_upload(&self, world: &World, hash: BlobId, sealed: &[u8], replace: bool) -> Upload {
        let body = BlobUpload {
            hash,
            size: sealed.len() as u64,
            sealed_hash: Some(SealedHash::of(sealed)),
            key_id: KEY_ID,
            hash_at_confirm: false,
            replace,
        };
        Upload(self.ask(world, &body).await.ok())
    }

    /// Uploads an object that is never confirmed; returns its file.
    pub(crate) async fn upload_object(&self, world: &World) -> std::path::PathBuf {
        let upload = self.ask_upload(world, HASH, &contents(100), false).await;
        upload.put(world, contents(100)).await;
        directory::objects(world).pop().unwrap()
    }

    async fn confirm(&self, world: &World, hash: BlobId, size: u64, upload_id: Option<UploadId>) -> Answer {
        self.confirm_hash(world, (hash, size), upload_id, None).await
    }

    async fn confirm_hash(
        &self,
        world: &World,
        (hash, size): (BlobId, u64),
        upload_id: Option<UploadId>,
        sealed_hash: Option<SealedHash>,
    ) -> Answer {
        let body = BlobConfirm {
            hash,
            size,
            upload_id,
            sealed_hash,
        };
        world
            .post("/api/sync/blobs/confirm")
            .bearer(&self.token)
            .cbor(&body)
            .send()
            .await
    }

    async fn ask_download(&self, world: &World, hash: BlobId) -> Answer {
        world
            .post("/api/sync/blobs/download")
            .bearer(&self.token)
            .cbor(&BlobDownload { hash })
            .send()
            .await
    }

    async fn download_url(&self, world: &World, hash: BlobId) -> String {
        self.ask_download(world, hash)
            .await
            .ok::<BlobDownloadAnswer>()
            .download_url
    }

    /// Uploads and confirms a blob; returns the URL to get it by.
    async fn put_blob(&self, world: &World, hash: BlobId, sealed: &[u8]) -> String {
        let upload = self.ask_upload(world, hash, sealed, false).await;
        let put = upload.put(world, sealed.to_vec()).await;
        assert_eq!(put.status, StatusCode::OK);
        self.confirm(world, hash, sealed.len() as u64, upload.0.upload_id)
            .await
            .empty();
        self.download_url(world, hash).await
    }
}

/// The keys of all objects, in either place.
fn keys(world: &World) -> Vec<String> {
    match world.bucket() {
        Some(bucket) => bucket.keys(),
        None => {
            let paths = directory::objects(world).into_iter();
            paths.map(|path| path.to_str().unwrap().to_owned()).collect()
        }
    }
}

/// Changes an object behind the server's back, or makes it: with these bytes, or to nothing.
fn change(world: &World, key: &str, bytes: Option<Vec<u8>>) {
    match (world.bucket(), bytes) {
        (Some(bucket), Some(bytes)) => bucket.replace(key, bytes),
        (Some(bucket), None) => bucket.lose(key),
        (None, Some(bytes)) => std::fs::write(key, bytes).unwrap(),
        (None, None) => std::fs::remove_file(key).unwrap(),
    }
}

async fn a_blob_goes_up_and_comes_down_whole(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let sealed = contents(1_000_000);
    let asked = BlobUpload {
        hash: HASH,
        size: 1_000_000,
        sealed_hash: Some(SealedHash::of(&sealed)),
        key_id: KEY_ID,
        hash_at_confirm: false,
        replace: false,
    };
    let answer = world
        .post("/api/sync/blobs/upload")
        .bearer(&user.token)
        .json(&asked)
        .send()
        .await;
    insta::allow_duplicates! {
        insta::assert_json_snapshot!(
            answer.json(),
            { ".upload_url" => "[url]", ".upload_id" => "[id]", ".expires_at" => "[time]", ".headers" => "[headers]" },
            @r#"
        {
          "already_exists": false,
          "expires_at": "[time]",
          "headers": "[headers]",
          "upload_id": "[id]",
          "upload_url": "[url]"
        }
        "#
        );
    }
    let upload = Upload(answer.ok());
    assert_eq!(upload.0.headers["content-length"], "1000000");
    let end = world.clock.now() + limits::PRESIGNED_URL_SECONDS;
    assert_eq!(upload.0.expires_at, Some(end));
    assert!(
        !upload.url().contains(&HASH.to_string()),
        "an object key says nothing about its blob"
    );
    let upload_id = upload.0.upload_id;
    assert_eq!(
        user.confirm(&world, HASH, 1_000_000, upload_id).await.code(),
        "upload_incomplete"
    );
    assert_eq!(upload.put(&world, sealed.clone()).await.status, StatusCode::OK);
    assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
    user.confirm(&world, HASH, 1_000_000, upload_id).await.empty();
    user.confirm(&world, HASH, 1_000_000, upload_id).await.empty();
    user.confirm(&world, HASH, 1_000_000, None).await.empty();

    let answer = world
        .post("/api/sync/blobs/download")
        .bearer(&user.token)
        .json(&BlobDownload { hash: HASH })
        .send()
        .await;
    insta::allow_duplicates! {
        insta::assert_json_snapshot!(answer.json(), { ".download_url" => "[url]", ".expires_at" => "[time]" }, @r#"
        {
          "download_url": "[url]",
          "expires_at": "[time]",
          "key_id": "07070707070707070707070707070707",
          "size": 1000000
        }
        "#);
    }
    let url = answer.ok::<BlobDownloadAnswer>().download_url;
    let got = world.get(&url).send().await;
    assert_eq!(got.status, StatusCode::OK);
    assert!(got.body == sealed);
    let part = world.get(&url).header("range", "bytes=500000-500099").send().await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.header("content-range"), "bytes 500000-500099/1000000");
    assert_eq!(part.body, sealed[500_000..500_100]);
    let again = user.ask_upload(&world, HASH, &sealed, false).await;
    assert!(again.0.already_exists && again.0.upload_url.is_none());

    let world = world.restart().await;
    let url = user.download_url(&world, HASH).await;
    assert!(world.get(&url).send().await.body == sealed);
}

async fn a_url_takes_only_the_signed_bytes(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let upload = user.ask_upload(&world, HASH, &contents(1000), false).await;
    let one_differs = [&contents(999)[..], &[0xff]].concat();
    for body in [vec![], contents(999), contents(1001), vec![0; 1000], one_differs] {
        let (length, answer) = (body.len(), upload.put(&world, body).await);
        assert!(answer.status.is_client_error(), "{length}: {}", answer.status);
        assert_eq!(keys(&world), Vec::<String>::new(), "{length}");
    }
    assert_eq!(upload.put(&world, contents(1000)).await.status, StatusCode::OK);
    assert_eq!(keys(&world).len(), 1);
}

async fn a_url_used_twice_changes_nothing(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let upload = user.ask_upload(&world, HASH, &contents(1000), false).await;
    // At once, then after one has ended, then after the blob is confirmed.
    let (one, other) = tokio::join!(upload.put(&world, contents(1000)), upload.put(&world, contents(1000)));
    let again = upload.put(&world, contents(1000)).await;
    user.confirm(&world, HASH, 1000, upload.0.upload_id).await.empty();
    let confirmed = upload.put(&world, contents(1000)).await;
    for (place_of, answer) in [one, other, again, confirmed].iter().enumerate() {
        // A bucket stores the same bytes again; the directory says that it has them.
        assert!(["200", "object_exists"].contains(&answer.code().as_str()), "{place_of}");
    }
    assert!(upload.put(&world, vec![9; 1000]).await.status.is_client_error());
    assert_eq!(keys(&world).len(), 1);
    let url = user.download_url(&world, HASH).await;
    assert_eq!(world.get(&url).send().await.body, contents(1000));
}

async fn a_question_gives_no_url(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let question = BlobUpload {
        hash: HASH,
        size: 100,
        sealed_hash: None,
        key_id: KEY_ID,
        hash_at_confirm: false,
        replace: false,
    };
    let answer: BlobUploadAnswer = user.ask(&world, &question).await.ok();
    let nothing = (None, None, None);
    assert_eq!((answer.upload_url, answer.upload_id, answer.expires_at), nothing);
    assert!(!answer.already_exists && answer.headers.is_empty());
    user.put_blob(&world, HASH, &contents(100)).await;
    assert!(
        user.ask(&world, &question)
            .await
            .ok::<BlobUploadAnswer>()
            .already_exists
    );
}

async fn a_hash_in_the_confirmation_is_compared(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let upload = user.ask_upload(&world, HASH, &contents(1000), false).await;
    upload.put(&world, contents(1000)).await;
    let of = |byte| Some(SealedHash::of(&[byte; 1000]));
    for upload_id in [upload.0.upload_id, None] {
        let other = user.confirm_hash(&world, (HASH, 1000), upload_id, of(9)).await;
        assert_eq!(other.code(), "upload_incomplete");
    }
    let right = Some(SealedHash::of(&contents(1000)));
    user.confirm_hash(&world, (HASH, 1000), upload.0.upload_id, right)
        .await
        .empty();
}

async fn a_changed_object_is_not_confirmed(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let upload = user.ask_upload(&world, HASH, &contents(1000), false).await;
    upload.put(&world, contents(1000)).await;
    let key = keys(&world).pop().unwrap();
    // So that the directory has forgotten the hash that it wrote.
    let world = world.restart().await;
    for bytes in [Some(vec![9; 1000]), Some(contents(999)), Some(contents(1001)), None] {
        change(&world, &key, bytes);
        for upload_id in [upload.0.upload_id, None] {
            let answer = user.confirm(&world, HASH, 1000, upload_id).await;
            assert_eq!(answer.code(), "upload_incomplete");
        }
        assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
    }
    change(&world, &key, Some(contents(1000)));
    user.confirm(&world, HASH, 1000, upload.0.upload_id).await.empty();
}

async fn confirm_without_id_takes_newest_whole_upload(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let complete = user.ask_upload(&world, HASH, &contents(100), false).await;
    let _incomplete = user.ask_upload(&world, HASH, &contents(100), false).await;
    complete.put(&world, contents(100)).await;
    user.confirm(&world, HASH, 100, None).await.empty();
    assert_eq!(user.confirm(&world, HASH, 99, None).await.code(), "upload_incomplete");
    assert_eq!(
        user.confirm(&world, BlobId::from_bytes([1; 32]), 100, None)
            .await
            .code(),
        "upload_incomplete"
    );
}

async fn confirm_looks_at_few_uploads(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let complete = user.ask_upload(&world, HASH, &contents(100), false).await;
    complete.put(&world, contents(100)).await;
    for _ in 0..limits::CONFIRM_UPLOADS_MAX {
        user.ask_upload(&world, HASH, &contents(100), false).await;
    }
    assert_eq!(user.confirm(&world, HASH, 100, None).await.code(), "upload_incomplete");
    user.confirm(&world, HASH, 100, complete.0.upload_id).await.empty();
}

async fn sizes_are_bounded(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    for (size, code) in [
        (limits::BLOB_SEALED_BYTES_MAX + 1, "blob_too_large"),
        (39, "invalid_value"),
        (40, "200"),
        (limits::BLOB_SEALED_BYTES_MAX, "200"),
    ] {
        for sealed_hash in [None, Some(SealedHash::of(b""))] {
            let body = BlobUpload {
                hash: HASH,
                size,
                sealed_hash,
                key_id: KEY_ID,
                hash_at_confirm: false,
                replace: false,
            };
            assert_eq!(user.ask(&world, &body).await.code(), code, "{size}");
        }
    }
}

async fn deleted_blob_is_gone_until_uploaded_again(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    user.put_blob(&world, HASH, &contents(100)).await;
    let delete = async |path: &str| world.call(Method::DELETE, path).bearer(&user.token).send().await;
    let path = format!("/api/sync/blobs/{HASH}");
    delete(&path).await.empty();
    assert_eq!(delete(&path).await.code(), "blob_not_found");
    assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
    let again = user.ask_upload(&world, HASH, &contents(100), false).await;
    assert!(again.0.already_exists);
    assert_eq!(user.ask_download(&world, HASH).await.code(), "200");
    assert_eq!(delete("/api/sync/blobs/nonsense").await.code(), "blob_not_found");
}

async fn a_corrupt_blob_is_replaced_by_a_new_object(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    user.put_blob(&world, HASH, &contents(100)).await;
    let upload = user.ask_upload(&world, HASH, &[7; 100], true).await;
    // Until it is confirmed, the old one stands, and naming the upload does not confirm the old one.
    assert_eq!(
        user.confirm(&world, HASH, 100, upload.0.upload_id).await.code(),
        "upload_incomplete"
    );
    upload.put(&world, vec![7; 100]).await;
    user.confirm(&world, HASH, 100, upload.0.upload_id).await.empty();
    let url = user.download_url(&world, HASH).await;
    assert_eq!(world.get(&url).send().await.body, vec![7; 100]);
}

async fn blobs_are_listed_in_order_of_their_hashes(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    for n in [3, 1, 2] {
        user.put_blob(&world, BlobId::from_bytes([n; 32]), &contents(100)).await;
    }
    let list = world.get("/api/sync/blobs").bearer(&user.token).send().await;
    let after = format!("/api/sync/blobs?after={}", BlobId::from_bytes([1; 32]));
    let rest: BlobList = world
        .get(&after)
        .bearer(&user.token)
        .accept("application/cbor")
        .send()
        .await
        .ok();
    let hashes = |list: &BlobList| {
        list.blobs
            .iter()
            .map(|blob| blob.hash.as_bytes()[0])
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (hashes(&list.ok()), hashes(&rest), rest.has_more),
        (vec![1, 2, 3], vec![2, 3], false)
    );
    insta::allow_duplicates! {
        insta::assert_json_snapshot!(list.json()["blobs"][0], { ".created_at" => "[time]" }, @r#"
        {
          "created_at": "[time]",
          "hash": "0101010101010101010101010101010101010101010101010101010101010101",
          "key_id": "07070707070707070707070707070707",
          "size": 100
        }
        "#);
    }
    let refused = world.get("/api/sync/blobs?after=x").bearer(&user.token).send().await;
    assert_eq!(refused.code(), "invalid_value");
}

async fn a_file_of_another_size_is_missing_and_comes_back(place: Place) {
    let world = place.world().await;
    let user = world.user("ada@example.com").await;
    let sealed = contents(1000);
    user.put_blob(&world, HASH, &sealed).await;
    assert!(user.ask_upload(&world, HASH, &sealed, false).await.0.already_exists);
    for damage in [Some(999), Some(1001), None] {
        let object = keys(&world).pop().unwrap();
        change(&world, &object, damage.map(contents));
        assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
        // A device that has the file stores it as if nobody had.
        let repaired = user.put_blob(&world, HASH, &sealed).await;
        assert_eq!(world.get(&repaired).send().await.body, sealed);
        if damage.is_some() {
            change(&world, &object, None);
        }
    }
    assert!(user.ask_upload(&world, HASH, &sealed, false).await.0.already_exists);
}

/// Sweeps often enough to wait for.
fn sweeping(config: &mut Config) {
    config.sweep_interval = std::time::Duration::from_millis(20);
}

async fn wait_for_objects(world: &World, count: usize) {
    while keys(world).len() != count {
        tokio::task::yield_now().await;
    }
}

/// Waits until one swept object is noted: it is gone a moment earlier.
async fn wait_for_count(world: &World) {
    let counted = async || {
        let text = String::from_utf8(world.get("/metrics").send().await.body).unwrap();
        text.contains("synckit_swept_objects_total 1\n")
    };
    while !counted().await {
        tokio::task::yield_now().await;
    }
}

async fn the_sweep_removes_what_nothing_points_at(place: Place) {
    let world = place.world_with(sweeping).await;
    let user = world.user("ada@example.com").await;
    let kept = BlobId::from_bytes([1; 32]);
    user.put_blob(&world, kept, &contents(100)).await;
    let upload = user.ask_upload(&world, HASH, &contents(100), false).await;
    upload.put(&world, contents(100)).await;
    assert_eq!(keys(&world).len(), 2);
    world
        .clock
        .advance(limits::PRESIGNED_URL_SECONDS + limits::UPLOAD_SWEEP_SECONDS + 1);
    wait_for_objects(&world, 1).await;
    assert_eq!(
        user.confirm(&world, HASH, 100, upload.0.upload_id).await.code(),
        "upload_incomplete"
    );
    let url = user.download_url(&world, kept).await;
    assert_eq!(world.get(&url).send().await.body, contents(100));
    wait_for_count(&world).await;
}

async fn an_upload_that_ends_after_the_sweep_is_swept(place: Place) {
    let world = place.world_with(sweeping).await;
    let user = world.user("ada@example.com").await;
    let upload = user.ask_upload(&world, HASH, &contents(100), false).await;
    upload.put(&world, contents(100)).await;
    let late = keys(&world).pop().unwrap();
    world
        .clock
        .advance(limits::PRESIGNED_URL_SECONDS + limits::UPLOAD_SWEEP_SECONDS + 1);
    wait_for_objects(&world, 0).await;
    wait_for_count(&world).await;
    change(&world, &late, Some(contents(100)));
    world.clock.advance(limits::SECOND_SWEEP_SECONDS);
    wait_for_objects(&world, 0).await;
}

/// More than a page of them, and they are older than the last object.
async fn objects_that_cannot_be_swept_hold_up_no_others(place: Place) {
    const STUCK: usize = 300;
    let world = place.world_with(sweeping).await;
    let user = world.user("ada@example.com").await;
    let abandon_upload = async || {
        let upload = user.ask_upload(&world, HASH, &contents(100), false).await;
        assert_eq!(upload.put(&world, contents(100)).await.status, StatusCode::OK);
    };
    abandon_upload().await;
    let before = keys(&world);
    for _ in 0..STUCK {
        abandon_upload().await;
    }
    let mut stuck = keys(&world);
    stuck.retain(|key| !before.contains(key));
    for key in &stuck {
        make_stuck(&world, key);
    }
    world.clock.advance(1);
    abandon_upload().await;
    world
        .clock
        .advance(limits::PRESIGNED_URL_SECONDS + limits::UPLOAD_SWEEP_SECONDS - 1);
    wait_for_objects(&world, STUCK + 1).await;
    world.clock.advance(1);
    wait_for_objects(&world, STUCK).await;
    for key in &stuck {
        make_loose(&world, key);
    }
    sweep_on(&world, 0).await;
}

/// Advances the clock until the sweep has tried again what failed, and this many objects are left.
async fn sweep_on(world: &World, count: usize) {
    while keys(world).len() != count {
        world.clock.advance(60);
        tokio::task::yield_now().await;
    }
}

/// Makes an object one that its place cannot delete.
fn make_stuck(world: &World, key: &str) {
    match world.bucket() {
        Some(bucket) => bucket.obstruct_deletion(key, Some(Obstruction::Refused)),
        None => {
            std::fs::remove_file(key).unwrap();
            std::fs::create_dir(key).unwrap();
        }
    }
}

fn make_loose(world: &World, key: &str) {
    match world.bucket() {
        Some(bucket) => bucket.obstruct_deletion(key, None),
        None => {
            std::fs::remove_dir(key).unwrap();
            std::fs::write(key, contents(100)).unwrap();
        }
    }
}
