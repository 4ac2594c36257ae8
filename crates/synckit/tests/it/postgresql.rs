//! The program with `--database postgres://…`: server, administration, doctor, and nowhere a password.

use std::{fs, io::Write as _, path::Path, process::Command};

use crate::{
    http,
    program::{Server, field, run, synckit},
};

/// A fresh database: its URL without the password, and the password.
fn fresh(name: &str) -> (String, String) {
    let server = std::env::var("SYNCKIT_TEST_POSTGRES")
        .expect("a PostgreSQL: run `cargo xtask test -- -p synckit`, or `cargo xtask with-keychain -- cargo test ...`");
    let name = format!("program_{}_{name}", std::process::id());
    let sql = format!("CREATE DATABASE {name}");
    let created = Command::new("psql").args(["-q", "-c", &sql, &server]).status();
    assert!(created.expect("psql: `apt-get install postgresql`").success());
    let (before, place) = server.rsplit_once('@').unwrap();
    let password = before.rsplit_once(':').unwrap().1.replace("%20", " ");
    let place = place.rsplit_once('/').unwrap().0;
    (format!("postgres://postgres@{place}/{name}"), password)
}

/// The program on this database, its password in a file.
fn on(url: &str, password_file: &Path) -> Command {
    let mut command = synckit();
    command
        .env("SYNCKIT_DATABASE", url)
        .env("SYNCKIT_DATABASE_PASSWORD_FILE", password_file);
    command
}

#[test]
fn a_server_and_its_commands_share_a_postgresql() {
    let (url, password) = fresh("shared");
    let directory = tempfile::tempdir().unwrap();
    let (data_dir, file) = (directory.path().join("data"), directory.path().join("password"));
    fs::write(&file, format!("{password}\n")).unwrap();

    // An app may be created before the server's first start.
    let created = run(on(&url, &file)
        .args(["app", "create", "Notes", "--data-dir"])
        .arg(&data_dir))
    .expect_code(0);
    let id = field(&created.stdout, "app id").to_owned();
    assert!(!data_dir.join("synckit.db").exists());
    let mut serve = on(&url, &file);
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data_dir);
    let server = Server::spawn(serve, directory);
    assert!(!data_dir.join("synckit.db").exists());

    // The flag, and the password in a variable.
    let mut list = synckit();
    list.args(["app", "list", "--database", &url])
        .env("SYNCKIT_DATABASE_PASSWORD", &password);
    let listed = run(&mut list).expect_code(0);
    assert!(listed.stdout.contains(&id), "{}", listed.stdout);

    let checked = run(on(&url, &file).args(["doctor", "--data-dir"]).arg(&data_dir));
    assert!(
        checked.stdout.contains(&format!("{url} answers, schema 1")),
        "{}",
        checked.stdout
    );
    let target = data_dir.join("../backup");
    let refused = run(on(&url, &file)
        .arg("backup")
        .arg(target)
        .arg("--data-dir")
        .arg(&data_dir))
    .expect_code(1);
    assert!(refused.stderr.contains("pg_dump"), "{}", refused.stderr);

    let wrong = data_dir.join("../wrong");
    fs::write(&wrong, "another one").unwrap();
    let refused = run(on(&url, &wrong).args(["app", "list"])).expect_code(1);
    assert!(
        refused.stderr.contains("no connection could be made"),
        "{}",
        refused.stderr
    );
    for ended in [listed, checked, refused] {
        let shown = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!shown.contains(&password) && !shown.contains("another one"), "{shown}");
    }
    server.stop();
}

#[test]
fn a_password_in_a_flag_is_refused() {
    let url = "postgres://synckit:hunter2@127.0.0.1:1/synckit";
    for arguments in [["serve", "--database"].as_slice(), &["app", "list", "--database"]] {
        let refused = run(synckit().args(arguments).arg(url));
        assert_ne!(refused.code, Some(0));
        assert!(refused.stderr.ends_with('\n'), "{:?}", refused.stderr);
        let shown = format!("{}{}", refused.stdout, refused.stderr);
        assert!(
            shown.contains("SYNCKIT_DATABASE_PASSWORD") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
    // Nor does the help show what is in the environment, nor an error what is wrong with it.
    for (arguments, url) in [
        (["serve", "--help-limits"], url),
        (["app", "list"], "postgres://synckit:hunter2@db/b?sslmode=require"),
        (["serve", "--listen=127.0.0.1:0"], "hunter2"),
    ] {
        let ended = run(synckit().args(arguments).env("SYNCKIT_DATABASE", url));
        let shown = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!shown.is_empty() && !shown.contains("hunter2"), "{shown}");
    }
}

/// Runs SQL where the database is, and returns what it printed.
fn psql(url: &str, password: &str, sql: &str) -> String {
    let output = Command::new("psql")
        .args(["-AtXq", "-c", sql, url])
        .env("PGPASSWORD", password)
        .output()
        .expect("psql: `apt-get install postgresql`");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn doctor_checks_logs_and_keys_of_a_postgresql() {
    let (url, password) = fresh("doctor");
    let directory = tempfile::tempdir().unwrap();
    let (data_dir, file) = (directory.path().join("data"), directory.path().join("password"));
    fs::write(&file, &password).unwrap();
    let command = |arguments: &[&str]| run(on(&url, &file).args(arguments).arg("--data-dir").arg(&data_dir));
    let doctor = || command(&["doctor", "--full", "--listen=127.0.0.1:0"]).stdout;
    command(&["app", "create", "Notes"]).expect_code(0);
    let mut serve = on(&url, &file);
    serve
        .args(["serve", "--listen=127.0.0.1:0", "--data-dir"])
        .arg(&data_dir);
    Server::spawn(serve, tempfile::tempdir().unwrap()).stop();
    let account = "INSERT INTO accounts (account_key, user_id, email, credential_id, record, vault, created_at, seed_id)
         SELECT 1, decode(repeat('01', 16), 'hex'), 'a@b.c', decode(repeat('00', 16), 'hex'), '', '', 1, seed_id FROM server";
    psql(&url, &password, account);
    let stream = "INSERT INTO streams (stream_key, user_id, app_id, head)
         SELECT 1, user_id, app_id, decode(repeat('00', 32), 'hex') FROM accounts, apps";
    psql(&url, &password, stream);
    let found = doctor();
    assert!(
        found.contains("FAIL  logs") && found.contains("the log does not end at its stream's position"),
        "{found}"
    );
    psql(&url, &password, "DELETE FROM streams");
    let found = doctor();
    for well in [
        "ok    logs",
        "every chain is complete",
        "ok    blobs",
        "ok    keys",
        "later than every row",
    ] {
        assert!(found.contains(well), "no {well} in {found}");
    }
    fs::remove_file(data_dir.join("keys/opaque.key")).unwrap();
    let found = doctor();
    assert!(
        found.contains("opaque.key is missing, but the database was made under one"),
        "{found}"
    );
}

/// A mistyped name of a database must not become a new, empty server.
#[test]
fn commands_make_nothing_in_an_empty_database() {
    let (url, password) = fresh("empty");
    let directory = tempfile::tempdir().unwrap();
    let (data_dir, file) = (directory.path().join("data"), directory.path().join("password"));
    fs::write(&file, &password).unwrap();
    let command = |arguments: &[&str]| run(on(&url, &file).args(arguments).arg("--data-dir").arg(&data_dir));
    for arguments in [["app", "list"].as_slice(), &["account", "invite"], &["account", "list"]] {
        let refused = command(arguments).expect_code(1);
        let expected = format!("there is no server data in {url}");
        assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
    }
    // The keys are those of a server whose database is elsewhere.
    fs::create_dir_all(data_dir.join("keys")).unwrap();
    fs::write(data_dir.join("keys/server.key"), "a key").unwrap();
    let refused = command(&["app", "create", "Notes"]).expect_code(1);
    assert!(
        refused.stderr.contains("is empty, but keys/ has key files"),
        "{}",
        refused.stderr
    );
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(psql(&url, &password, tables), "0\n");

    fs::remove_dir_all(&data_dir).unwrap();
    command(&["app", "create", "Notes"]).expect_code(0);
    let listed = command(&["app", "list"]).expect_code(0);
    assert!(listed.stdout.contains("Notes"), "{}", listed.stdout);
}

/// A standby answers like this one.
#[test]
fn read_only_database_is_refused() {
    let (url, password) = fresh("read_only");
    let name = url.rsplit_once('/').unwrap().1;
    psql(
        &url,
        &password,
        &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"),
    );
    let directory = tempfile::tempdir().unwrap();
    let (data_dir, file) = (directory.path().join("data"), directory.path().join("password"));
    fs::write(&file, &password).unwrap();
    let command = |arguments: &[&str]| run(on(&url, &file).args(arguments).arg("--data-dir").arg(&data_dir));
    let cause = "no connection could be made: error connecting to server: database does not allow writes";
    let served = command(&["serve", "--listen", "127.0.0.1:0"]).expect_code(1);
    assert!(served.stderr.contains(cause), "{}", served.stderr);
    let checked = command(&["doctor"]).expect_code(2);
    assert!(checked.stdout.contains(cause), "{}", checked.stdout);
}

#[test]
fn database_without_unicode_is_refused() {
    let (url, password) = fresh("unicode");
    let latin = format!("{url}_latin");
    let name = latin.rsplit_once('/').unwrap().1;
    let sql = format!("CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    psql(&url, &password, &sql);
    let directory = tempfile::tempdir().unwrap();
    let (data_dir, file) = (directory.path().join("data"), directory.path().join("password"));
    fs::write(&file, &password).unwrap();
    for arguments in [
        ["serve", "--listen=127.0.0.1:0"].as_slice(),
        &["app", "list"],
        &["doctor"],
    ] {
        let ended = run(on(&latin, &file).args(arguments).arg("--data-dir").arg(&data_dir));
        let shown = format!("{}{}", ended.stdout, ended.stderr);
        assert_ne!(ended.code, Some(0), "{shown}");
        assert!(shown.contains("the database has the encoding LATIN1"), "{shown}");
    }
}

/// The driver of the database writes the values of statements at the level debug.
#[test]
fn log_of_libraries_quotes_no_request() {
    let (url, password) = fresh("log");
    let directory = tempfile::tempdir().unwrap();
    let (data_dir, file) = (directory.path().join("data"), directory.path().join("password"));
    let log = directory.path().join("log");
    fs::write(&file, &password).unwrap();
    let mut serve = on(&url, &file);
    serve
        .args(["serve", "--log", "trace", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data_dir);
    let server = Server::spawn_logging(serve, directory, fs::File::create(&log).unwrap());
    let body = r#"{"email":"ada.lovelace@example.com"}"#;
    let mut request = http::begin(&server.url, "POST /api/accounts/reset/request", None, body.len());
    request.write_all(body.as_bytes()).unwrap();
    let answer = http::Answer::read_from(request);
    assert!(answer.head.starts_with("HTTP/1.1 204"), "{}", answer.head);
    // The mail is written before the server has stopped, and the address looked up for it.
    let log = fs::OpenOptions::new().read(true).open(&log).unwrap();
    server.stop();
    let log = std::io::read_to_string(log).unwrap();
    assert!(log.contains("/api/accounts/reset/request"), "{log}");
    assert!(!log.contains("lovelace"), "{log}");
}
