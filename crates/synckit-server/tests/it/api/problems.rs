//! Whatever goes wrong is a problem with a stable code.

use reqwest::Method;

use crate::support::World;

#[tokio::test]
async fn an_unknown_route_is_a_problem() {
    let world = World::start().await;
    for path in [
        "/",
        "/api",
        "/api/sync",
        "/api/sync/nothing",
        "/api/sync/push/",
        "/blobs",
        "/blobs/a/b",
        "/blobs/%ff",
    ] {
        assert_eq!(world.get(path).send().await.code(), "not_found", "{path}");
    }
    let answer = world.get("/nowhere").send().await;
    insta::assert_json_snapshot!(answer.json(), { ".request_id" => "[id]" }, @r#"
    {
      "code": "not_found",
      "request_id": "[id]",
      "status": 404,
      "title": "No such route",
      "type": "urn:synckit:problem:not_found"
    }
    "#);
}

#[tokio::test]
async fn a_wrong_method_says_which_are_allowed() {
    let world = World::start().await;
    let answer = world.get("/api/sync/push").send().await;
    assert_eq!(
        (answer.code().as_str(), answer.header("allow")),
        ("method_not_allowed", "POST")
    );
    let answer = world.call(Method::DELETE, "/api/sync/keys").send().await;
    assert_eq!(
        (answer.code().as_str(), answer.header("allow")),
        ("method_not_allowed", "GET,HEAD,PUT")
    );
}

#[tokio::test]
async fn a_body_must_say_what_it_is() {
    let world = World::start().await;
    let post = || world.post("/api/sync/auth/start");
    assert_eq!(post().send().await.code(), "unsupported_media_type");
    assert_eq!(post().raw("{}").send().await.code(), "unsupported_media_type");
    assert_eq!(
        post().text("text/plain", "{}").send().await.code(),
        "unsupported_media_type"
    );
    assert_eq!(
        post().text("application/jsonx", "{}").send().await.code(),
        "unsupported_media_type"
    );
    assert_eq!(
        post().text("Application/JSON; charset=utf-8", "{}").send().await.code(),
        "malformed_body"
    );
}

#[tokio::test]
async fn malformed_body_is_explained_without_its_values() {
    let world = World::start().await;
    let detail = async |content_type: &str, body: &[u8]| {
        let answer = world
            .post("/api/sync/auth")
            .bytes(content_type, body.to_vec())
            .send()
            .await;
        assert_eq!(answer.code(), "malformed_body");
        answer.problem().detail.unwrap()
    };
    let json = async |body: &str| detail("application/json", body.as_bytes()).await;
    assert_eq!(json("{}").await, "missing field `api_key` at line 1 column 2");
    assert_eq!(json("").await, "EOF while parsing a value at line 1 column 0");
    let secret = json(r#"{"api_key": 5, "password": ["hunter2"]}"#).await;
    assert_eq!(secret, "line 1 column 13: a value of another type or form is expected");
    assert!(
        !json(r#"{"api_key": "k", "password": ["hunter2"]}"#)
            .await
            .contains("hunter2")
    );
    assert_eq!(detail("application/cbor", &[0xa0]).await, "missing field `api_key`");
    assert_eq!(
        detail("application/cbor", &[0xff]).await,
        "the body is not one value in well-formed CBOR"
    );
    let mut trailing = minicbor_serde::to_vec(serde_json::json!({ "api_key": "k" })).unwrap();
    trailing.push(0);
    assert_eq!(
        detail("application/cbor", &trailing).await,
        "the body is not one value in well-formed CBOR"
    );
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert!(deep.len() > 65_536);
    assert_eq!(
        world
            .post("/api/sync/auth")
            .text("application/json", deep)
            .send()
            .await
            .code(),
        "body_too_large"
    );
    let deep = format!("{{\"x\":{}", "[".repeat(60_000));
    assert_eq!(
        world
            .post("/api/sync/auth")
            .text("application/json", deep)
            .send()
            .await
            .code(),
        "malformed_body"
    );
}

#[tokio::test]
async fn large_body_is_refused_announced_or_not() {
    let world = World::start().await;
    let body = vec![b' '; 70_000];
    let answer = world
        .post("/api/sync/auth")
        .bytes("application/json", body.clone())
        .send()
        .await;
    assert_eq!(answer.code(), "body_too_large");
    let pieces: Vec<std::io::Result<bytes::Bytes>> = vec![Ok(body.into())];
    let streamed = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let answer = world
        .post("/api/sync/auth")
        .header("content-type", "application/json")
        .raw(streamed)
        .send()
        .await;
    assert_eq!(answer.code(), "body_too_large");
}

#[tokio::test]
async fn a_refused_large_push_still_gets_its_answer() {
    let world = World::start().await;
    // The token is looked at before the body; the body is taken in all the same, or the answer would be lost.
    let answer = world
        .post("/api/sync/push")
        .bytes("application/cbor", vec![0; 5_000_000])
        .send()
        .await;
    assert_eq!(answer.code(), "token_invalid");
}

#[tokio::test]
async fn every_answer_has_an_id_and_is_not_cached() {
    let world = World::start().await;
    let mut ids = Vec::new();
    for path in ["/healthz", "/readyz", "/nowhere", "/api/sync/status"] {
        let answer = world
            .get(path)
            .header("x-request-id", "chosen-by-the-client")
            .send()
            .await;
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        ids.push(answer.header("x-request-id").to_owned());
    }
    assert!(ids.iter().all(|id| id.len() == 16));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn a_body_that_does_not_come_times_out() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::start_with(|config| config.timeouts.request_body = std::time::Duration::from_millis(50)).await;
    let mut stream = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let head = "POST /api/sync/auth HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.contains("\"code\":\"timeout\"") && answer.contains("retry-after: 1"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_head_that_does_not_come_times_out() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::start_with(|config| config.timeouts.request_head = std::time::Duration::from_millis(50)).await;
    let mut stream = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
}

#[tokio::test]
async fn embedded_load_beyond_the_bounds_is_shed() {
    let world = World::start_with(|config| config.bounds.requests = 1).await;
    let user = world.user("ada@example.com").await;
    // A write that waits for another process is at work.
    let blockade = rusqlite::Connection::open(world.path().join("synckit.db")).unwrap();
    blockade.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writing = user.register_device(&world, "laptop");
    let shed_then_go_on = async {
        while crate::limits::figure(&world, "synckit_requests_at_work").await == 0 {
            tokio::task::yield_now().await;
        }
        let shed = world.get("/api/sync/status").bearer(&user.token).send().await;
        assert_eq!((shed.code().as_str(), shed.header("retry-after")), ("overloaded", "1"));
        assert_eq!(world.get("/healthz").send().await.code(), "200");
        blockade.execute_batch("ROLLBACK").unwrap();
    };
    tokio::join!(writing, shed_then_go_on);
}

#[tokio::test]
async fn health_and_readiness_are_told() {
    let world = World::start().await;
    assert_eq!(
        world.get("/healthz").send().await.json(),
        serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION"), "protocol": 1 })
    );
    assert_eq!(
        world.get("/readyz").send().await.json(),
        serde_json::json!({ "status": "ready" })
    );
}
