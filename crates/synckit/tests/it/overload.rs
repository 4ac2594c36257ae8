//! A real server under more than it has memory for: it refuses instead of growing, and the SDK comes back.
#![cfg(target_os = "linux")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    thread,
    time::Duration,
};

use serde_json::json;
use synckit_client::{ChangeEntry, ChangeOp, MemoryStore, SyncKitClient, SyncKitConfig, Timestamp};
use synckit_protocol::limits::PUSH_BODY_BYTES_MAX;

use crate::{http, program::Server};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery staple";
/// The memory for bodies that the server gets, its least.
const MEMORY: usize = 16 << 20;
/// Clients that push as much as they may, all at once: 21 times the memory.
const CLIENTS: usize = 64;

/// A server with little memory, an account on it, and a token for raw requests.
struct Scene {
    server: Server,
    client: SyncKitClient,
    device_id: synckit_client::DeviceId,
    token: String,
}

impl Scene {
    async fn set_up() -> Self {
        let server = Server::start_with(&["--push-body-memory=16MiB", "--allow-password-login", "--log=error"]);
        let api_key = server.create_app();
        let config = SyncKitConfig {
            server_url: server.url.clone(),
            api_key: api_key.clone(),
        };
        let client = SyncKitClient::builder(config)
            .credential_store(MemoryStore::default())
            .build();
        client.create_account(EMAIL, PASSWORD).await.unwrap();
        client.authenticate(EMAIL, PASSWORD).await.unwrap();
        client.setup_encryption_new(PASSWORD).await.unwrap();
        let device_id = client.register_device("laptop", "linux").await.unwrap();
        let body = json!({ "api_key": api_key, "email": EMAIL, "password": PASSWORD });
        let signed_in = http::post(&server.url, "/api/sync/auth", None, &body);
        let token = signed_in["token"].as_str().unwrap().to_owned();
        Self {
            server,
            client,
            device_id: device_id.id,
            token,
        }
    }

    /// A push whose body comes whole but for its last byte.
    fn almost_push(&self, bytes: usize) -> TcpStream {
        let mut stream = http::begin(&self.server.url, "POST /api/sync/push", Some(&self.token), bytes);
        // A server that does not read leaves the rest on this side, and one that waits for the last byte says nothing.
        stream.set_read_timeout(Some(Duration::from_secs(12))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(8))).unwrap();
        let piece = vec![b' '; 64 * 1024];
        let mut left = bytes - 1;
        while left > 0 {
            match stream.write(&piece[..left.min(piece.len())]) {
                Ok(written) => left -= written,
                Err(_) => break,
            }
        }
        stream
    }

    /// A figure of `/metrics`.
    fn figure(&self, name: &str) -> usize {
        let text = http::get(&self.server.url, "/metrics", None).body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// A line of `/proc/<pid>/status`, in bytes.
    fn memory(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.process_id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let kib: usize = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        kib * 1024
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_large_bodies_is_refused_in_bounded_memory() {
    let scene = Scene::set_up().await;
    let before = scene.memory("VmRSS:");
    let refused = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| http::Answer::read_head(scene.almost_push(PUSH_BODY_BYTES_MAX))))
            .collect();
        let heads = clients.into_iter().map(|client| client.join().unwrap());
        heads
            .filter(|head| head.starts_with("HTTP/1.1 503") && head.contains("retry-after: "))
            .count()
    });
    let grown = scene.memory("VmHWM:").saturating_sub(before);
    // One body fits into the share of the account. It, and what the sockets of all of them hold in the server, are far less than what was sent.
    assert!(refused >= CLIENTS - 5, "{refused} of {CLIENTS} were refused");
    let allowed = 2 * MEMORY + CLIENTS * (1 << 20);
    assert!(grown < allowed, "the server grew by {grown} bytes");
    assert!(allowed * 3 < CLIENTS * PUSH_BODY_BYTES_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_retries_a_push_that_was_shed() {
    let scene = Scene::set_up().await;
    // One of the largest bodies is the share of an account of so little memory.
    let hog = scene.almost_push(PUSH_BODY_BYTES_MAX);
    while scene.figure("synckit_push_memory_bytes") < PUSH_BODY_BYTES_MAX {
        thread::yield_now();
    }
    let change = ChangeEntry {
        table: "notes".to_owned(),
        op: ChangeOp::Insert,
        row_id: "1".to_owned(),
        timestamp: Timestamp::from_micros(0),
        // Too large for the memory of small bodies.
        data: Some(json!({ "text": "x".repeat(200_000) })),
    };
    let pushing = scene.client.push(scene.device_id, vec![change]);
    let releasing = async {
        while scene.figure(r#"synckit_problems_total{code="overloaded"}"#) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(hog);
    };
    let (pushed, ()) = tokio::join!(pushing, releasing);
    pushed.unwrap();
    let status = scene.client.status().await.unwrap();
    assert_eq!(status.change_count, 1, "stored, and once");
}

#[test]
fn few_descriptors_bound_the_connections() {
    let directory = tempfile::tempdir().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let mut command = Command::new("sh");
    // As if through a proxy, so that all connections are the share of one address.
    command
        .args([
            "-c",
            "ulimit -n 128 && exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_synckit"),
        ])
        .args([
            "serve",
            "--listen=127.0.0.1:0",
            "--trusted-proxies=127.0.0.1",
            "--data-dir",
        ])
        .arg(directory.path().join("data"));
    let server = Server::spawn_logging(command, directory, fs::File::create(&log).unwrap());
    let ask = |mut stream: &TcpStream, path: &str| {
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let address = server.url.trim_start_matches("http://");
    let mut connections = Vec::new();
    let refused = loop {
        let stream = TcpStream::connect(address).unwrap();
        let answer = ask(&stream, "/healthz");
        if !answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
        connections.push(stream);
    };
    // 128 descriptors are 64 for the server itself, and two for each transfer over a connection.
    assert_eq!(connections.len(), 32);
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("overloaded"),
        "{refused}"
    );
    let ready = ask(&connections[0], "/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 503") && ready.contains("used up: connections"),
        "{ready}"
    );
    // Lines are written a moment after their request, and all of them before the server has stopped.
    server.stop();
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("too few descriptors"), "{log}");
    assert!(log.contains("a pool is used up"), "{log}");
}
