//! `synckit migrate-store`: a server moves to PostgreSQL and back, even if the program is killed meanwhile.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use synckit_client::{ChangeOp, Cursor, Device, SyncKitClient};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::{
    person::{Person, note},
    program::{Ended, Server, run, synckit},
};

/// An empty database of PostgreSQL.
struct Target {
    url: String,
    password_file: PathBuf,
    client: Client,
}

impl Target {
    async fn create(directory: &Path) -> Self {
        let server = std::env::var("SYNCKIT_TEST_POSTGRES").expect(
            "a PostgreSQL: run `cargo xtask test -- -p synckit`, or `cargo xtask with-keychain -- cargo test ...`",
        );
        let name = format!("program_{}_moved", std::process::id());
        let client = connect(&server).await;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let (before, place) = server.rsplit_once('@').unwrap();
        let place = place.rsplit_once('/').unwrap().0;
        let password_file = directory.join("password");
        let password = before.rsplit_once(':').unwrap().1.replace("%20", " ");
        fs::write(&password_file, password).unwrap();
        Self {
            url: format!("postgres://postgres@{place}/{name}"),
            password_file,
            client: connect(&format!("{before}@{place}/{name}")).await,
        }
    }

    /// The program with the password of this database.
    fn program(&self) -> Command {
        let mut command = synckit();
        command.env("SYNCKIT_DATABASE_PASSWORD_FILE", &self.password_file);
        command
    }

    fn migrate(&self, from: &str, to: &str, data_dir: &Path) -> Command {
        let mut command = self.program();
        command.args(["migrate-store", "--from", from, "--to", to, "--data-dir"]);
        command.arg(data_dir);
        command
    }

    async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Serves a data directory on this database.
fn serve(target: &Target, data_dir: &Path, database: &str) -> Server {
    let mut command = target.program();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir);
    if database != "embedded" {
        command.env("SYNCKIT_DATABASE", database);
    } else {
        command.env_remove("SYNCKIT_DATABASE_PASSWORD_FILE");
    }
    Server::spawn(command, TempDir::new().unwrap())
}

async fn pulled((client, device): &(SyncKitClient, Device)) -> usize {
    let (changes, _, has_more) = client.pull(device.id, Cursor::START).await.unwrap();
    assert!(!has_more);
    changes.len()
}

fn moved(ended: Ended) -> Value {
    serde_json::from_str(&ended.expect_code(0).stdout).unwrap()
}

/// The insertion of the first device waits for a lock that the test holds.
const WAIT: &str = "CREATE FUNCTION wait_for_devices() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
    CREATE FUNCTION wait_when_made() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
        IF to_regclass('unfinished_transfer') IS NOT NULL THEN
            CREATE TRIGGER wait BEFORE INSERT ON devices FOR EACH ROW EXECUTE FUNCTION wait_for_devices();
        END IF; END $$;
    CREATE EVENT TRIGGER wait_when_made ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
        EXECUTE FUNCTION wait_when_made();
    SELECT pg_advisory_lock(1)";
const GO_ON: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'synckit migrate-store' AND datname = current_database();
    DROP EVENT TRIGGER wait_when_made; SELECT pg_advisory_unlock(1); DROP TRIGGER wait ON devices";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_migration_goes_on() {
    let directory = TempDir::new().unwrap();
    let target = Target::create(directory.path()).await;
    let mut server = Server::start();
    let person = Person::on(&server).await;
    person
        .push(vec![note(ChangeOp::Insert, "one", 1), note(ChangeOp::Insert, "two", 2)])
        .await;
    let data = std::mem::replace(&mut server.directory, TempDir::new().unwrap());
    let data_dir = data.path().join("data");
    let in_use = run(target.migrate("embedded", &target.url, &data_dir).arg("--json")).expect_code(1);
    assert!(in_use.stderr.contains("data_dir_in_use"), "{}", in_use.stderr);
    server.stop();

    target.execute(WAIT).await;
    let mut killed = target
        .migrate("embedded", &target.url, &data_dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("streams ")));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let unfinished = run(target.program().args(["app", "list", "--database", &target.url])).expect_code(1);
    assert!(unfinished.stderr.contains("is not finished"), "{}", unfinished.stderr);
    target.execute(GO_ON).await;
    let there = moved(run(target.migrate("embedded", &target.url, &data_dir).arg("--json")));
    assert!(there["rows_copied"].as_u64() < there["rows"].as_u64(), "{there}");
    assert_eq!(there["batches_checked"], 1);

    let server = serve(&target, &data_dir, &target.url);
    let person = person.at(&server.url);
    let phone = person.device("phone").await;
    assert_eq!(pulled(&phone).await, 2);
    phone
        .0
        .push(phone.1.id, vec![note(ChangeOp::Insert, "three", 3)])
        .await
        .unwrap();
    server.stop();

    let refused = run(&mut target.migrate(&target.url, "embedded", &data_dir)).expect_code(1);
    assert!(refused.stderr.contains("has data already"), "{}", refused.stderr);
    fs::rename(data_dir.join("synckit.db"), data_dir.join("before.db")).unwrap();
    let back = moved(run(target.migrate(&target.url, "embedded", &data_dir).arg("--json")));
    assert_eq!(back["batches_checked"], 2);
    let server = serve(&target, &data_dir, "embedded");
    let person = person.at(&server.url);
    assert_eq!(pulled(&person.device("tablet").await).await, 3);
    server.stop();
}
