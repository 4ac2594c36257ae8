//! `/api/sync/blobs` and the presigned URLs of objects.

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use synckit_protocol::{
    BlobId, UploadId, limits,
    wire::blobs::{BlobConfirm, BlobDownload, BlobDownloadAnswer, BlobList, BlobUpload, BlobUploadAnswer},
};

use crate::support::{Answer, KEY_ID, User, World};

const HASH: BlobId = BlobId::from_bytes([0xab; 32]);

fn contents(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8).collect()
}

impl User {
    async fn ask_upload(&self, world: &World, hash: BlobId, size: u64, replace: bool) -> BlobUploadAnswer {
        let body = BlobUpload {
            hash,
            size,
            key_id: KEY_ID,
            replace,
        };
        world
            .post("/api/sync/blobs/upload")
            .bearer(&self.token)
            .cbor(&body)
            .send()
            .await
            .ok()
    }

    /// Uploads an object that is never confirmed; returns its file.
    pub(crate) async fn upload_object(&self, world: &World) -> std::path::PathBuf {
        let url = self.ask_upload(world, HASH, 100, false).await.upload_url.unwrap();
        world.call(Method::PUT, &url).raw(contents(100)).send().await;
        objects(world).pop().unwrap()
    }

    async fn confirm(&self, world: &World, hash: BlobId, size: u64, upload_id: Option<UploadId>) -> Answer {
        let body = BlobConfirm { hash, size, upload_id };
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

    /// Uploads and confirms a blob; returns the URL to get it by.
    async fn put_blob(&self, world: &World, hash: BlobId, sealed: &[u8]) -> String {
        let upload = self.ask_upload(world, hash, sealed.len() as u64, false).await;
        let put = world
            .call(Method::PUT, &upload.upload_url.unwrap())
            .raw(sealed.to_vec())
            .send()
            .await;
        assert_eq!(put.status, StatusCode::OK);
        self.confirm(world, hash, sealed.len() as u64, upload.upload_id)
            .await
            .empty();
        self.ask_download(world, hash)
            .await
            .ok::<BlobDownloadAnswer>()
            .download_url
    }
}

fn objects(world: &World) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for directory in std::fs::read_dir(world.path().join("blobs")).unwrap() {
        for file in std::fs::read_dir(directory.unwrap().path()).unwrap() {
            found.push(file.unwrap().path());
        }
    }
    found
}

#[tokio::test]
async fn a_blob_goes_up_and_comes_down_whole() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let sealed = contents(1_000_000);
    let asked = BlobUpload {
        hash: HASH,
        size: 1_000_000,
        key_id: KEY_ID,
        replace: false,
    };
    let answer = world
        .post("/api/sync/blobs/upload")
        .bearer(&user.token)
        .json(&asked)
        .send()
        .await;
    insta::assert_json_snapshot!(answer.json(), { ".upload_url" => "[url]", ".upload_id" => "[id]" }, @r#"
    {
      "already_exists": false,
      "expires_at": 1767229200,
      "headers": {
        "content-length": "1000000"
      },
      "upload_id": "[id]",
      "upload_url": "[url]"
    }
    "#);
    let upload: BlobUploadAnswer = answer.ok();
    let url = upload.upload_url.unwrap();
    assert!(url.starts_with(&format!("{}/blobs/", world.url)));
    assert!(
        !url.contains(&HASH.to_string()),
        "an object key says nothing about its blob"
    );
    assert_eq!(
        user.confirm(&world, HASH, 1_000_000, upload.upload_id).await.code(),
        "upload_incomplete"
    );
    assert_eq!(
        world.call(Method::PUT, &url).raw(sealed.clone()).send().await.status,
        StatusCode::OK
    );
    assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
    user.confirm(&world, HASH, 1_000_000, upload.upload_id).await.empty();
    user.confirm(&world, HASH, 1_000_000, upload.upload_id).await.empty();
    user.confirm(&world, HASH, 1_000_000, None).await.empty();

    let answer = world
        .post("/api/sync/blobs/download")
        .bearer(&user.token)
        .json(&BlobDownload { hash: HASH })
        .send()
        .await;
    insta::assert_json_snapshot!(answer.json(), { ".download_url" => "[url]" }, @r#"
    {
      "download_url": "[url]",
      "expires_at": 1767229200,
      "key_id": "07070707070707070707070707070707",
      "size": 1000000
    }
    "#);
    let got = world.get(&answer.ok::<BlobDownloadAnswer>().download_url).send().await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.header("content-type"), "application/octet-stream");
    assert!(got.body == sealed);
    let again = user.ask_upload(&world, HASH, 1_000_000, false).await;
    assert!(again.already_exists && again.upload_url.is_none());

    let world = world.restart().await;
    let url = user
        .ask_download(&world, HASH)
        .await
        .ok::<BlobDownloadAnswer>()
        .download_url;
    assert!(world.get(&url).send().await.body == sealed);
}

#[tokio::test]
async fn confirm_without_id_takes_newest_whole_upload() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let complete = user.ask_upload(&world, HASH, 100, false).await;
    let _incomplete = user.ask_upload(&world, HASH, 100, false).await;
    world
        .call(Method::PUT, &complete.upload_url.unwrap())
        .raw(contents(100))
        .send()
        .await;
    user.confirm(&world, HASH, 100, None).await.empty();
    assert_eq!(user.confirm(&world, HASH, 99, None).await.code(), "upload_incomplete");
    assert_eq!(
        user.confirm(&world, BlobId::from_bytes([1; 32]), 100, None)
            .await
            .code(),
        "upload_incomplete"
    );
}

#[tokio::test]
async fn an_upload_of_another_length_leaves_nothing() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let url = user.ask_upload(&world, HASH, 1000, false).await.upload_url.unwrap();
    for size in [0, 999, 1001] {
        let answer = world.call(Method::PUT, &url).raw(contents(size)).send().await;
        assert_eq!(answer.code(), "length_mismatch", "{size}");
    }
    // Without an announced length the bytes themselves are counted.
    for size in [0, 999, 1001, 300_000] {
        let pieces: Vec<Result<Bytes, std::io::Error>> = contents(size)
            .chunks(100)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        let answer = world.call(Method::PUT, &url).raw(body).send().await;
        assert_eq!(answer.code(), "length_mismatch", "{size}");
    }
    assert_eq!(objects(&world), Vec::<std::path::PathBuf>::new());
    let pieces: Vec<Result<Bytes, std::io::Error>> = contents(1000)
        .chunks(7)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    assert_eq!(
        world.call(Method::PUT, &url).raw(body).send().await.status,
        StatusCode::OK
    );
    assert_eq!(objects(&world).len(), 1);
}

#[tokio::test]
async fn an_object_is_never_overwritten() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let url = user.ask_upload(&world, HASH, 1000, false).await.upload_url.unwrap();
    let (one, other) = tokio::join!(
        world.call(Method::PUT, &url).raw(contents(1000)).send(),
        world.call(Method::PUT, &url).raw(vec![9; 1000]).send(),
    );
    let mut codes = [one.code(), other.code()];
    codes.sort();
    assert_eq!(codes, ["200", "object_exists"]);
    assert_eq!(
        world.call(Method::PUT, &url).raw(vec![9; 1000]).send().await.code(),
        "object_exists"
    );
    assert_eq!(objects(&world).len(), 1);
}

#[tokio::test]
async fn a_changed_url_or_method_is_refused() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let get = user.put_blob(&world, HASH, &contents(100)).await;
    let put = user
        .ask_upload(&world, BlobId::from_bytes([1; 32]), 100, false)
        .await
        .upload_url
        .unwrap();
    let other_key = get.replace("/blobs/", "/blobs/00");
    let changed = [
        get.replace("size=100", "size=101"),
        get.replace("expires=1", "expires=2"),
        get.replace("op=get", "op=put"),
        get.replace("&sig=", "&sig=A"),
        get.split("&sig").next().unwrap().to_owned(),
        get.split('?').next().unwrap().to_owned(),
        format!(
            "{}/blobs/{}?{}",
            world.url,
            "0".repeat(64),
            get.split('?').nth(1).unwrap()
        ),
        other_key,
        put.clone(),
    ];
    for url in &changed {
        assert_eq!(world.get(url).send().await.code(), "url_invalid", "{url}");
    }
    assert_eq!(
        world.call(Method::PUT, &get).raw(contents(100)).send().await.code(),
        "url_invalid"
    );
    let longer = put.replace("size=100", "size=1000");
    assert_eq!(
        world.call(Method::PUT, &longer).raw(contents(1000)).send().await.code(),
        "url_invalid"
    );
}

#[tokio::test]
async fn a_url_expires_after_an_hour() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let get = user.put_blob(&world, HASH, &contents(100)).await;
    let put = user
        .ask_upload(&world, BlobId::from_bytes([1; 32]), 100, false)
        .await
        .upload_url
        .unwrap();
    world.clock.advance(limits::PRESIGNED_URL_SECONDS - 1);
    assert_eq!(world.get(&get).send().await.status, StatusCode::OK);
    world.clock.advance(1);
    assert_eq!(world.get(&get).send().await.code(), "url_expired");
    assert_eq!(
        world.call(Method::PUT, &put).raw(contents(100)).send().await.code(),
        "url_expired"
    );
}

#[tokio::test]
async fn url_of_the_future_ends_when_clock_is_corrected() {
    const DAYS: u64 = 6 * 24 * 3600;
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    world.clock.advance(600);
    let get = user.put_blob(&world, HASH, &contents(100)).await;
    world.clock.set_back(300);
    assert_eq!(
        world.get(&get).send().await.status,
        StatusCode::OK,
        "a clock that was corrected a little"
    );
    world.clock.advance(DAYS);
    let ahead = user.ask_download(&world, HASH).await.ok::<BlobDownloadAnswer>();
    world.clock.set_back(DAYS);
    assert_eq!(world.get(&ahead.download_url).send().await.code(), "url_expired");
}

#[tokio::test]
async fn downloads_take_one_range() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let sealed = contents(1_000_000);
    let url = user.put_blob(&world, HASH, &sealed).await;
    let range = async |range: &str| world.get(&url).header("range", range).send().await;

    let answer = range("bytes=500000-500099").await;
    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.header("content-range"), "bytes 500000-500099/1000000");
    assert_eq!(answer.body, sealed[500_000..500_100]);
    assert!(range("bytes=400000-").await.body == sealed[400_000..]);
    assert!(range("bytes=-5").await.body == sealed[999_995..]);
    let whole = range("bytes=0-1,5-6").await;
    assert_eq!((whole.status, whole.body.len()), (StatusCode::OK, 1_000_000));

    let answer = range("bytes=1000000-").await;
    assert_eq!(answer.code(), "range_not_satisfiable");
    assert_eq!(answer.header("content-range"), "bytes */1000000");

    let head = world.call(Method::HEAD, &url).send().await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (StatusCode::OK, "1000000")
    );
    assert_eq!(head.header("accept-ranges"), "bytes");
    let etag = head.header("etag").to_owned();
    let resumed = world
        .get(&url)
        .header("range", "bytes=-5")
        .header("if-range", &etag)
        .send()
        .await;
    assert_eq!(resumed.status, StatusCode::PARTIAL_CONTENT);
    let stale = world
        .get(&url)
        .header("range", "bytes=-5")
        .header("if-range", "\"other\"")
        .send()
        .await;
    assert_eq!(stale.status, StatusCode::OK);
}

#[tokio::test]
async fn sizes_are_bounded() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let ask = async |size| {
        let body = BlobUpload {
            hash: HASH,
            size,
            key_id: KEY_ID,
            replace: false,
        };
        world
            .post("/api/sync/blobs/upload")
            .bearer(&user.token)
            .cbor(&body)
            .send()
            .await
            .code()
    };
    assert_eq!(ask(limits::BLOB_SEALED_BYTES_MAX + 1).await, "blob_too_large");
    assert_eq!(ask(39).await, "invalid_value");
    assert_eq!(ask(40).await, "200");
    assert_eq!(ask(limits::BLOB_SEALED_BYTES_MAX).await, "200");
}

#[tokio::test]
async fn deleted_blob_is_gone_until_uploaded_again() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    user.put_blob(&world, HASH, &contents(100)).await;
    let path = format!("/api/sync/blobs/{HASH}");
    world
        .call(Method::DELETE, &path)
        .bearer(&user.token)
        .send()
        .await
        .empty();
    assert_eq!(
        world
            .call(Method::DELETE, &path)
            .bearer(&user.token)
            .send()
            .await
            .code(),
        "blob_not_found"
    );
    assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
    assert!(user.ask_upload(&world, HASH, 100, false).await.already_exists);
    assert_eq!(user.ask_download(&world, HASH).await.code(), "200");
    let nonsense = world
        .call(Method::DELETE, "/api/sync/blobs/nonsense")
        .bearer(&user.token)
        .send()
        .await;
    assert_eq!(nonsense.code(), "blob_not_found");
}

#[tokio::test]
async fn a_corrupt_blob_is_replaced_by_a_new_object() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    user.put_blob(&world, HASH, &contents(100)).await;
    let upload = user.ask_upload(&world, HASH, 100, true).await;
    // Until it is confirmed, the old one stands, and naming the upload does not confirm the old one.
    assert_eq!(
        user.confirm(&world, HASH, 100, upload.upload_id).await.code(),
        "upload_incomplete"
    );
    world
        .call(Method::PUT, &upload.upload_url.unwrap())
        .raw(vec![7; 100])
        .send()
        .await;
    user.confirm(&world, HASH, 100, upload.upload_id).await.empty();
    let url = user
        .ask_download(&world, HASH)
        .await
        .ok::<BlobDownloadAnswer>()
        .download_url;
    assert_eq!(world.get(&url).send().await.body, vec![7; 100]);
}

#[tokio::test]
async fn blobs_are_listed_in_order_of_their_hashes() {
    let world = World::start().await;
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
    insta::assert_json_snapshot!(list.json()["blobs"][0], @r#"
    {
      "created_at": 1767225600,
      "hash": "0101010101010101010101010101010101010101010101010101010101010101",
      "key_id": "07070707070707070707070707070707",
      "size": 100
    }
    "#);
    assert_eq!(
        world
            .get("/api/sync/blobs?after=x")
            .bearer(&user.token)
            .send()
            .await
            .code(),
        "invalid_value"
    );
}

#[tokio::test]
async fn a_file_of_another_size_is_missing_and_comes_back() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let url = user.put_blob(&world, HASH, &contents(1000)).await;
    assert!(user.ask_upload(&world, HASH, 1000, false).await.already_exists);
    for damage in [Some(999), Some(1001), None] {
        let object = objects(&world).pop().unwrap();
        match damage {
            Some(size) => std::fs::write(&object, contents(size)).unwrap(),
            None => std::fs::remove_file(&object).unwrap(),
        }
        assert_eq!(world.get(&url).send().await.code(), "blob_not_found");
        assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
        // A device that has the file stores it as if nobody had.
        let repaired = user.put_blob(&world, HASH, &contents(1000)).await;
        assert_eq!(world.get(&repaired).send().await.body, contents(1000));
        std::fs::remove_file(&object).unwrap_or_default();
    }
    assert!(user.ask_upload(&world, HASH, 1000, false).await.already_exists);
}

#[tokio::test]
async fn the_sweep_removes_what_nothing_points_at() {
    let world = World::start_with(|config| config.sweep_interval = std::time::Duration::from_millis(20)).await;
    let user = world.user("ada@example.com").await;
    let kept = BlobId::from_bytes([1; 32]);
    user.put_blob(&world, kept, &contents(100)).await;
    let url = user.ask_upload(&world, HASH, 100, false).await.upload_url.unwrap();
    world.call(Method::PUT, &url).raw(contents(100)).send().await;
    assert_eq!(objects(&world).len(), 2);
    world
        .clock
        .advance(limits::PRESIGNED_URL_SECONDS + limits::UPLOAD_SWEEP_SECONDS + 1);
    while objects(&world).len() > 1 {
        tokio::task::yield_now().await;
    }
    let url = user
        .ask_download(&world, kept)
        .await
        .ok::<BlobDownloadAnswer>()
        .download_url;
    assert_eq!(world.get(&url).send().await.body, contents(100));
}

#[tokio::test]
async fn interrupted_upload_is_removed_at_next_start() {
    let mut world = World::start().await;
    world.stop().await.unwrap();
    std::fs::write(world.path().join("blobs/incoming/half"), b"half").unwrap();
    let world = world.restart().await;
    assert_eq!(world.get("/healthz").send().await.status, StatusCode::OK);
    assert_eq!(objects(&world), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let url = user.ask_upload(&world, HASH, 1000, false).await.upload_url.unwrap();
    let path = url.strip_prefix(&world.url).unwrap();
    let mut stream = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let head = format!("PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nonly this");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    // The server closes when it has understood that no more will come.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(
        world.call(Method::PUT, &url).raw(contents(1000)).send().await.status,
        StatusCode::OK
    );
    assert_eq!(objects(&world).len(), 1);
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_cut_off() {
    use tokio::io::AsyncWriteExt as _;
    let world = World::start_with(|config| {
        config.timeouts.stall = std::time::Duration::from_millis(50);
        config.bounds.transfers = 1;
    })
    .await;
    let user = world.user("ada@example.com").await;
    let size = 64 << 20;
    let url = user.put_blob(&world, HASH, &contents(size)).await;
    let path = url.strip_prefix(&world.url).unwrap();
    let mut stream = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .await
        .unwrap();
    stream.readable().await.unwrap();
    assert_eq!(world.get(&url).send().await.code(), "overloaded");
    // As soon as the server gives up on it, there is room for another.
    while !world.call(Method::HEAD, &url).send().await.status.is_success() {
        tokio::task::yield_now().await;
    }
}
