//! Starting, stopping, and what lies in the data directory.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use reqwest::StatusCode;
use synckit_protocol::{Cursor, limits, wire::log::Pushed};
use synckit_server::{Admin, Clock, Config, KeyFileError, ServeError, Server, admin::AdminError};
use synckit_store::StoreError;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{BEGINNING, PASSWORD, World};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_first_start_makes_a_private_data_directory() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("a/b/data");
    let server = Server::open(Config::new(&root)).await.unwrap();
    for directory in ["", "keys", "blobs"] {
        assert_eq!(mode(&root.join(directory)), 0o700, "{directory}");
    }
    for file in ["synckit.db", "keys/opaque.key", "keys/tokens.json", "keys/server.key"] {
        assert_eq!(mode(&root.join(file)), 0o600, "{file}");
    }
    drop(server);
    assert_eq!(std::fs::read(root.join("keys/server.key")).unwrap().len(), 32);
}

#[tokio::test]
async fn a_lost_database_beside_keys_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(Server::open(Config::new(dir.path())).await.unwrap());
    let database = dir.path().join("synckit.db");
    // A transfer into it that goes on is no loss.
    let unfinished = dir.path().join("synckit.db.unfinished");
    std::fs::rename(&database, &unfinished).unwrap();
    let error = Server::open(Config::new(dir.path())).await.unwrap_err();
    assert!(matches!(error, ServeError::Store(StoreError::Unfinished)), "{error:?}");
    std::fs::rename(&unfinished, &database).unwrap();
    let tableless = dir.path().join("tableless");
    rusqlite::Connection::open(&tableless)
        .unwrap()
        .execute_batch("PRAGMA user_version = 1; PRAGMA user_version = 0")
        .unwrap();
    let tableless = std::fs::read(tableless).unwrap();
    let shard = dir.path().join("blobs/0a");
    std::fs::create_dir(&shard).unwrap();
    for (contents, said) in [
        (None, "synckit.db is missing, but keys/ has key files: "),
        (Some(vec![]), "synckit.db is empty, but keys/ has key files: "),
        (Some(tableless), "synckit.db is empty, but keys/ has key files: "),
    ] {
        std::fs::remove_file(&database).unwrap_or_default();
        if let Some(contents) = &contents {
            std::fs::write(&database, contents).unwrap();
        }
        let error = Server::open(Config::new(dir.path())).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        let error = Admin::open(dir.path()).unwrap_err();
        assert!(
            error.to_string().contains("restore the database from a backup"),
            "{error}"
        );
        assert_eq!(std::fs::read(&database).ok(), contents, "it was touched");
    }
    std::fs::remove_file(&database).unwrap();
    std::fs::write(shard.join("an object"), "x").unwrap();
    std::fs::remove_dir_all(dir.path().join("keys")).unwrap();
    let error = Server::open(Config::new(dir.path())).await.unwrap_err();
    assert!(error.to_string().contains("but blobs/ has files of users: "), "{error}");
    std::fs::remove_dir_all(shard).unwrap();
    std::fs::write(&database, "").unwrap();
    std::fs::write(dir.path().join("synckit.db-wal"), "the log of it").unwrap();
    let error = Server::open(Config::new(dir.path())).await.unwrap_err();
    assert!(
        error.to_string().contains("but its write-ahead log is not: "),
        "{error}"
    );
    std::fs::remove_file(dir.path().join("synckit.db-wal")).unwrap();
    // Nothing of before: this is how a first start looks that was killed.
    drop(Server::open(Config::new(dir.path())).await.unwrap());
}

#[tokio::test]
async fn a_second_process_is_refused_and_a_later_one_is_not() {
    let dir = TempDir::new().unwrap();
    let first = Server::open(Config::new(dir.path())).await.unwrap();
    let second = Server::open(Config::new(dir.path())).await.unwrap_err();
    assert!(
        second.to_string().starts_with("another process serves from"),
        "{second}"
    );
    drop(first);
    Server::open(Config::new(dir.path())).await.unwrap();
}

#[tokio::test]
async fn a_key_file_that_others_can_read_is_refused() {
    for file in ["opaque.key", "tokens.json", "server.key"] {
        let dir = TempDir::new().unwrap();
        drop(Server::open(Config::new(dir.path())).await.unwrap());
        let path = dir.path().join("keys").join(file);
        for exposed in [0o640, 0o604, 0o660] {
            set_mode(&path, exposed);
            let error = Server::open(Config::new(dir.path())).await.unwrap_err();
            assert!(matches!(&error, ServeError::Keys(KeyFileError::Exposed { mode, .. }) if *mode == exposed));
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        set_mode(&path, 0o400);
        Server::open(Config::new(dir.path())).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_key_file_is_refused() {
    for file in ["opaque.key", "tokens.json", "server.key"] {
        for contents in [&b""[..], b"{}", b"{\"keys\":[]}", &[7; 33]] {
            let dir = TempDir::new().unwrap();
            drop(Server::open(Config::new(dir.path())).await.unwrap());
            std::fs::write(dir.path().join("keys").join(file), contents).unwrap();
            let error = Server::open(Config::new(dir.path())).await.unwrap_err();
            assert!(
                matches!(error, ServeError::Keys(KeyFileError::Damaged { .. })),
                "{file}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn lost_oprf_seed_is_accepted_only_on_request() {
    let mut world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    world.stop().await.unwrap();
    let seed = world.path().join("keys/opaque.key");
    let kept = std::fs::read(&seed).unwrap();

    std::fs::remove_file(&seed).unwrap();
    let error = Server::open(world.config()).await.unwrap_err();
    assert!(matches!(
        error,
        ServeError::Keys(KeyFileError::LoginSecretsMissing { .. })
    ));
    assert!(error.to_string().contains("--accept-new-oprf-seed"), "{error}");
    assert!(!seed.exists(), "nothing stands in the way of the backup");

    let other = TempDir::new().unwrap();
    drop(Server::open(Config::new(other.path())).await.unwrap());
    std::fs::copy(other.path().join("keys/opaque.key"), &seed).unwrap();
    let error = Server::open(world.config()).await.unwrap_err();
    assert!(matches!(error, ServeError::OtherSeed));
    assert!(error.to_string().contains("--accept-new-oprf-seed"), "{error}");

    std::fs::write(&seed, kept).unwrap();
    let mut world = world.restart().await;
    world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    world.stop().await.unwrap();

    std::fs::remove_file(&seed).unwrap();
    let mut world = world.restart_with(|config| config.accept_new_oprf_seed = true).await;
    let refused = world
        .sign_in("ada@example.com", PASSWORD)
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(refused.code, "invalid_credentials");
    user.push(&world, 1, 100).await;
    world.stop().await.unwrap();
    let world = world.restart().await;
    user.push(&world, 1, 100).await;
}

/// A key file in the wrong directory would keep the server from its next start, too.
#[tokio::test]
async fn refused_start_makes_no_key_file() {
    let [directory, other] = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    for root in [&directory, &other] {
        drop(Server::open(Config::new(root.path())).await.unwrap());
    }
    let keys = directory.path().join("keys");
    let files = || {
        let files = std::fs::read_dir(&keys).unwrap();
        files.map(|file| file.unwrap().file_name()).collect::<Vec<_>>()
    };
    std::fs::remove_dir_all(&keys).unwrap();
    // No account exists: the database names its seed.
    let error = Server::open(Config::new(directory.path())).await.unwrap_err();
    let is_named = matches!(error, ServeError::Keys(KeyFileError::LoginSecretsMissing { .. }));
    assert!(is_named, "{error}");
    assert!(files().is_empty(), "{:?}", files());

    std::fs::copy(other.path().join("keys/opaque.key"), keys.join("opaque.key")).unwrap();
    let error = Server::open(Config::new(directory.path())).await.unwrap_err();
    assert!(matches!(error, ServeError::OtherSeed), "{error}");
    assert_eq!(files(), ["opaque.key"]);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_stop() {
    let mut world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    let (push, pushed) = user.push(&world, 3, 1000).await;
    world.stop().await.unwrap();
    assert!(
        !world.path().join("synckit.db-wal").exists(),
        "an orderly stop leaves one file"
    );
    let world = world.restart().await;
    assert_eq!(user.send(&world, &push).await.ok::<Pushed>(), pushed);
    assert_eq!(user.page(&world, Cursor::START).await.batches.len(), 1);
}

#[tokio::test]
async fn running_request_ends_before_the_server_stops() {
    let mut world = World::start().await;
    let mut user = world.ready_user("ada@example.com").await;
    let push = user.batch(3, 1000);
    let body = minicbor_serde::to_vec(&push).unwrap();
    let mut slow = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let head = format!(
        "POST /api/sync/push HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nexpect: 100-continue\r\n\
         content-type: application/cbor\r\ncontent-length: {}\r\n\r\n",
        user.user.token,
        body.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut continued = [0; 25];
    slow.read_exact(&mut continued).await.unwrap();

    world.tell_to_stop();
    // No new connection is taken from here on.
    while tokio::net::TcpStream::connect(world.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    slow.write_all(&body).await.unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    world.stop().await.unwrap();
    let world = world.restart().await;
    assert_eq!(user.page(&world, Cursor::START).await.batches[0].sealed, push.sealed);
}

#[tokio::test]
async fn endless_connection_is_cut_after_the_grace_time() {
    let mut world =
        World::start_with(|config| config.timeouts.shutdown_grace = std::time::Duration::from_millis(50)).await;
    let mut slow = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let head = "POST /api/sync/auth HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\
                content-type: application/json\r\ncontent-length: 5\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut continued = [0; 25];
    slow.read_exact(&mut continued).await.unwrap();
    world.stop().await.unwrap();
    Server::open(world.config()).await.unwrap();
}

#[tokio::test]
async fn half_a_request_head_does_not_delay_the_stop() {
    // The end of the grace time would be the end of this test's patience.
    let grace = std::time::Duration::from_secs(3600);
    let mut world = World::start_with(|config| config.timeouts.shutdown_grace = grace).await;
    let mut stuck = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    stuck.write_all(b"GET /healthz HTTP/1.1\r\nho").await.unwrap();
    // A connection that was used, too.
    let mut used = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    used.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    used.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    used.write_all(b"GET /healthz HTTP/1.1\r\nho").await.unwrap();
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, world.stop()).await.unwrap().unwrap();
}

#[tokio::test]
async fn background_work_that_panicked_is_tried_again() {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        time::{Duration, UNIX_EPOCH},
    };
    // The clock panics at time 0.
    let (time, panics) = (Arc::new(AtomicU64::new(BEGINNING)), Arc::new(AtomicU64::new(0)));
    let clock = {
        let (time, panics) = (Arc::clone(&time), Arc::clone(&panics));
        Clock::from_fn(move || match time.load(Ordering::SeqCst) {
            0 => {
                panics.fetch_add(1, Ordering::SeqCst);
                panic!("the clock broke")
            }
            time => UNIX_EPOCH + Duration::from_secs(time),
        })
    };
    let mut world = World::start_with(|config| {
        config.sweep_interval = Duration::from_millis(20);
        config.clock = clock;
    })
    .await;
    let user = world.user("ada@example.com").await;
    let upload = user.upload_object(&world).await;
    assert!(upload.is_file());
    time.store(0, Ordering::SeqCst);
    // Both kinds of work, several times.
    while panics.load(Ordering::SeqCst) < 6 {
        tokio::task::yield_now().await;
    }
    assert!(upload.is_file());
    let later = limits::PRESIGNED_URL_SECONDS + limits::UPLOAD_SWEEP_SECONDS + 1;
    time.store(BEGINNING + later, Ordering::SeqCst);
    while upload.is_file() {
        tokio::task::yield_now().await;
    }
    world.stop().await.unwrap();
}

#[tokio::test]
async fn the_router_works_without_a_network() {
    use tower::ServiceExt as _;
    let dir = TempDir::new().unwrap();
    let server = Server::open(Config::new(dir.path())).await.unwrap();
    let app = server.admin().create_app("Notes").await.unwrap();
    let body = serde_json::json!({ "api_key": app.api_key, "email": "a@b.example", "password": "p" });
    let request = http::Request::post("/api/sync/auth")
        .header("content-type", "application/json")
        .body(axum::body::Body::from(body.to_string()))
        .unwrap();
    let response = server.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let _: &Admin = &server.admin();
}

#[tokio::test]
async fn embedded_older_running_server_keeps_schema() {
    let mut world = World::start().await;
    // From its first answer on it runs.
    world.get("/readyz").send().await;
    let database = rusqlite::Connection::open(world.path().join("synckit.db")).unwrap();
    let make_older = "UPDATE refinery_schema_history SET version = version - 1";
    database.execute(make_older, []).unwrap();
    let version = || -> u32 {
        let newest = "SELECT max(version) FROM refinery_schema_history";
        database.query_row(newest, [], |row| row.get(0)).unwrap()
    };
    let older = version();
    match Admin::open(world.path()) {
        Err(AdminError::OlderServer { found, known }) => assert!(found == older && known > older),
        other => panic!("{other:?}"),
    }
    assert_eq!(version(), older);
    drop(database);
    world.stop().await.unwrap();
}

#[tokio::test]
async fn embedded_readiness_writes_seldom() {
    let world = World::start().await;
    let asked = futures_util::future::join_all((0..200).map(|_| world.get("/readyz").send())).await;
    assert!(asked.iter().all(|answer| answer.status == StatusCode::OK));
    let database = rusqlite::Connection::open(world.path().join("synckit.db")).unwrap();
    let written: u32 = database
        .query_row("SELECT checks FROM server", [], |row| row.get(0))
        .unwrap();
    assert!((1..100).contains(&written), "{written} writes");
}
