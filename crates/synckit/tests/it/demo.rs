//! `synckit demo`: with its own dataset, with databases that are hard, with folders, and with what it cannot use.

use std::{fs, path::Path};

use rusqlite::Connection;

use crate::program::{Ended, Server, UNKNOWN_KEY, run, run_with, synckit};

/// The lines of steps, without the times that they took.
fn steps(output: &str) -> Vec<String> {
    let numbered = |line: &&str| {
        line.trim_start()
            .split_once(". ")
            .is_some_and(|(number, _)| number.parse::<u8>().is_ok())
    };
    output
        .lines()
        .filter(numbered)
        .map(|line| line.rsplit_once(" (").unwrap().0.trim().to_owned())
        .collect()
}

#[track_caller]
fn assert_passed(ended: &Ended) {
    assert_eq!(
        ended.code,
        Some(0),
        "stdout:\n{}\nstderr:\n{}",
        ended.stdout,
        ended.stderr
    );
    assert!(
        ended.stdout.contains("The demo passed: both devices hold the same"),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("FAILED"), "{}", ended.stdout);
}

#[test]
fn the_demo_runs_to_its_end_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let ended = run(synckit().arg("demo").env("TMPDIR", temporary.path()));
    assert_passed(&ended);
    let steps = steps(&ended.stdout);
    let facts = [
        "the laptop loads the IANA time zone tables: 984 rows in 3 tables, 3 files",
        "on the phone, every value of 984 rows and every byte of 3 files is the same",
        "both push at once, pull, and hold the same 98",
        "bytes or more is in the server's",
        "the same search finds a planted value, so it works",
        "a tablet refuses a batch with one flipped bit (BatchForged",
    ];
    for fact in facts {
        assert!(
            steps.iter().any(|step| step.contains(fact)),
            "no {fact:?} in {steps:#?}"
        );
    }
    // Without a terminal there are no bars.
    assert_eq!(ended.stderr, "");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn programs_get_the_demo_as_one_document() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("note.txt"), "A note that nobody else should read.").unwrap();
    let ended = run_with(["demo", folder.path().to_str().unwrap(), "--json"]).expect_code(0);
    let document: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&document["passed"], &document["whole"]), (&true.into(), &true.into()));
    assert!(
        document["steps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|step| step["step"] == "tampering")
    );
    assert!(ended.stderr.contains("The demo passed"), "{}", ended.stderr);
}

#[test]
fn kept_databases_hold_the_same_rows_and_files() {
    let temporary = tempfile::tempdir().unwrap();
    let ended = run(synckit().args(["demo", "--keep"]).env("TMPDIR", temporary.path()));
    assert_passed(&ended);
    let kept = fs::read_dir(temporary.path()).unwrap().next().unwrap().unwrap().path();
    assert!(
        ended.stdout.contains(&format!("kept in {}:", kept.display())),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("sign in as demo-"), "{}", ended.stdout);
    let zones = |device: &str| {
        let database = Connection::open(kept.join(device).join("data.sqlite")).unwrap();
        let mut statement = database.prepare("SELECT * FROM zone ORDER BY id").unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            (0..columns)
                .map(|column| row.get(column))
                .collect::<Result<Vec<rusqlite::types::Value>, _>>()
        });
        rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    let laptop = zones("laptop");
    assert!(laptop.len() > 300);
    assert_eq!(laptop, zones("phone"));
    for name in ["timezones.sqlite", "zone1970.tab", "iso3166.tab"] {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        assert_eq!(
            fs::read(kept.join("phone/files").join(name)).unwrap(),
            fs::read(original).unwrap()
        );
    }
    assert!(kept.join("server/synckit.db").is_file());
}

#[test]
fn every_kind_of_table_and_value_is_synced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("odd \"name\".sqlite");
    let database = Connection::open(&path).unwrap();
    database
        .execute_batch(
            r#"
            CREATE TABLE "of ""two"" keys" (a TEXT, b INTEGER, "the value" BLOB, PRIMARY KEY (b, a));
            INSERT INTO "of ""two"" keys" VALUES ('x', 1, x'00ff10'), ('x', 2, NULL), ('y', 1, randomblob(700000));
            CREATE TABLE without_key (text, rowid_like);
            INSERT INTO without_key VALUES ('same words here', 1), ('same words here', 1), (NULL, NULL);
            CREATE TABLE hides_rowid (rowid, oid, value);
            INSERT INTO hides_rowid VALUES (7, 8, 'behind a column of that name');
            CREATE TABLE hides_everything (rowid, oid, _rowid_);
            INSERT INTO hides_everything VALUES (1, 2, 3);
            CREATE TABLE without_rowid (code TEXT PRIMARY KEY, twice AS (code || code), value REAL) WITHOUT ROWID;
            INSERT INTO without_rowid VALUES ('infinity', 9e999), ('minus infinity', -9e999), ('tiny', 5e-324), ('third', 1.0 / 3);
            CREATE TABLE null_in_key (key TEXT PRIMARY KEY, value);
            INSERT INTO null_in_key VALUES (NULL, 'first without a key'), (NULL, 'second without a key'), ('k', 1.0);
            CREATE TABLE numbers (n INTEGER PRIMARY KEY, value);
            INSERT INTO numbers VALUES (9223372036854775807, 9007199254740993), (-9223372036854775808, 1), (0, 1.0), (1, -0.0);
            CREATE TABLE texts (id INTEGER PRIMARY KEY AUTOINCREMENT, value TEXT);
            INSERT INTO texts (value) VALUES ('Grüße, 世界, 🌍'), (''), (CAST(x'ff61' AS TEXT)), ('zero' || char(0) || 'inside'), ('$blob');
            CREATE TABLE long_key (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
            INSERT INTO long_key VALUES (hex(randomblob(2000)), 'a value under a long key');
            CREATE TABLE only_key (a TEXT, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID;
            INSERT INTO only_key VALUES ('nothing but', 'a key');
            CREATE TABLE file (name TEXT PRIMARY KEY);
            INSERT INTO file VALUES ('a table that the demo has one of, too');
            CREATE TABLE strict_any (id INTEGER PRIMARY KEY, value ANY) STRICT;
            INSERT INTO strict_any VALUES (1, '0123'), (2, 123), (3, x'0123');
            CREATE TABLE empty_table (id INTEGER PRIMARY KEY, value);
            CREATE VIEW seen AS SELECT * FROM numbers;
            CREATE VIRTUAL TABLE words USING fts5(word);
            "#,
        )
        .unwrap();
    drop(database);
    let before = fs::read(&path).unwrap();
    let ended = run(synckit().arg("demo").arg(&path));
    assert_passed(&ended);
    assert!(
        ended.stdout.contains(": 29 rows in 12 tables, 1 file"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("left out: the virtual table words"),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stdout
            .contains("left out: the table hides_everything: nothing names its rows"),
        "{}",
        ended.stdout
    );
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing is left beside the database"
    );
}

#[test]
fn many_and_large_rows_are_synced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.sqlite");
    let database = Connection::open(&path).unwrap();
    database
        .execute_batch(
            "CREATE TABLE large (id INTEGER PRIMARY KEY, a BLOB, b TEXT, c, d, e, f, g, h, i, j, k, l, m, n, o);
             INSERT INTO large VALUES (1, randomblob(4000000), hex(randomblob(2000000)), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
             INSERT INTO large SELECT 2, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x FROM (SELECT randomblob(250000) AS x);
             CREATE TABLE many (id INTEGER PRIMARY KEY, value TEXT);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
             INSERT INTO many SELECT i, 'value number ' || i FROM n;",
        )
        .unwrap();
    drop(database);
    let ended = run(synckit().arg("demo").arg(&path));
    assert_passed(&ended);
    assert!(ended.stdout.contains(": 5,002 rows in 2 tables"), "{}", ended.stdout);
}

#[test]
fn a_folder_is_synced_file_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::write(
        root.join("note.txt"),
        "A note that nobody else should read.\n".repeat(100),
    )
    .unwrap();
    fs::write(root.join("a/empty"), "").unwrap();
    fs::write(root.join("a/b/zeros.bin"), vec![0; 300_000]).unwrap();
    fs::write(root.join("a/b/Grüße 世界.txt"), "Guten Tag").unwrap();
    fs::write(
        root.join("a/copy.txt"),
        "A note that nobody else should read.\n".repeat(100),
    )
    .unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        fs::write(
            root.join(std::ffi::OsStr::from_bytes(b"not utf-8 \xff")),
            "Written under an odd name",
        )
        .unwrap();
        std::os::unix::fs::symlink("/etc/hostname", root.join("link")).unwrap();
    }
    let ended = run(synckit().arg("demo").arg(root));
    assert_passed(&ended);
    let files = if cfg!(unix) { 6 } else { 5 };
    assert!(
        ended
            .stdout
            .contains(&format!("every byte of {files} files is the same")),
        "{}",
        ended.stdout
    );
    assert_eq!(ended.stdout.contains("left out: "), cfg!(unix), "{}", ended.stdout);
}

#[test]
fn empty_folder_and_empty_database_pass() {
    let folder = tempfile::tempdir().unwrap();
    assert_passed(&run(synckit().arg("demo").arg(folder.path())));
    let path = folder.path().join("empty.sqlite");
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE t (a); DROP TABLE t;")
        .unwrap();
    assert_passed(&run(synckit().arg("demo").arg(&path)));
}

#[test]
fn what_is_no_dataset_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| {
        let ended = run(synckit().arg("demo").arg(path)).expect_code(1);
        ended.stderr.replace(directory.path().to_str().unwrap(), "DIR")
    };
    insta::assert_snapshot!(refusal(&directory.path().join("missing")), @"
    error: cannot read DIR/missing: No such file or directory (os error 2)
    hint: give a SQLite database or a folder, or nothing for the built-in dataset
    ");
    let text = directory.path().join("text.txt");
    fs::write(&text, "no database").unwrap();
    insta::assert_snapshot!(refusal(&text), @"
    error: DIR/text.txt is neither a SQLite database nor a folder
    hint: put other files into a folder and give that, or give nothing for the built-in dataset
    ");
    let broken = directory.path().join("broken.sqlite");
    fs::write(&broken, [b"SQLite format 3\0".as_slice(), &[0x5A; 4096]].concat()).unwrap();
    insta::assert_snapshot!(refusal(&broken), @"
    error: cannot read the database DIR/broken.sqlite: file is not a database
    hint: if another program uses it, give a copy; if it is damaged, `sqlite3 FILE .recover` may save its rows
    ");
}

#[test]
fn demo_on_a_running_server_skips_its_disk() {
    let server = Server::start();
    let key = server.create_app();
    let ended = run(synckit()
        .args(["demo", "--server", &server.url])
        .env("SYNCKIT_API_KEY", &key));
    assert_passed(&ended);
    assert!(
        ended.stdout.contains("a tablet refuses a batch with one flipped bit"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("The stored data was not searched"),
        "{}",
        ended.stdout
    );
    let not_possible = ended
        .stdout
        .lines()
        .filter(|line| line.ends_with("not possible here"))
        .count();
    assert_eq!(not_possible, 2, "{}", ended.stdout);
}

#[test]
fn a_server_that_cannot_be_used_is_named() {
    let server = Server::start();
    let ended = run_with(["demo", "--server", &server.url, "--api-key", UNKNOWN_KEY]).expect_code(1);
    assert!(
        ended
            .stderr
            .starts_with("error: the API key is not valid on this server\nhint: "),
        "{}",
        ended.stderr
    );
    let ended = run_with(["demo", "--server", "http://sync.example.com", "--api-key", UNKNOWN_KEY]).expect_code(1);
    insta::assert_snapshot!(ended.stderr, @r#"
    error: the server URL "http://sync.example.com" cannot be used: plain http is allowed to loopback only: use https
    hint: give the server's address as --server https://sync.example.com
    "#);
}

/// A database with a write-ahead log and so many rows.
fn write_ahead_database(path: &Path, rows: u32) -> Connection {
    let database = Connection::open(path).unwrap();
    database
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO notes SELECT i, 'A note that nobody else should read, ' || i FROM n;"
        ))
        .unwrap();
    database
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The loading of many rows keeps a thread busy when the signal comes.
#[cfg(unix)]
#[test]
fn a_signal_ends_the_demo_and_leaves_nothing() {
    use std::{
        io::{BufRead as _, BufReader, Read as _},
        process::{Command, Stdio},
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.sqlite");
    drop(write_ahead_database(&path, 200_000));
    for signal in ["-INT", "-TERM", "-HUP"] {
        let temporary = tempfile::tempdir().unwrap();
        let mut demo = synckit()
            .arg("demo")
            .arg(&path)
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("a server starts") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0);
        }
        let pid = demo.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        let output = demo.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{signal}: {rest}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "error: interrupted\n");
        assert_eq!(rest, "", "{signal} had to wait");
        assert_eq!(names_in(temporary.path()), [""; 0], "{signal}");
    }
}

#[test]
fn a_database_is_read_without_a_trace() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("100% of #notes?.sqlite");
    // Closed in order: the log is gone, and a reader would make it again.
    drop(write_ahead_database(&path, 20));
    let before = names_in(directory.path());
    assert_passed(&run(synckit().arg("demo").arg(&path)));
    assert_eq!(names_in(directory.path()), before);

    // In use: the reader joins.
    let user = write_ahead_database(&directory.path().join("used.sqlite"), 20);
    let before = names_in(directory.path());
    let ended = run(synckit().arg("demo").arg(directory.path().join("used.sqlite")));
    assert_passed(&ended);
    assert!(ended.stdout.contains("20 rows in 1 table"), "{}", ended.stdout);
    assert_eq!(names_in(directory.path()), before);

    // Its user died: the rows are in the log, and the log stays as it is.
    let place = tempfile::tempdir().unwrap();
    for name in ["used.sqlite", "used.sqlite-wal"] {
        fs::copy(directory.path().join(name), place.path().join(name)).unwrap();
    }
    drop(user);
    let log = || fs::read(place.path().join("used.sqlite-wal")).unwrap();
    let before = log();
    let ended = run(synckit().arg("demo").arg(place.path().join("used.sqlite")));
    assert_passed(&ended);
    assert!(ended.stdout.contains("20 rows in 1 table"), "{}", ended.stdout);
    assert_eq!(names_in(place.path()), ["used.sqlite", "used.sqlite-wal"]);
    assert_eq!(log(), before);
}

#[test]
fn a_damaged_database_is_not_taken_for_the_servers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.sqlite");
    drop(write_ahead_database(&path, 5_000));
    let mut bytes = fs::read(&path).unwrap();
    // Everything but the schema.
    bytes[4096..].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let ended = run(synckit().arg("demo").arg(&path)).expect_code(1);
    assert!(
        ended.stderr.contains(
            "damaged.sqlite: database disk image is malformed\nhint: if another program uses it, give a copy"
        ),
        "{}",
        ended.stderr
    );
}
