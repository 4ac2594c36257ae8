//! Nothing that is the user's reaches the server: canaries in every plaintext, key and password, looked for in the
//! server's data directory, in its log at the finest level, and in the memory of its process, as a core dump has it.
//!
//! What the server does know (an address, a device's name, a route) is looked for in the same places and found there.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use synckit_client::{ChangeEntry, ChangeOp, CredentialStore, Cursor, SyncKitClient, SyncKitConfig, Timestamp};
use synckit_crypto::StreamScope;
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
}

impl Server {
    fn start(directory: &Path) -> Self {
        let (data_dir, log) = (directory.join("data"), directory.join("log"));
        let mut process = Command::new(env!("CARGO_BIN_EXE_synckit-sim"))
            .arg("serve")
            .arg(&data_dir)
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
        }
    }

    fn stop(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

const EMAIL: &str = "canary-address@example.test";
const PASSWORD: &str = "canary-password-7f3a";
const NEW_PASSWORD: &str = "canary-password-after-19c2";
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
        .credential_store(CredentialStore::File(credential_file(directory, name)))
        .build()
    };
    let laptop = installation("laptop");
    let user_id = laptop.create_account(EMAIL, PASSWORD).await.unwrap();
    laptop.authenticate(EMAIL, PASSWORD).await.unwrap();
    laptop.setup_encryption_new(PASSWORD).await.unwrap();
    let code = laptop.recovery_code(PASSWORD).await.unwrap();
    let id = laptop.register_device(DEVICE, "linux").await.unwrap().id;
    laptop.push(id, (0..20).map(canary_change).collect()).await.unwrap();
    let hash = laptop.blob_put(FILE.to_vec(), |_| {}).await.unwrap();
    laptop.change_password(PASSWORD, NEW_PASSWORD).await.unwrap();

    let phone = installation("phone");
    assert!(phone.authenticate(EMAIL, "canary-wrong-password-55").await.is_err());
    phone.authenticate(EMAIL, NEW_PASSWORD).await.unwrap();
    phone.setup_encryption_existing(NEW_PASSWORD).await.unwrap();
    let id = phone.register_device("phone", "android").await.unwrap().id;
    assert_eq!(phone.pull(id, Cursor::START).await.unwrap().0.len(), 20);
    let url = phone.blob_download_url(&hash).await.unwrap();
    assert_eq!(phone.blob_download(&url).await.unwrap(), FILE);

    let scope = StreamScope {
        app_id: app.app_id,
        user_id,
    };
    let ring = stored_key_ring(&credential_file(directory, "laptop"), &scope).unwrap();
    let mut never: Vec<Needle> = PLAINTEXTS
        .iter()
        .chain(&[PASSWORD, NEW_PASSWORD, "canary-wrong-password-55"])
        .map(|text| Needle::new(*text, text.as_bytes()))
        .collect();
    never.push(Needle::new("file contents", b"canary-file-contents"));
    never.push(Needle::new("file hash", hash.as_bytes()));
    never.push(Needle::new("recovery code", code.words().as_bytes()));
    for (name, key) in [
        ("master key", ring.current().expose_bytes()),
        ("blob id key", ring.blob_id_key().expose_bytes()),
    ] {
        never.push(Needle::new(name, key));
        never.push(Needle::new(
            format!("{name} in base64"),
            STANDARD.encode(key).as_bytes(),
        ));
    }
    let mut passing = vec![Needle::new("API key", api_key.as_bytes())];
    passing.extend(session_secrets(&credential_file(directory, "phone")));
    Secrets { never, passing }
}

/// Token and refresh secret, as a device's credential file holds them.
fn session_secrets(file: &Path) -> Vec<Needle> {
    #[derive(serde::Deserialize)]
    struct Session {
        token: String,
        refresh: String,
    }
    let records: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let record = records.iter().find(|(name, _)| name.ends_with("/session")).unwrap().1;
    let record = STANDARD.decode(record.as_str().unwrap()).unwrap();
    let session: Session = minicbor_serde::from_slice(&record).unwrap();
    vec![
        Needle::new("token", session.token.as_bytes()),
        Needle::new("refresh secret", session.refresh.as_bytes()),
    ]
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_secret_is_in_the_servers_database_blobs_log_or_memory() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let Secrets { never, passing } = sync_everything(&server, directory.path()).await;
    let known = [
        Needle::new("address", EMAIL.as_bytes()),
        Needle::new("device name", DEVICE.as_bytes()),
    ];

    let process_id = server.process.id();
    let (found, read_bytes) = found_in_memory(process_id, &never).unwrap();
    assert!(found.is_empty(), "in {read_bytes} bytes of memory: {found:?}");
    let (found, _) = found_in_memory(process_id, &known).unwrap();
    assert!(!found.is_empty(), "the search of memory finds nothing at all");

    for needles in [&never, &passing] {
        let found = found_in_folder(&server.data_dir, needles).unwrap();
        assert!(found.is_empty(), "{found:?}");
        let found = found_in(&std::fs::read(&server.log).unwrap(), needles);
        assert!(found.is_empty(), "in the log: {found:?}");
    }
    let found = found_in_folder(&server.data_dir, &known).unwrap();
    assert!(found.len() >= 2, "the search of files finds only {found:?}");
    let route = [Needle::new("route", b"/api/sync/push")];
    assert!(!found_in(&std::fs::read(&server.log).unwrap(), &route).is_empty());
    server.stop();
}
