//! `synckit doctor`: what it finds, what it says to do, and that it touches nothing.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::Connection;
use serde_json::Value;
use synckit_testbucket::{ACCESS_KEY, Mood, SECRET_KEY, TestBucket};
use tempfile::TempDir;

use crate::program::{Ended, Server, on_data_dir, run, run_with, synckit};

/// A data directory that a server with one app left in order.
struct Stopped {
    _directory: TempDir,
    path: PathBuf,
}

impl Stopped {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let mut command = synckit();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&path);
        let server = Server::spawn(command, tempfile::tempdir().unwrap());
        on_data_dir(&path, &["app", "create", "Notes"]).expect_code(0);
        server.stop();
        Self {
            _directory: directory,
            path,
        }
    }

    fn doctor(&self) -> Command {
        let mut command = synckit();
        // Any free port: what else runs on this machine is none of these tests' business.
        command
            .args(["doctor", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&self.path);
        command
    }

    fn database(&self) -> Connection {
        Connection::open(self.path.join("synckit.db")).unwrap()
    }
}

/// The findings of a check that are not good, as "state: what -> advice".
fn trouble(ended: &Ended, check: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let findings = document["findings"].as_array().unwrap();
    let of_check = findings.iter().filter(|finding| finding["check"] == check);
    of_check
        .filter(|finding| finding["state"] != "ok")
        .map(|finding| {
            let text = |key: &str| {
                finding[key]
                    .as_str()
                    .unwrap_or_else(|| panic!("no {key} in {finding:#}"))
            };
            format!("{}: {} -> {}", text("state"), text("what"), text("advice"))
        })
        .collect()
}

/// Asserts that a check found one thing, which says so, and that the exit code agrees.
#[track_caller]
fn assert_finds(mut doctor: Command, check: &str, state: &str, what: &str) {
    let ended = run(&mut doctor);
    // Where a warning is looked for, the machine's disk may still be a failure.
    assert!(
        ended.code == Some(2) || (state == "warn" && ended.code == Some(1)),
        "{}",
        ended.stdout
    );
    let found = trouble(&ended, check);
    assert!(
        found
            .iter()
            .any(|found| found.starts_with(state) && found.contains(what)),
        "no {state} {what:?} of {check} in {found:#?}\n{}",
        ended.stdout
    );
}

/// Checks that say something of the machine that the tests run on: how much room its disk has, how many files a shell may
/// open.
const OF_THE_MACHINE: [&str; 2] = ["disk", "files"];

/// Asserts that nothing is wrong but perhaps with the machine, and that the exit code says the same as the document.
#[track_caller]
fn assert_well(ended: &Ended) {
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    for finding in document["findings"].as_array().unwrap() {
        let is_of_the_machine = OF_THE_MACHINE.contains(&finding["check"].as_str().unwrap());
        assert!(is_of_the_machine || finding["state"] == "ok", "{finding:#}");
    }
    let code = ["ok", "warn", "fail"]
        .iter()
        .position(|state| document["state"] == *state);
    assert_eq!(ended.code.map(|code| code as usize), code, "{document:#}");
}

fn contents(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            all.extend(contents(&entry.path()));
        } else {
            all.insert(
                entry.path(),
                (fs::read(entry.path()).unwrap(), metadata.modified().unwrap()),
            );
        }
    }
    all
}

#[test]
fn a_stopped_server_is_well_and_not_touched() {
    let stopped = Stopped::new();
    let before = contents(&stopped.path);
    assert_well(&run(stopped.doctor().arg("--full")));
    assert!(contents(&stopped.path) == before, "the doctor changed something");

    let text = run(synckit()
        .args(["doctor", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&stopped.path));
    for check in [
        "program",
        "configuration",
        "directory",
        "database",
        "blobs",
        "keys",
        "clock",
        "mail",
    ] {
        assert!(
            text.stdout.contains(&format!("ok    {check}")),
            "no {check} in {}",
            text.stdout
        );
    }
    assert!(!text.stdout.contains('\u{1b}'), "{}", text.stdout);
}

#[test]
fn doctor_checks_a_running_server_from_both_sides() {
    let server = Server::start();
    let address = server.url.trim_start_matches("http://");
    let beside = on_data_dir(&server.data_dir(), &["doctor", "--json", "--listen", address]);
    assert_well(&beside);
    let serving = format!("synckit {} serves at {address}", env!("CARGO_PKG_VERSION"));
    assert!(beside.stdout.contains(&serving), "{}", beside.stdout);
    let outside = run_with(["doctor", "--server", &server.url]).expect_code(0);
    assert!(
        outside.stdout.contains("the database can be read and written"),
        "{}",
        outside.stdout
    );
    // It served on, and still does.
    server.create_app();
    let elsewhere = on_data_dir(&server.data_dir(), &["doctor", "--json", "--listen", "127.0.0.1:1"]);
    assert!(
        trouble(&elsewhere, "address")[0].contains("but not at 127.0.0.1:1"),
        "{}",
        elsewhere.stdout
    );
    let other = Stopped::new();
    let not_its_own = on_data_dir(&other.path, &["doctor", "--json", "--listen", address]);
    assert!(
        trouble(&not_its_own, "address")[0].contains("but not on this directory"),
        "{}",
        not_its_own.stdout
    );
}

#[test]
fn what_is_wrong_from_outside_is_told_apart() {
    let refusal = |url: &str, check: &str| {
        let ended = run_with(["doctor", "--json", "--server", url]).expect_code(2);
        trouble(&ended, check).pop().unwrap()
    };
    insta::assert_snapshot!(refusal("http://sync.example.com", "address"), @r#"fail: the server URL "http://sync.example.com" cannot be used: plain http is allowed to loopback only: use https -> give the server's address as --server https://sync.example.com"#);
    let nothing = refusal("http://127.0.0.1:9", "connection");
    assert!(nothing.contains("-> no program listens at this port"), "{nothing}");
    let server = Server::start();
    let no_tls = refusal(&server.url.replace("http:", "https:"), "connection");
    assert!(no_tls.contains("speaks no TLS"), "{no_tls}");
    let wrong_path = refusal(&format!("{}/sync", server.url), "protocol");
    assert!(wrong_path.contains("check the path of the address"), "{wrong_path}");
}

#[test]
fn missing_directory_and_taken_port_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("mistyped");
    let ended = on_data_dir(&missing, &["doctor", "--json"]).expect_code(2);
    assert!(
        trouble(&ended, "directory")[0].contains("no server data in"),
        "{}",
        ended.stdout
    );
    assert!(!missing.exists());

    let stopped = Stopped::new();
    // It takes connections and says nothing that a server says.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::Write as _;
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let ended = on_data_dir(&stopped.path, &["doctor", "--json", "--listen", &address]).expect_code(2);
    assert!(trouble(&ended, "address")[0].starts_with("fail: "), "{}", ended.stdout);
}

#[test]
fn settings_that_are_none_or_unwise_are_found() {
    let stopped = Stopped::new();
    let mut misspelt = stopped.doctor();
    misspelt.env("SYNCKIT_REGISTRATIONS", "open");
    assert_finds(
        misspelt,
        "environment",
        "warn",
        "ignored by the server: SYNCKIT_REGISTRATIONS",
    );

    let config = stopped.path.parent().unwrap().join("synckit.toml");
    fs::write(&config, "registrations = \"open\"\n").unwrap();
    let mut unknown = stopped.doctor();
    unknown.arg("--config").arg(&config);
    assert_finds(unknown, "configuration", "fail", "unknown field `registrations`");

    let mut public = stopped.doctor();
    public.args(["--public-url", "http://sync.example.com"]);
    assert_finds(public, "configuration", "warn", "the SDK refuses plain http");
    let mut public = stopped.doctor();
    public.args(["--public-url", "https://sync.example.com"]);
    assert_finds(public, "configuration", "warn", "registration is open");
    let mut proxies = stopped.doctor();
    proxies.args(["--trusted-proxies", "0.0.0.0/0"]);
    assert_finds(
        proxies,
        "configuration",
        "warn",
        "trusted_proxies includes every address",
    );
    let mut network = synckit();
    network
        .args(["doctor", "--json", "--listen", "0.0.0.0:0", "--data-dir"])
        .arg(&stopped.path);
    assert_finds(network, "configuration", "warn", "listens at 0.0.0.0:0 without TLS");
    let mut mail = stopped.doctor();
    mail.args(["--mail-from", "sync@example.com"])
        .env("SYNCKIT_SMTP_URL", "smtp://u:p@127.0.0.1.example.com");
    assert_finds(mail, "configuration", "warn", "smtp_url is plain smtp://");
    let mut seed = stopped.doctor();
    seed.arg("--accept-new-oprf-seed");
    assert_finds(seed, "configuration", "warn", "accept_new_oprf_seed is on");
    let mut mail = stopped.doctor();
    mail.args(["--mail-from", "no address @"])
        .env("SYNCKIT_SMTP_URL", "smtps://mail.example.com");
    assert_finds(mail, "mail", "fail", "mail_from is not valid");
}

#[test]
fn keys_that_are_missing_foreign_or_open_are_found() {
    let stopped = Stopped::new();
    let other = Stopped::new();
    fs::copy(other.path.join("keys/opaque.key"), stopped.path.join("keys/opaque.key")).unwrap();
    assert_finds(stopped.doctor(), "keys", "fail", "opaque.key does not belong");
    fs::write(stopped.path.join("keys/opaque.key"), "x").unwrap();
    assert_finds(stopped.doctor(), "keys", "fail", "opaque.key is damaged");
    // No account needs to exist: the database names its seed.
    fs::remove_file(stopped.path.join("keys/opaque.key")).unwrap();
    assert_finds(stopped.doctor(), "keys", "fail", "opaque.key is missing");
    fs::remove_file(other.path.join("keys/server.key")).unwrap();
    assert_finds(other.doctor(), "keys", "warn", "server.key is missing");
    assert!(!other.path.join("keys/server.key").exists());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let key = other.path.join("keys/tokens.json");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert_finds(other.doctor(), "keys", "fail", "can be read by others (mode 644)");
        let open = trouble(&run(&mut other.doctor()), "directory").pop().unwrap();
        assert!(
            open.starts_with("warn: ") && open.contains("tokens.json -> chmod"),
            "{open}"
        );
    }
}

#[test]
fn wrong_schema_damage_and_clock_are_found() {
    let stopped = Stopped::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    stopped
        .database()
        .execute(
            "INSERT INTO accounts (user_id, email, credential_id, record, vault, created_at)
             VALUES (randomblob(16), 'a@b.c', zeroblob(16), x'', x'', ?1)",
            [(now + 7200).cast_signed()],
        )
        .unwrap();
    assert_finds(stopped.doctor(), "clock", "fail", "but the database has rows of");
    stopped.database().execute("DROP INDEX batch_ids", []).unwrap();
    assert_finds(stopped.doctor(), "database", "fail", "it lacks: unique key of batches");
    stopped
        .database()
        .execute(
            "UPDATE refinery_schema_history SET version = 99
             WHERE version = (SELECT max(version) FROM refinery_schema_history)",
            [],
        )
        .unwrap();
    assert_finds(
        stopped.doctor(),
        "database",
        "fail",
        "it has schema 99, this program knows up to",
    );

    let path = stopped.path.join("synckit.db");
    let mut bytes = fs::read(&path).unwrap();
    // Past the first page, which alone is read to open it.
    let from = bytes.len() - 3 * 4096;
    bytes[from..].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    assert_finds(stopped.doctor(), "database", "fail", "damaged");
    fs::write(&path, "this is no database, but long enough to be looked at as one").unwrap();
    assert_finds(stopped.doctor(), "database", "fail", "not a database");
    fs::remove_file(&path).unwrap();
    assert_finds(stopped.doctor(), "database", "fail", "is missing");
    fs::write(stopped.path.join("synckit.db.unfinished"), "").unwrap();
    assert_finds(
        stopped.doctor(),
        "database",
        "fail",
        "a transfer into the database is not finished",
    );
    assert!(!path.exists());
}

#[test]
fn missing_blobs_and_unknown_files_are_counted() {
    let stopped = Stopped::new();
    let database = stopped.database();
    let account = "INSERT INTO accounts (user_id, email, credential_id, record, vault, created_at)
         VALUES (x'00000000000000000000000000000001', 'a@b.c', zeroblob(16), x'', x'', 1)";
    database.execute(account, []).unwrap();
    database
        .execute(
            "INSERT INTO streams (user_id, app_id, head) SELECT user_id, app_id, zeroblob(32) FROM accounts, apps",
            [],
        )
        .unwrap();
    for (byte, size) in [(0x0a_u8, 3), (0x0b, 3), (0xff, 7)] {
        let key = [byte; 32];
        database
            .execute(
                "INSERT INTO blobs (stream_key, blob_id, object_key, size_bytes, sealed_hash, key_id, created_at)
                 SELECT stream_key, ?1, ?1, ?2, zeroblob(32), zeroblob(16), 1 FROM streams",
                rusqlite::params![key, size],
            )
            .unwrap();
    }
    drop(database);
    let put = |byte: &str, contents: &str| {
        let shard = stopped.path.join("blobs").join(byte);
        fs::create_dir_all(&shard).unwrap();
        fs::write(shard.join(byte.repeat(32)), contents).unwrap();
    };
    put("0a", "abc");
    put("ff", "too short");
    put("cc", "nobody knows this");
    assert_finds(
        stopped.doctor(),
        "blobs",
        "fail",
        "3 of 3 objects compared: 1 missing, 1 of another size",
    );
    assert_finds(stopped.doctor(), "blobs", "fail", &"0b".repeat(32));
    let ended = run(stopped.doctor().arg("--full")).expect_code(2);
    let found = trouble(&ended, "blobs");
    // Nothing has the hash of zeros: a sample does not look, and everything does.
    assert!(
        found[0].contains("1 missing, 1 of another size, 1 with other bytes"),
        "{found:?}"
    );
    let orphans = trouble(&ended, "blobs").pop().unwrap();
    assert!(
        orphans.starts_with("warn: 1 file (17 B) unknown to the database"),
        "{orphans}"
    );
}

#[test]
fn a_bucket_is_tried_and_an_unfit_one_is_named() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bucket = runtime.block_on(TestBucket::start());
    let stopped = Stopped::new();
    let doctor = |secret: &str| {
        let mut command = stopped.doctor();
        command
            .args(["--blobs", &bucket.address(), "--bucket-access-key", ACCESS_KEY])
            .env("SYNCKIT_BUCKET_SECRET_KEY", secret);
        command
    };
    let ended = run(&mut doctor(SECRET_KEY));
    assert_well(&ended);
    assert!(ended.stdout.contains("stores, returns and deletes"), "{}", ended.stdout);
    assert_eq!(bucket.keys(), Vec::<String>::new());
    for (mood, what) in [
        (Mood::Busy, "status 503"),
        (Mood::Gone, "cannot be reached"),
        (Mood::WithoutListing, "right to list the bucket"),
        (Mood::WithoutChecksums, "it stores other bytes than the signed ones"),
    ] {
        bucket.set_mood(mood);
        assert_finds(doctor(SECRET_KEY), "bucket", "fail", what);
    }
    bucket.set_mood(Mood::Well);
    assert_finds(doctor("another key"), "bucket", "fail", "status 403");
}

/// A bind mount in a namespace of its own, so that the machine keeps its files.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_file_system_is_found() {
    let stopped = Stopped::new();
    let script =
        "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && exec \"$2\" doctor --data-dir \"$1\"";
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(&stopped.path)
        .arg(env!("CARGO_BIN_EXE_synckit"));
    let ended = run(&mut command).expect_code(2);
    assert!(
        ended.stdout.contains("cannot be written: Read-only file system"),
        "{}",
        ended.stdout
    );
}
