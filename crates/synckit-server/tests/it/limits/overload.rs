//! No client stops the server: not by announcing, not by trickling, not by reading slowly, not by many connections.

use std::time::Duration;

use reqwest::Method;
use synckit_protocol::{
    BlobId, Cursor, SealedHash, limits,
    wire::{
        blobs::{BlobUpload, BlobUploadAnswer},
        log::Pull,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{KEY_ID, PASSWORD, Syncing, User, World};

/// The smallest memory that a configuration may give.
const MEMORY: u64 = 16 << 20;

/// A connection that announced a body of so many bytes, and was told to go on.
async fn announce(world: &World, request: &str, token: &str, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/cbor\r\n\
         expect: 100-continue\r\ncontent-length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(first_line(&mut stream).await, "HTTP/1.1 100 Continue");
    assert_eq!(first_line(&mut stream).await, "");
    stream
}

/// A push of the largest size that has delivered all but a byte.
async fn large_push(world: &World, user: &Syncing) -> TcpStream {
    let mut stream = announce(world, PUSH, &user.user.token, limits::PUSH_BODY_BYTES_MAX).await;
    let body = vec![0; limits::PUSH_BODY_BYTES_MAX - 1];
    stream.write_all(&body).await.unwrap();
    stream
}

/// Writes a byte after each answer of the server to somebody else, until the server gives this request up, and returns the
/// first line of its answer. The server's own pace keeps the bytes apart.
async fn trickle(world: &World, mut stream: TcpStream) -> String {
    let mut answer = [0];
    let trickling = async {
        loop {
            tokio::select! {
                _ = figure(world, "synckit_requests_at_work") => { let _ = stream.write_all(b"x").await; }
                read = stream.read(&mut answer) => {
                    read.unwrap();
                    let line = first_line(&mut stream).await;
                    return format!("{}{line}", char::from(answer[0]));
                }
            }
        }
    };
    patiently(trickling, "the server did not give the request up").await
}

/// Ends a test whose server never does its part.
pub(crate) async fn patiently<T>(work: impl Future<Output = T>, failure: &str) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .unwrap_or_else(|_| panic!("{failure}"))
}

const PUSH: &str = "POST /api/sync/push";
const SIGN_IN: &str = "POST /api/sync/auth/start";
const OVERLOADED: &str = "HTTP/1.1 503 Service Unavailable";

/// The first line of what the server says on a connection.
async fn first_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

/// A figure of `/metrics`.
pub(crate) async fn figure(world: &World, name: &str) -> u64 {
    let answer = world.get("/metrics").send().await;
    let text = String::from_utf8(answer.body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap().parse().unwrap()
}

/// Asks until a figure is as it should be; what happens on another thread has no other sign.
pub(crate) async fn wait_for(world: &World, name: &str, wanted: impl Fn(u64) -> bool) {
    let asking = async {
        while !wanted(figure(world, name).await) {
            tokio::task::yield_now().await;
        }
    };
    patiently(asking, &format!("{name} did not get there")).await;
}

#[tokio::test]
async fn trickled_bodies_keep_nobody_from_working() {
    let world = World::start_with(|config| config.bounds.requests = 8).await;
    let user = world.user("ada@example.com").await;
    let mut trickling = Vec::new();
    for _ in 0..20 {
        for (request, token) in [(SIGN_IN, ""), (PUSH, user.token.as_str())] {
            let mut stream = announce(&world, request, token, 300).await;
            stream.write_all(b"x").await.unwrap();
            trickling.push(stream);
        }
    }
    assert_eq!(figure(&world, "synckit_requests_at_work").await, 0);
    assert!(world.sign_in("ada@example.com", PASSWORD).await.is_ok());
    let status = world.get("/api/sync/status").bearer(&user.token);
    assert_eq!(status.send().await.code(), "200");
    assert_eq!(world.get("/readyz").send().await.code(), "200");
}

#[tokio::test]
async fn trickled_body_is_given_up() {
    let world = World::start_with(|config| config.timeouts.request_body = Duration::from_millis(300)).await;
    let user = world.user("ada@example.com").await;
    let large = announce(&world, PUSH, &user.token, limits::PUSH_BODY_BYTES_MAX).await;
    let small = announce(&world, SIGN_IN, "", 60_000).await;
    let answers = tokio::join!(trickle(&world, large), trickle(&world, small));
    assert_eq!((answers.0.as_str(), answers.1.as_str()), (OVERLOADED, OVERLOADED));
}

#[tokio::test]
async fn announced_bodies_reserve_nothing() {
    let world = World::start_with(|config| config.bounds.push_body_bytes = MEMORY).await;
    let ada = world.ready_user("ada@example.com").await;
    let mut bob = world.ready_user("bob@example.com").await;
    let mut announced = Vec::new();
    for _ in 0..20 {
        announced.push(announce(&world, PUSH, &ada.user.token, limits::PUSH_BODY_BYTES_MAX).await);
    }
    assert_eq!(figure(&world, "synckit_push_memory_bytes").await, 0);
    bob.push(&world, 1, 300).await;
    bob.push(&world, 1, limits::BATCH_SEALED_BYTES_MAX).await;
}

#[tokio::test]
async fn large_bodies_of_one_session_hold_its_share() {
    let world = World::start().await;
    let ada = world.ready_user("ada@example.com").await;
    let mut bob = world.ready_user("bob@example.com").await;
    let mut at_work = large_push(&world, &ada).await;
    let held = figure(&world, "synckit_push_memory_bytes").await;
    assert!(held > 5_000_000 && held < 8 << 20, "{held}");
    // The second waits for the share of its session, and is shed.
    let mut second = announce(&world, PUSH, &ada.user.token, limits::PUSH_BODY_BYTES_MAX).await;
    second.write_all(&vec![0; 2 * limits::BODY_BYTES_MAX]).await.unwrap();
    bob.push(&world, 1, limits::BATCH_SEALED_BYTES_MAX).await;
    assert_eq!(first_line(&mut second).await, OVERLOADED);
    // A small one has memory of its own.
    let small = world.get("/api/sync/status").bearer(&ada.user.token);
    assert_eq!(small.send().await.code(), "200");
    at_work.write_all(&[0]).await.unwrap();
    assert_eq!(first_line(&mut at_work).await, "HTTP/1.1 400 Bad Request");
    wait_for(&world, "synckit_push_memory_bytes", |taken| taken == 0).await;
}

/// Asks for the largest page, and reads the first line of the answer and nothing else.
async fn start_reading(world: &World, user: &Syncing, media_type: &str) -> TcpStream {
    let body = serde_json::to_string(&Pull {
        device_id: user.device_id,
        cursor: Cursor::START,
        max_bytes: Some(limits::PAGE_BYTES_MAX),
        ahead: false,
        avoid_snapshot: false,
    })
    .unwrap();
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    let request = format!(
        "POST /api/sync/pull HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\naccept: {media_type}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        user.user.token,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(first_line(&mut stream).await, "HTTP/1.1 200 OK");
    stream
}

#[tokio::test]
async fn page_that_nobody_reads_keeps_its_memory() {
    for media_type in ["application/json", "application/cbor"] {
        let world = World::start_with(|config| config.bounds.page_bytes = 2 * MEMORY).await;
        let mut readers = Vec::new();
        for email in ["ada@example.com", "bob@example.com"] {
            let mut user = world.ready_user(email).await;
            for _ in 0..2 {
                user.push(&world, 1, limits::BATCH_SEALED_BYTES_MAX - 100).await;
            }
            readers.push(start_reading(&world, &user, media_type).await);
        }
        // Two pages stay where they are, because the lines are full.
        let taken = figure(&world, "synckit_page_memory_bytes").await;
        assert!(taken >= 2 * 8_000_000, "{media_type}: {taken}");
        drop(readers);
        wait_for(&world, "synckit_page_memory_bytes", |taken| taken == 0).await;
    }
}

#[tokio::test]
async fn slow_readers_of_one_account_hold_its_share() {
    let world = World::start_with(|config| config.bounds.page_bytes = 2 * MEMORY).await;
    let mut ada = world.ready_user("ada@example.com").await;
    let mut bob = world.ready_user("bob@example.com").await;
    for _ in 0..2 {
        ada.push(&world, 1, limits::BATCH_SEALED_BYTES_MAX - 100).await;
    }
    bob.push(&world, 1, 300).await;
    let _reader = start_reading(&world, &ada, "application/cbor").await;
    // The share of the account is one page of this size.
    assert_eq!(ada.pull(&world, Cursor::START, None).await.code(), "overloaded");
    assert_eq!(bob.pull(&world, Cursor::START, None).await.code(), "200");
    assert_eq!(
        world.get("/readyz").send().await.code(),
        "200",
        "a share is not the server"
    );
}

#[tokio::test]
async fn slow_exports_of_one_session_hold_its_share() {
    let world = World::start().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let bob = world.ready_user("bob@example.com").await;
    for _ in 0..3 {
        ada.push(&world, 1, limits::BATCH_SEALED_BYTES_MAX - 100).await;
    }
    let export = async |user: &Syncing| {
        let request = reqwest::Client::new()
            .get(format!("{}/api/account/export", world.url))
            .bearer_auth(&user.user.account_token);
        request.send().await.unwrap()
    };
    // Nobody reads them to their ends, which no buffer holds.
    let reading = [export(&ada).await, export(&ada).await];
    assert_eq!(reading.each_ref().map(|answer| answer.status().as_u16()), [200, 200]);
    assert_eq!(export(&ada).await.status(), 503);
    assert_eq!(export(&bob).await.status(), 200);
    drop(reading);
    // A connection that was closed gives its place back.
    let answered = async { while export(&ada).await.status() != 200 {} };
    patiently(answered, "the place was not given back").await;
}

#[tokio::test]
async fn trickling_reader_is_cut_off() {
    let world = World::start_with(|config| config.timeouts.stall = Duration::from_millis(300)).await;
    let mut user = world.ready_user("ada@example.com").await;
    for _ in 0..2 {
        user.push(&world, 1, limits::BATCH_SEALED_BYTES_MAX - 100).await;
    }
    let mut reader = start_reading(&world, &user, "application/cbor").await;
    let reading = async {
        // A byte after each look at the figure.
        while figure(&world, "synckit_page_memory_bytes").await > 0 {
            reader.read_u8().await.unwrap();
        }
    };
    patiently(reading, "the reader was not cut off").await;
}

/// Where a user may upload a blob of so many bytes: the path of the URL.
async fn upload_path(world: &World, user: &User, n: u8, size: u64) -> String {
    let asked = BlobUpload {
        hash: BlobId::from_bytes([n; 32]),
        size,
        // No upload of another size ends.
        sealed_hash: Some(SealedHash::of(&[0; 1000])),
        key_id: KEY_ID,
        hash_at_confirm: false,
        replace: false,
    };
    let answer = world.post("/api/sync/blobs/upload").bearer(&user.token).json(&asked);
    let url = answer.send().await.ok::<BlobUploadAnswer>().upload_url.unwrap();
    url.strip_prefix(&world.url).unwrap().to_owned()
}

#[tokio::test]
async fn uploads_of_one_account_hold_its_share() {
    let world = World::start_with(|config| config.bounds.transfers = 8).await;
    let ada = world.user("ada@example.com").await;
    let bob = world.user("bob@example.com").await;
    let mut at_work = Vec::new();
    for n in 0..2 {
        let path = upload_path(&world, &ada, n, 1000).await;
        at_work.push(announce(&world, &format!("PUT {path}"), "", 1000).await);
    }
    let put = async |user: &User| {
        let path = upload_path(&world, user, 9, 1000).await;
        world.call(Method::PUT, &path).raw(vec![0; 1000]).send().await
    };
    assert_eq!(put(&ada).await.code(), "overloaded");
    assert_eq!(put(&bob).await.code(), "200");
    drop(at_work);
    wait_for(&world, "synckit_transfers", |transfers| transfers == 0).await;
    assert_eq!(put(&ada).await.code(), "200");
}

#[tokio::test]
async fn trickled_upload_is_given_up() {
    let world = World::start_with(|config| config.timeouts.stall = Duration::from_millis(300)).await;
    let user = world.user("ada@example.com").await;
    let path = upload_path(&world, &user, 1, limits::UPLOAD_WHOLE_BYTES_MAX).await;
    let stream = announce(
        &world,
        &format!("PUT {path}"),
        "",
        limits::UPLOAD_WHOLE_BYTES_MAX as usize,
    )
    .await;
    assert_eq!(trickle(&world, stream).await, OVERLOADED);
}

#[tokio::test]
async fn address_holds_a_share_of_the_connections() {
    let world = World::start_with(|config| config.bounds.connections = 16).await;
    let mut connections = Vec::new();
    let refused = loop {
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        match first_line(&mut stream).await.as_str() {
            "HTTP/1.1 200 OK" => connections.push(stream),
            refused => break refused.to_owned(),
        }
    };
    assert_eq!((connections.len(), refused.as_str()), (4, OVERLOADED));
    drop(connections);
    // Asks over one connection as soon as there is room for it.
    let asking = async { while !world.answers().await {} };
    patiently(asking, "no connection was let in again").await;
}

#[tokio::test]
async fn server_without_room_says_so() {
    let world = World::start_with(|config| {
        config.bounds.connections = 8;
        // A proxy speaks for many: all of the connections are its share.
        config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    assert_eq!(world.get("/readyz").send().await.code(), "200");
    let mut connections = Vec::new();
    loop {
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        if first_line(&mut stream).await == OVERLOADED {
            break;
        }
        connections.push(stream);
    }
    // Seven, and the one that asked first and is kept.
    assert_eq!(connections.len(), 7);
    let ready = world.get("/readyz").send().await.problem();
    assert_eq!(
        (ready.code.as_str(), ready.detail.as_deref()),
        ("overloaded", Some("used up: connections"))
    );
}
