//! Objects in the data directory, which the server itself sends and receives.

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use synckit_protocol::{BlobId, SealedHash, limits, wire::blobs::BlobDownloadAnswer};

use super::{HASH, Upload, contents, hash_comes_later};
use crate::support::World;

/// The files of all objects.
pub(super) fn objects(world: &World) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for directory in std::fs::read_dir(world.path().join("blobs")).unwrap() {
        for file in std::fs::read_dir(directory.unwrap().path()).unwrap() {
            found.push(file.unwrap().path());
        }
    }
    found
}

#[tokio::test]
async fn an_upload_of_another_length_leaves_nothing() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let upload = user.ask_upload(&world, HASH, &contents(1000), false).await;
    let url = upload.url().to_owned();
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
async fn a_hash_may_come_with_the_confirmation() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let upload = Upload(user.ask(&world, &hash_comes_later(1000)).await.ok());
    assert_eq!(upload.put(&world, contents(999)).await.code(), "length_mismatch");
    assert_eq!(upload.put(&world, contents(1000)).await.status, StatusCode::OK);
    // A stored object never changes, even for a holder of the URL.
    assert_eq!(upload.put(&world, vec![9; 1000]).await.code(), "object_exists");
    let right = Some(SealedHash::of(&contents(1000)));
    for hash in [None, Some(SealedHash::of(&[9; 1000]))] {
        for upload_id in [upload.0.upload_id, None] {
            let answer = user.confirm_hash(&world, (HASH, 1000), upload_id, hash).await;
            assert_eq!(answer.code(), "upload_incomplete");
        }
        assert_eq!(user.ask_download(&world, HASH).await.code(), "blob_not_found");
    }
    // Also after the server has forgotten the hash that it wrote.
    let world = world.restart().await;
    user.confirm_hash(&world, (HASH, 1000), None, right).await.empty();
    let url = user.download_url(&world, HASH).await;
    assert_eq!(world.get(&url).send().await.body, contents(1000));
}

#[tokio::test]
async fn other_bytes_get_a_problem_and_leave_nothing() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let upload = user.ask_upload(&world, HASH, &contents(1000), false).await;
    assert_eq!(upload.put(&world, vec![9; 1000]).await.code(), "hash_mismatch");
    assert_eq!(objects(&world), Vec::<std::path::PathBuf>::new());
    assert_eq!(upload.put(&world, contents(1000)).await.code(), "200");
    assert_eq!(upload.put(&world, contents(1000)).await.code(), "object_exists");
    assert_eq!(upload.put(&world, vec![9; 1000]).await.code(), "object_exists");
}

#[tokio::test]
async fn a_changed_url_or_method_is_refused() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let get = user.put_blob(&world, HASH, &contents(100)).await;
    let upload = user
        .ask_upload(&world, BlobId::from_bytes([1; 32]), &contents(100), false)
        .await;
    let put = upload.url().to_owned();
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
    let of_zeros = SealedHash::of(&[0; 100]);
    let (before, after) = put.split_once("&hash=").unwrap();
    for (url, body) in [
        (put.replace("size=100", "size=1000"), contents(1000)),
        (format!("{before}{}", &after[43..]), contents(100)),
        (format!("{before}&hash={of_zeros}{}", &after[43..]), vec![0; 100]),
        (get.replace("&sig=", &format!("&hash={of_zeros}&sig=")), vec![0; 100]),
    ] {
        assert_eq!(
            world.call(Method::PUT, &url).raw(body).send().await.code(),
            "url_invalid"
        );
    }
}

#[tokio::test]
async fn a_url_expires_after_an_hour() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let get = user.put_blob(&world, HASH, &contents(100)).await;
    let upload = user
        .ask_upload(&world, BlobId::from_bytes([1; 32]), &contents(100), false)
        .await;
    let put = upload.url().to_owned();
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
    let upload = user.ask_upload(&world, HASH, &contents(1000), false).await;
    let url = upload.url().to_owned();
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
