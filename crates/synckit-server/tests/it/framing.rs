//! Requests that are not HTTP/1.1 as RFC 9112 has it are refused, over a raw socket.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::World;

/// Everything that the server says to these bytes until it closes. Nothing follows them.
async fn answer_to(world: &World, request: &str) -> String {
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    // The server may close while the rest is on its way.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// The status lines of some answers.
fn statuses(answer: &str) -> Vec<&str> {
    let found = answer.match_indices("HTTP/1.1 ");
    found.map(|(at, name)| &answer[at + name.len()..][..3]).collect()
}

const OK: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n";
const CLOSE: &str = "connection: close\r\n\r\n";

#[tokio::test]
async fn well_formed_requests_are_answered() {
    let world = World::start().await;
    for (request, expected) in [
        (format!("{OK}{CLOSE}"), vec!["200"]),
        (format!("\r\n{OK}\r\n{OK}{CLOSE}"), vec!["200", "200"]),
        ("GET /healthz HTTP/1.0\r\n\r\n".to_owned(), vec![]),
        (format!("{OK}x: {}\r\n{CLOSE}", "y".repeat(16_000)), vec!["200"]),
        (
            format!(
                "POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{OK}{CLOSE}"
            ),
            vec!["404", "200"],
        ),
    ] {
        let answer = answer_to(&world, &request).await;
        if expected.is_empty() {
            assert!(answer.starts_with("HTTP/1.0 200 "), "{request:?}: {answer}");
        } else {
            assert_eq!(statuses(&answer), expected, "{request:.100}: {answer}");
        }
    }
}

async fn is_refused(head: &str) {
    let world = World::start().await;
    // A second request that must not be seen.
    let answer = answer_to(&world, &format!("{head}\r\n{OK}{CLOSE}")).await;
    assert_eq!(statuses(&answer), ["400"], "{head:.100}: {answer}");
}

#[tokio::test]
async fn request_without_host_is_refused() {
    is_refused("GET /healthz HTTP/1.1\r\n").await;
}

#[tokio::test]
async fn request_with_two_hosts_is_refused() {
    is_refused("GET /healthz HTTP/1.1\r\nhost: x\r\nhost: x\r\n").await;
}

#[tokio::test]
async fn transfer_coding_other_than_chunked_is_refused() {
    is_refused("POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n").await;
    is_refused("POST /nowhere HTTP/1.0\r\ntransfer-encoding: chunked\r\n").await;
}

#[tokio::test]
async fn request_with_two_lengths_is_refused() {
    is_refused("POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n").await;
    is_refused("POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\ncontent-length: 0\r\n").await;
}

#[tokio::test]
async fn line_that_ends_with_lf_alone_is_refused() {
    is_refused("GET /healthz HTTP/1.1\nhost: x\r\n").await;
    is_refused("GET /healthz HTTP/1.1\r\nhost: x\n").await;
    is_refused("GET /healthz HTTP/1.1\r\nhost: x\r\na: b\n").await;
}

#[tokio::test]
async fn head_that_turns_bad_in_a_later_packet_is_refused() {
    let world = World::start().await;
    for (first, second) in [
        ("GET /healthz HTTP/1.1\r\nhost: x\r\nexpect: y", "z\n\r\n"),
        ("GET /healthz HTTP/1.1\r\nhost: x\r", "\nhost: y\r\n\r\n"),
        ("GET /healthz HTTP/1.1\r", "\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        // Another connection is answered in between, so that the server has seen the first part.
        assert!(world.answers().await);
        stream.write_all(second.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(statuses(&answer), ["400"], "{second:?}: {answer}");
    }
}

#[tokio::test]
async fn chunk_with_a_wrong_end_is_refused() {
    let world = World::start().await;
    let head = "POST /api/accounts/start HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = answer_to(&world, &format!("{head}2\r\n{{}}\n0\r\n\r\n{OK}{CLOSE}")).await;
    assert_eq!(statuses(&answer), ["400"], "{answer}");
}

#[tokio::test]
async fn head_that_is_too_large_is_refused() {
    let world = World::start().await;
    for request in [
        format!("{OK}x: {}\r\n{CLOSE}", "y".repeat(300_000)),
        format!("{OK}{}{CLOSE}", format!("x: {}\r\n", "y".repeat(3_000)).repeat(90)),
        format!("{OK}{}{CLOSE}", "x: y\r\n".repeat(200)),
    ] {
        let answer = answer_to(&world, &request).await;
        assert_eq!(statuses(&answer), ["431"], "{answer}");
    }
}
