//! Nothing that is the user's reaches the server: canaries in every plaintext, key and password, looked for in the
//! server's data directory, in its log at the finest level, in the memory of its process, as a core dump has it, and in
//! what it says when it panics and when it is aborted.
//!
//! What the server does know (an address, a sealed batch, a route) is looked for in the same places and found there.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use rand::rngs::OsRng;
use rustix::process::{Pid, Signal, kill_process};
use synckit_client::{
    ChangeEntry, ChangeOp, Cursor, FileStore, SyncKitClient, SyncKitConfig, Timestamp, UserId,
    transport::{HttpTransport, RequestBody, Transport as _},
};
use synckit_crypto::{KeyRing, MasterKey, StreamScope, Vault};
use synckit_login::{ClientLogin, ExportKey};
use synckit_protocol::{
    ApiKey, LOGIN_SUITE,
    wire::auth::{LoginStart, LoginStarted},
};
use synckit_server::Admin;
use synckit_sim::{
    golden::{credential_file, stored_key_ring},
    scan::{Needle, found_in, found_in_folder, found_in_memory},
};

/// A server in a process of its own.
struct Server {
    process: Child,
    url: String,
    data_dir: PathBuf,
    log: PathBuf,
    /// While this file is there, the server panics with its text.
    panic_with: PathBuf,
}

impl Server {
    fn start(directory: &Path) -> Self {
        let (data_dir, log) = (directory.join("data"), directory.join("log"));
        let panic_with = directory.join("panic with");
        let mut process = Command::new(env!("CARGO_BIN_EXE_synckit-sim"))
            .arg("serve")
            .arg(&data_dir)
            .arg("--panic-with")
            .arg(&panic_with)
            .env("RUST_BACKTRACE", "full")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        Self {
            process,
            url: format!("http://{}", address.trim()),
            data_dir,
            log,
            panic_with,
        }
    }

    fn log(&self) -> Vec<u8> {
        fs::read(&self.log).unwrap()
    }

    /// Posts JSON, and reads the answer.
    async fn post(&self, path: &str, token: Option<&str>, body: impl Into<Bytes>) -> (u16, Bytes) {
        let mut request = http::Request::post(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .header("accept", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(RequestBody::Full(body.into())).unwrap();
        let transport = HttpTransport::new(Duration::from_secs(10));
        let (head, body) = transport.send(request).await.unwrap().into_parts();
        let body: Vec<Bytes> = body.try_collect().await.unwrap();
        (head.status.as_u16(), body.concat().into())
    }

    fn abort(&mut self) {
        let process_id = Pid::from_raw(self.process.id().try_into().unwrap()).unwrap();
        kill_process(process_id, Signal::ABORT).unwrap();
        let status = self.process.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
    }
}

const EMAIL: &str = "canary-address@example.test";
const PASSWORD: &str = "canary-password-7f3a";
const NEW_PASSWORD: &str = "canary-password-after-19c2";
const WRONG_PASSWORD: &str = "canary-wrong-password-55";
const DEVICE: &str = "canary-device-name";
const FILE: &[u8] = b"canary-file-contents-8d21 canary-file-contents-8d21";
const PLAINTEXTS: [&str; 5] = [
    "canary_table_5e0b",
    "canary-row-id-a41c",
    "canary_field_77d9",
    "canary-value-c3f8",
    "canary-nested-04ab",
];

fn canary_change(number: usize) -> ChangeEntry {
    let [table, row, field, value, nested] = PLAINTEXTS;
    ChangeEntry {
        table: table.to_owned(),
        op: ChangeOp::Insert,
        row_id: format!("{row}-{number}"),
        timestamp: Timestamp::from_micros(1_700_000_000_000_000),
        data: Some(serde_json::json!({ field: value, "list": [{ "deep": nested }] })),
    }
}

/// What the user did, and what must stay hers alone.
struct Secrets {
    /// The server is never told.
    never: Vec<Needle>,
    /// The server is told, and must not keep or write down.
    passing: Vec<Needle>,
    api_key: String,
    token: String,
}

async fn sync_everything(server: &Server, directory: &Path) -> Secrets {
    let app = Admin::open(&server.data_dir)
        .unwrap()
        .create_app("canary app")
        .await
        .unwrap();
    let api_key = app.api_key.expose().to_owned();
    let installation = |name: &str| {
        SyncKitClient::builder(SyncKitConfig {
            server_url: server.url.clone(),
            api_key: api_key.clone(),
        })
        .credential_store(FileStore::new(credential_file(directory, name)))
        .build()
    };
    let laptop = installation("laptop");
    laptop.create_account(EMAIL, PASSWORD).await.unwrap();
    let (user_id, _) = laptop.authenticate(EMAIL, PASSWORD).await.unwrap();
    laptop.setup_encryption_new(PASSWORD).await.unwrap();
    let first_export_key = export_key(server, &api_key, PASSWORD).await;
    let code = laptop.recovery_code(PASSWORD).await.unwrap();
    let id = laptop.register_device(DEVICE, "linux").await.unwrap().id;
    laptop.push(id, (0..20).map(canary_change).collect()).await.unwrap();
    let hash = laptop.blob_put(FILE.to_vec(), |_| {}).await.unwrap();
    laptop.change_password(PASSWORD, NEW_PASSWORD).await.unwrap();
    laptop.rotate_keys(NEW_PASSWORD).await.unwrap();
    laptop.push(id, (20..40).map(canary_change).collect()).await.unwrap();

    let phone = installation("phone");
    assert!(phone.authenticate(EMAIL, WRONG_PASSWORD).await.is_err());
    phone.authenticate(EMAIL, NEW_PASSWORD).await.unwrap();
    phone.setup_encryption_existing(NEW_PASSWORD).await.unwrap();
    let id = phone.register_device("phone", "android").await.unwrap().id;
    assert_eq!(phone.pull(id, Cursor::START).await.unwrap().0.len(), 40);
    let url = phone.blob_download_url(&hash).await.unwrap();
    assert_eq!(phone.blob_download(&url).await.unwrap(), FILE);
    let last_export_key = export_key(server, &api_key, NEW_PASSWORD).await;

    let scope = StreamScope {
        app_id: app.app_id,
        user_id,
    };
    let ring = stored_key_ring(&credential_file(directory, "phone"), &scope).unwrap();
    let mut never: Vec<Needle> = PLAINTEXTS
        .iter()
        .chain(&[PASSWORD, NEW_PASSWORD, WRONG_PASSWORD])
        .map(|text| Needle::new(*text, text.as_bytes()))
        .collect();
    never.push(Needle::new("file contents", b"canary-file-contents"));
    never.push(Needle::new("file hash", hash.as_bytes()));
    never.push(Needle::new("file hash in hex", hash.to_string().as_bytes()));
    never.push(Needle::new("recovery code", code.words().as_bytes()));
    never.extend(key_needles(&scope, &ring));
    let account_key = vault(server, &user_id)
        .open_with_password(&user_id, &last_export_key)
        .unwrap();
    never.extend(needles_of("account key", account_key.expose_bytes()));
    never.extend(needles_of(
        "export key of the first password",
        first_export_key.as_bytes(),
    ));
    never.extend(needles_of(
        "export key of the last password",
        last_export_key.as_bytes(),
    ));
    let session = Session::stored_in(&credential_file(directory, "phone"));
    let passing = vec![
        Needle::new("token", session.token.as_bytes()),
        Needle::new("refresh secret", session.refresh.as_bytes()),
    ];
    Secrets {
        never,
        passing,
        api_key,
        token: session.token,
    }
}

/// What only the password yields, as the device gets it, of a login that is then left.
async fn export_key(server: &Server, api_key: &str, password: &str) -> ExportKey {
    let (login, ke1) = ClientLogin::start(password, &mut OsRng).unwrap();
    let body = LoginStart {
        api_key: api_key.to_owned(),
        email: EMAIL.to_owned(),
        suite: LOGIN_SUITE,
        ke1: ke1.into(),
        code: None,
    };
    let body = serde_json::to_vec(&body).unwrap();
    let (status, answer) = server.post("/api/sync/auth/start", None, body).await;
    assert_eq!(status, 200);
    let started: LoginStarted = serde_json::from_slice(&answer).unwrap();
    let app_id = ApiKey::publishable(api_key).unwrap().app_id();
    login
        .finish(app_id, &started.ke2.0, None, &mut OsRng)
        .unwrap()
        .export_key
}

/// The database, as a thief reads it.
fn database(server: &Server) -> rusqlite::Connection {
    rusqlite::Connection::open(server.data_dir.join("synckit.db")).unwrap()
}

fn vault(server: &Server, user_id: &UserId) -> Vault {
    let sql = "SELECT vault FROM accounts WHERE user_id = ?1";
    let bytes: Vec<u8> = database(server)
        .query_row(sql, [user_id.as_bytes()], |row| row.get(0))
        .unwrap();
    Vault::decode(&bytes).unwrap()
}

/// All keys of a stream: the master keys, also the one that was retired, and what is derived from them.
fn key_needles(scope: &StreamScope, ring: &KeyRing) -> Vec<Needle> {
    assert_eq!(ring.retired().len(), 1);
    let of_master_key = |name: &str, key: &MasterKey| {
        let keys = key.subkeys(scope);
        [
            needles_of(name, key.expose_bytes()),
            needles_of(&format!("batch key of the {name}"), keys.batch.expose_bytes()),
            needles_of(&format!("blob key of the {name}"), keys.blob.expose_bytes()),
            needles_of(&format!("snapshot key of the {name}"), keys.snapshot.expose_bytes()),
        ]
        .into_iter()
        .flatten()
    };
    of_master_key("master key", ring.current())
        .chain(of_master_key("retired master key", ring.retired()[0].key()))
        .chain(needles_of("blob id key", ring.blob_id_key().expose_bytes()))
        .collect()
}

fn needles_of(name: &str, key: &[u8]) -> [Needle; 2] {
    let text = STANDARD.encode(key);
    // The last group of base64 may hold bits of what follows.
    let text = text.trim_end_matches('=');
    [
        Needle::new(name, key),
        Needle::new(format!("{name} in base64"), &text.as_bytes()[..text.len() - 1]),
    ]
}

/// Token and refresh secret, as a device's credential file holds them.
#[derive(serde::Deserialize)]
struct Session {
    token: String,
    refresh: String,
}

impl Session {
    fn stored_in(file: &Path) -> Self {
        let records: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let record = records.iter().find(|(name, _)| name.ends_with("/session")).unwrap().1;
        let record = STANDARD.decode(record.as_str().unwrap()).unwrap();
        minicbor_serde::from_slice(&record).unwrap()
    }
}

/// What the server must hold: the search that does not find it proves nothing.
fn known(server: &Server) -> Vec<Needle> {
    // A batch of this size is in a row of its own.
    let sql = "SELECT sealed FROM sealed_batches ORDER BY sealed_key DESC LIMIT 1";
    let sealed: Vec<u8> = database(server).query_row(sql, [], |row| row.get(0)).unwrap();
    vec![
        Needle::new("address", EMAIL.as_bytes()),
        Needle::new("device name", DEVICE.as_bytes()),
        Needle::new("sealed batch", &sealed[..64]),
    ]
}

fn assert_nothing_was_written_down(server: &Server, secrets: &Secrets) {
    for needles in [&secrets.never, &secrets.passing] {
        let found = found_in_folder(&server.data_dir, needles).unwrap();
        assert!(found.is_empty(), "{found:?}");
        let found = found_in(&server.log(), needles);
        assert!(found.is_empty(), "in the log: {found:?}");
    }
    for known in known(server) {
        let found = found_in_folder(&server.data_dir, std::slice::from_ref(&known)).unwrap();
        assert!(
            !found.is_empty(),
            "the search of files does not find the {}",
            known.name
        );
    }
    let route = [Needle::new("route", b"/api/sync/push")];
    assert!(!found_in(&server.log(), &route).is_empty());
}

#[tokio::test]
async fn no_secret_in_database_blobs_log_or_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path());
    let mut secrets = sync_everything(&server, directory.path()).await;

    let mut needles = known(&server);
    let held: Vec<String> = needles.iter().map(|needle| needle.name.clone()).collect();
    needles.append(&mut secrets.never);
    let (found, read_bytes) = found_in_memory(&server.process, &needles).unwrap();
    assert_eq!(found, held, "in {read_bytes} bytes of memory");
    secrets.never = needles.split_off(held.len());
    assert_nothing_was_written_down(&server, &secrets);

    server.abort();
    assert_nothing_was_written_down(&server, &secrets);
}

#[tokio::test]
async fn no_secret_is_in_what_a_panic_answers_and_logs() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let secrets = sync_everything(&server, directory.path()).await;
    // A panic that quotes what it was at, as `unwrap` of an error does.
    fs::write(
        &server.panic_with,
        format!("{} {}", secrets.token, PLAINTEXTS.join(" ")),
    )
    .unwrap();
    let [table, row, field, ..] = PLAINTEXTS;
    let login = serde_json::json!({
        "api_key": secrets.api_key, "email": EMAIL, "suite": LOGIN_SUITE, "ke1": STANDARD.encode([7; 96]), field: PASSWORD,
    });
    for (path, token, body) in [
        (format!("/api/sync/auth/start?{table}={row}"), None, login.to_string()),
        (
            format!("/api/sync/pull?{table}={row}"),
            Some(secrets.token.as_str()),
            login.to_string(),
        ),
    ] {
        let (status, answer) = server.post(&path, token, body).await;
        assert_eq!(status, 500, "{path}");
        for needles in [&secrets.never, &secrets.passing] {
            let found = found_in(&answer, needles);
            assert!(found.is_empty(), "{path} answered {found:?}");
        }
    }
    fs::remove_file(&server.panic_with).unwrap();

    assert_nothing_was_written_down(&server, &secrets);
    let log = String::from_utf8(server.log()).unwrap();
    let panics = log.lines().filter(|line| line.contains("panic location="));
    // The sweep may have looked at the clock, too.
    assert!(panics.count() >= 2, "the log says where each panic was");
    assert!(log.contains("panicking_clock"), "the log has no backtrace");
    // One request was lost each time, and nothing else.
    export_key(&server, &secrets.api_key, NEW_PASSWORD).await;
    let mut server = server;
    drop(server.process.stdin.take());
    assert!(server.process.wait().unwrap().success());
}
