//! Memory is bounded before the server is: bodies that do not fit are not read, pages that nobody reads make no room.

use std::time::Duration;

use synckit_protocol::{Cursor, limits, wire::log::Pull};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Syncing, World};

/// The smallest memory that a configuration may give.
const MEMORY: u64 = 16 << 20;

/// A connection that announces a push of so many bytes, and sends none of them unless it is told to go on.
async fn announce(world: &World, user: &Syncing, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    let head = format!(
        "POST /api/sync/push HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/cbor\r\n\
         expect: 100-continue\r\ncontent-length: {bytes}\r\n\r\n",
        user.user.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// The first line of what the server says on a connection.
async fn first_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

/// A figure of `/metrics`.
async fn figure(world: &World, name: &str) -> u64 {
    let answer = world.get("/metrics").send().await;
    let text = String::from_utf8(answer.body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap().parse().unwrap()
}

/// Asks until a figure is as it should be; what happens on another thread has no other sign.
async fn wait_for(world: &World, name: &str, wanted: impl Fn(u64) -> bool) {
    let asking = async {
        while !wanted(figure(world, name).await) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking)
        .await
        .unwrap_or_else(|_| panic!("{name} did not get there"));
}

#[tokio::test]
async fn bodies_that_do_not_fit_into_the_memory_are_shed_and_not_read() {
    let world = World::start_with(|config| config.bounds.push_body_bytes = MEMORY).await;
    let user = world.ready_user("ada@example.com").await;
    let largest = limits::PUSH_BODY_BYTES_MAX;
    let mut at_work = Vec::new();
    for _ in 0..2 {
        let mut stream = announce(&world, &user, largest).await;
        assert_eq!(first_line(&mut stream).await, "HTTP/1.1 100 Continue");
        at_work.push(stream);
    }
    let taken = figure(&world, "synckit_push_memory_bytes").await;
    assert!(taken <= MEMORY && taken > 2 * largest as u64, "{taken}");
    let mut shed = Vec::new();
    for _ in 0..10 {
        shed.push(announce(&world, &user, largest).await);
    }
    for mut stream in shed {
        // Nobody was told to go on: the answer comes instead of it.
        assert_eq!(first_line(&mut stream).await, "HTTP/1.1 503 Service Unavailable");
        let mut rest = vec![0; 512];
        let length = stream.read(&mut rest).await.unwrap();
        assert!(String::from_utf8_lossy(&rest[..length]).contains("retry-after: 1"));
    }
    drop(at_work);
    wait_for(&world, "synckit_push_memory_bytes", |taken| taken == 0).await;
    let mut stream = announce(&world, &user, largest).await;
    assert_eq!(
        first_line(&mut stream).await,
        "HTTP/1.1 100 Continue",
        "there is room again"
    );
}

#[tokio::test]
async fn a_page_that_nobody_reads_keeps_its_share_of_the_memory() {
    for media_type in ["application/json", "application/cbor"] {
        let world = World::start_with(|config| config.bounds.page_bytes = 2 * MEMORY).await;
        let mut user = world.ready_user("ada@example.com").await;
        for _ in 0..2 {
            user.push(&world, 1, limits::BATCH_SEALED_BYTES_MAX - 100).await;
        }
        let body = serde_json::to_string(&Pull {
            device_id: user.device_id,
            cursor: Cursor::START,
            max_bytes: Some(limits::PAGE_BYTES_MAX),
            ahead: false,
            avoid_snapshot: false,
        })
        .unwrap();
        let mut readers = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(world.address()).await.unwrap();
            let request = format!(
                "POST /api/sync/pull HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\naccept: {media_type}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                user.user.token,
                body.len()
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(first_line(&mut stream).await, "HTTP/1.1 200 OK");
            readers.push(stream);
        }
        // Two pages are on their way and stay there, because the lines are full.
        let taken = figure(&world, "synckit_page_memory_bytes").await;
        assert!(taken >= 2 * 8_000_000, "{media_type}: {taken}");
        drop(readers);
        wait_for(&world, "synckit_page_memory_bytes", |taken| taken == 0).await;
    }
}
