//! How a store reaches a PostgreSQL server, and what it makes there.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use synckit_store::{OpenedBy, PostgresOptions, PostgresStore, PostgresUrl, Store, StoreError, Unavailable};
use tempfile::TempDir;

use crate::{
    database::{Database, Fresh, connect, server},
    fixture::create_app,
};

mod conformance {
    synckit_store::conformance_suite!(crate::database::Fresh);
}

/// Rows of one text column.
async fn names(database: &Database, sql: &str) -> Vec<String> {
    let rows = database.client().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn streams_share_nothing_in_the_schema() {
    let fresh = Fresh::open().await;
    let sequences = "SELECT relname::text FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace
        UNION ALL SELECT attname::text FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
        WHERE attidentity <> '' AND relnamespace = 'public'::regnamespace";
    assert_eq!(names(&fresh.database, sequences).await, [""; 0], "sequences");

    // Every table of the log names the stream, or the snapshot of one; no row names a row of another stream.
    let keys = "SELECT conrelid::regclass::text || ' ' || substr(pg_get_constraintdef(oid), 13) FROM pg_constraint
        WHERE contype = 'f' AND conrelid::regclass::text NOT IN
            ('api_keys', 'earlier_vaults', 'familiar_places', 'invites', 'mail_codes', 'redirects', 'sessions', 'streams',
             'apps', 'team_members', 'plans', 'usage_hours', 'usage_months') ORDER BY 1";
    let expected = [
        "batch_answers (stream_key) REFERENCES streams(stream_key)",
        "batches (stream_key) REFERENCES streams(stream_key)",
        "blobs (stream_key) REFERENCES streams(stream_key)",
        "devices (stream_key) REFERENCES streams(stream_key)",
        "envelopes (stream_key) REFERENCES streams(stream_key)",
        "snapshot_parts (stream_key, snapshot_key) REFERENCES snapshots(stream_key, snapshot_key)",
        "snapshots (stream_key) REFERENCES streams(stream_key)",
        "uploads (stream_key) REFERENCES streams(stream_key)",
    ];
    assert_eq!(names(&fresh.database, keys).await, expected);
    let unkeyed = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        AND NOT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'stream_key') ORDER BY 1";
    let expected = [
        "accounts",
        "allowances",
        "api_keys",
        "apps",
        "device_grants",
        "earlier_vaults",
        "familiar_places",
        "finished_logins",
        "invites",
        "mail_codes",
        "pending_accounts",
        "plans",
        "redirects",
        "schema_history",
        // Only the embedded store writes it.
        "sealed_batches",
        "server",
        "team_members",
        "teams",
        "usage_flushes",
        "usage_hours",
        "usage_months",
    ];
    assert_eq!(names(&fresh.database, unkeyed).await, expected);
}

#[tokio::test]
async fn two_servers_make_one_schema() {
    let database = Database::create().await;
    let opening = (0..8).map(|_| {
        let url = database.url();
        tokio::spawn(async move {
            let options = PostgresOptions {
                opened_by: OpenedBy::Server,
                ..PostgresOptions::default()
            };
            PostgresStore::open(&url, options).await.map(drop)
        })
    });
    for opened in opening.collect::<Vec<_>>() {
        opened.await.unwrap().unwrap();
    }
    let versions = PostgresStore::schema(&database.url()).await.unwrap();
    assert_eq!(versions.found, Some(versions.known));
}

#[tokio::test]
async fn another_schema_is_refused() {
    let fresh = Fresh::open().await;
    let known = PostgresStore::schema(&fresh.database.url()).await.unwrap().known;
    let client = fresh.database.client().await;
    let open = async |opened_by| {
        let options = PostgresOptions {
            opened_by,
            ..PostgresOptions::default()
        };
        PostgresStore::open(&fresh.database.url(), options).await.map(drop)
    };
    client
        .batch_execute("UPDATE schema_history SET version = version + 1")
        .await
        .unwrap();
    for opened_by in [OpenedBy::Server, OpenedBy::Command] {
        let refused = open(opened_by).await;
        let is_newer = matches!(refused, Err(StoreError::NewerSchema { found, .. }) if found == known + 1);
        assert!(is_newer, "{refused:?}");
    }
    // As if it were of the version before: a server may run on it.
    client
        .batch_execute("UPDATE schema_history SET version = 0")
        .await
        .unwrap();
    let refused = open(OpenedBy::Command).await;
    assert!(
        matches!(refused, Err(StoreError::OtherSchema { found: Some(0), .. })),
        "{refused:?}"
    );
}

/// Every printable character of ASCII.
fn printable() -> String {
    (' '..='~').collect()
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn any_password_opens_the_database() {
    let database = Database::create().await;
    let client = database.client().await;
    let password = printable();
    let role = format!("role_{}", database.name);
    let quoted = password.replace('\'', "''");
    client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD '{quoted}'; ALTER DATABASE {} OWNER TO {role};
             ALTER SCHEMA public OWNER TO {role}",
            database.name
        ))
        .await
        .unwrap();
    let place = database.text();
    let place = place.rsplit_once('@').unwrap().1;
    let in_url: PostgresUrl = format!("postgres://{role}:{}@{place}", percent_encoded(&password))
        .parse()
        .unwrap();
    let apart: PostgresUrl = format!("postgres://{role}@{place}").parse().unwrap();
    for url in [in_url, apart.clone().with_password(&password)] {
        PostgresStore::open(&url, PostgresOptions::default()).await.unwrap();
    }
    for wrong in [String::new(), password.replace('~', "")] {
        let refused = PostgresStore::open(&apart.clone().with_password(&wrong), PostgresOptions::default()).await;
        let Err(error) = refused else {
            panic!("{wrong:?} opened the database")
        };
        assert!(matches!(
            error,
            StoreError::Unavailable {
                step: Unavailable::Connect,
                ..
            }
        ));
        let shown = format!("{error} {error:?}");
        assert!(wrong.is_empty() || !shown.contains(&wrong), "{shown}");
    }
}

/// An authority that signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// The certificate of a server of this name, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn write(&self, path: &Path) -> String {
        fs::write(path, &self.pem).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_wrong_certificate_is_refused() {
    let database = Database::create().await;
    let client = database.client().await;
    let (ours, others) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.sign("localhost");
    // The server writes its own files: they must belong to its user.
    for (name, pem) in [("server.crt", certificate), ("server.key", key)] {
        client
            .batch_execute(&format!(
                "COPY (SELECT unnest(string_to_array('{}', E'\\n'))) TO PROGRAM 'umask 077 && cat > {name}'",
                pem.trim_end()
            ))
            .await
            .unwrap();
    }
    client.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // A new session has what the server has read.
    while connect(&server())
        .await
        .query_one("SHOW ssl", &[])
        .await
        .unwrap()
        .get::<_, String>(0)
        != "on"
    {}

    let directory = TempDir::new().unwrap();
    let ours = ours.write(&directory.path().join("ours.pem"));
    let others = others.write(&directory.path().join("others.pem"));
    let by_address = database.text();
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let open = async |url: String| {
        let url: PostgresUrl = url.parse().unwrap();
        PostgresStore::open(&url, PostgresOptions::default()).await
    };
    let verified = format!("{by_name}?sslmode=verify-full&sslrootcert={ours}");
    let store = open(verified).await.unwrap();
    create_app(&store, 1).await;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE datname = current_database() AND application_name = 'synckit' AND ssl";
    assert!(client.query_one(encrypted, &[]).await.unwrap().get::<_, i64>(0) > 0);
    for refused in [
        // Of another authority, of another name, and of no authority of this machine.
        format!("{by_name}?sslmode=verify-full&sslrootcert={others}"),
        format!("{by_address}?sslmode=verify-full&sslrootcert={ours}"),
        format!("{by_name}?sslmode=verify-full"),
        // The file of certificates is missing, or holds none.
        format!(
            "{by_name}?sslmode=verify-full&sslrootcert={}/none.pem",
            directory.path().display()
        ),
        format!("{by_name}?sslmode=verify-full&sslrootcert=/dev/null"),
    ] {
        let error = open(refused.clone()).await.map(drop);
        let is_refused = matches!(
            error,
            Err(StoreError::Unavailable {
                step: Unavailable::Connect,
                ..
            })
        );
        assert!(is_refused, "{refused}: {error:?}");
    }
}

/// A pooler in front of the server, and its folder.
struct Pooler {
    process: Child,
    _directory: TempDir,
    port: u16,
}

impl Pooler {
    async fn start(mode: &str) -> Self {
        let client = connect(&server()).await;
        let setting = async |name: &str| {
            let row = client.query_one(&format!("SHOW {name}"), &[]).await.unwrap();
            row.get::<_, String>(0)
        };
        let (sockets, port_of_server) = (setting("unix_socket_directories").await, setting("port").await);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let directory = TempDir::new().unwrap();
        let config = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={sockets} port={port_of_server} user=postgres\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n"
        );
        fs::write(&config, text).unwrap();
        // It refuses to run as root.
        let is_root = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0;
        let mut command = if is_root {
            let chown = Command::new("chown")
                .arg("-R")
                .arg("postgres")
                .arg(directory.path())
                .status();
            assert!(chown.unwrap().success());
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                "--",
                "/usr/sbin/pgbouncer",
            ]);
            command
        } else {
            Command::new("/usr/sbin/pgbouncer")
        };
        let process = command
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PgBouncer: `apt-get install pgbouncer`");
        let pooler = Self {
            process,
            _directory: directory,
            port,
        };
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
        pooler
    }

    fn url(&self, database: &Database) -> PostgresUrl {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port, database.name)
            .parse()
            .unwrap()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_pooler_of_transactions_is_refused() {
    let database = Database::create().await;
    for mode in ["transaction", "statement"] {
        let pooler = Pooler::start(mode).await;
        let refused = PostgresStore::open(&pooler.url(&database), PostgresOptions::default()).await;
        assert!(matches!(refused, Err(StoreError::Pooler)), "{mode}: {refused:?}");
    }
    let pooler = Pooler::start("session").await;
    let store = PostgresStore::open(&pooler.url(&database), PostgresOptions::default())
        .await
        .unwrap();
    create_app(&store, 1).await;
    store.close().await.unwrap();
}
