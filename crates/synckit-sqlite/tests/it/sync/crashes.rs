//! Real processes that write and sync one file, and are killed anywhere: nothing is lost, doubled or stuck.
//!
//! A process counts the instructions of SQLite and the polls of its sync. At a random one it says so and stands still, which is
//! when it gets SIGKILL. `SYNCKIT_SEED` and `SYNCKIT_ROUNDS` choose other lives:
//! `SYNCKIT_ROUNDS=1000 cargo xtask with-keychain -- cargo test --workspace --test it -- crashes`.

use std::{
    future::Future,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    pin::Pin,
    process::{Command, Stdio},
    sync::atomic::{AtomicI64, Ordering},
    task::{Context, Poll},
    thread,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rusqlite::Connection;
use synckit_client::{FileStore, SyncKitClient, SyncKitConfig};
use synckit_doctest::{World, run};
use synckit_sqlite::SyncedDatabase;
use tokio::task::spawn_blocking;

use super::device::{Device, ask};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS counters (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, n INTEGER NOT NULL, mark INTEGER);
    CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, counter INTEGER NOT NULL REFERENCES counters ON DELETE CASCADE, n INTEGER NOT NULL, text TEXT);";
const TABLES: [&str; 2] = ["counters", "items"];
/// What a writer does in one transaction. `?1` is its name.
const WORK: [&str; 4] = [
    "INSERT INTO counters (name, n) VALUES (?1, 1) ON CONFLICT (name) DO UPDATE SET n = n + 1",
    "INSERT INTO items (counter, n, text) SELECT id, n, name || ' ' || n FROM counters WHERE name = ?1",
    "DELETE FROM items WHERE (counter, n) IN (SELECT id, n - 3 FROM counters WHERE name = ?1 AND n % 5 = 0)",
    "UPDATE items SET text = text || '!' WHERE (counter, n) IN (SELECT id, n - 1 FROM counters WHERE name = ?1 AND n % 2 = 0)",
];
/// What a writer has after all of that: its number, and its items.
const ITEMS: &str = "SELECT name, counters.n, group_concat(items.n || text, ',' ORDER BY items.n) FROM counters LEFT JOIN items ON counter = counters.id GROUP BY name ORDER BY name";
const TRANSACTIONS: usize = 5;

/// Instructions and polls that are left to live.
static LEFT: AtomicI64 = AtomicI64::new(i64::MAX);

fn say(what: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{what}").and_then(|()| out.flush()).unwrap();
}

/// The end comes at one of these calls, and never after it.
fn live_on() -> bool {
    if LEFT.fetch_sub(1, Ordering::Relaxed) <= 0 {
        say("now");
        loop {
            thread::park();
        }
    }
    false
}

fn mortal(connection: &Connection) -> rusqlite::Result<()> {
    connection.progress_handler(50, Some(live_on))
}

struct Mortal<F>(Pin<Box<F>>);

impl<F: Future> Future for Mortal<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        live_on();
        self.0.as_mut().poll(context)
    }
}

fn from_env(name: &str) -> String {
    std::env::var(format!("SYNCKIT_CHILD_{name}")).unwrap_or_default()
}

/// A process of the tests below. It does nothing by itself.
#[test]
fn child() {
    if from_env("ROLE").is_empty() {
        return;
    }
    LEFT.store(from_env("LEFT").parse().unwrap(), Ordering::Relaxed);
    match from_env("ROLE").as_str() {
        "writer" => write(Path::new(&from_env("FILE")), &from_env("NAME")),
        role => assert!(role == "syncer" && sync(), "{role}"),
    }
}

fn write(file: &Path, name: &str) {
    let mut app = Connection::open(file).unwrap();
    app.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    app.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
    mortal(&app).unwrap();
    for _ in 0..TRANSACTIONS {
        let transaction = app
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .unwrap();
        for sql in WORK {
            transaction.execute(sql, [name]).unwrap();
        }
        let n: i64 = transaction
            .query_row("SELECT n FROM counters WHERE name = ?1", [name], |row| row.get(0))
            .unwrap();
        transaction.commit().unwrap();
        say(&format!("done {n}"));
    }
}

fn sync() -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = SyncKitConfig {
        server_url: from_env("URL"),
        api_key: from_env("KEY"),
    };
    let client = SyncKitClient::builder(config)
        .credential_store(FileStore::new(from_env("STORE")))
        .build();
    client.try_load_key_from_keychain().unwrap();
    runtime.block_on(async {
        let device = from_env("DEVICE").parse().unwrap();
        let db = SyncedDatabase::open_with(from_env("FILE"), client, device, mortal)
            .await
            .unwrap();
        Mortal(Box::pin(db.sync())).await.unwrap();
    });
    true
}

/// A writer in another language, with the SQLite of that.
const PYTHON: &str = "
import sqlite3, sys
left = int(sys.argv[3])
def live_on():
    global left
    left -= 1
    if left <= 0:
        print('now', flush=True)
        sys.stdin.read()
    return 0
app = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
app.execute('PRAGMA foreign_keys = ON')
app.set_progress_handler(live_on, 50)
for _ in range(5):
    app.execute('BEGIN IMMEDIATE')
    for sql in sys.argv[4:]:
        app.execute(sql, [sys.argv[2]])
    (n,) = app.execute('SELECT n FROM counters WHERE name = ?', [sys.argv[2]]).fetchone()
    app.execute('COMMIT')
    print('done', n, flush=True)
";

/// Runs a process to its end, natural or not. Returns what it said it did last, and whether it was killed.
fn live_and_die(mut command: Command) -> (i64, bool) {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut done, mut is_killed) = (0, false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.ends_with("now") {
            child.kill().unwrap();
            is_killed = true;
            break;
        }
        done = line.rsplit_once("done ").map_or(done, |(_, n)| n.parse().unwrap());
    }
    let ended = child.wait_with_output().unwrap();
    assert!(
        is_killed || ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    (done, is_killed)
}

struct Laptop {
    file: String,
    config: SyncKitConfig,
    store: String,
    device: String,
}

impl Laptop {
    async fn new(world: &World, journal: &str) -> Self {
        let (file, store) = (world.path("laptop.db"), world.path("laptop.json"));
        let client = SyncKitClient::builder(world.config())
            .credential_store(FileStore::new(&store))
            .build();
        client.authenticate(world.email, world.password).await.unwrap();
        client.setup_encryption_existing(world.password).await.unwrap();
        let device = client.register_device("laptop", "linux").await.unwrap();
        let app = Connection::open(&file).unwrap();
        app.execute_batch(&format!("PRAGMA journal_mode = {journal}; {SCHEMA}"))
            .unwrap();
        let db = SyncedDatabase::open(&file, client, device.id).await.unwrap();
        db.track(TABLES).await.unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        Self {
            file: text(&file),
            config: world.config(),
            store: text(&store),
            device: device.id.to_string(),
        }
    }

    fn child(&self, role: &str, left: i64) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "sync::crashes::child", "--nocapture"]);
        let values = [
            ("ROLE", role),
            ("NAME", "rust"),
            ("FILE", &self.file),
            ("URL", &self.config.server_url),
            ("KEY", &self.config.api_key),
            ("STORE", &self.store),
            ("DEVICE", &self.device),
            ("LEFT", &left.to_string()),
        ];
        command.envs(values.map(|(name, value)| (format!("SYNCKIT_CHILD_{name}"), value)));
        command
    }

    fn python(&self, left: i64) -> Command {
        let mut command = Command::new(std::env::var_os("SYNCKIT_TEST_PYTHON").expect("`cargo xtask test` sets it"));
        command
            .args(["-c", PYTHON, &self.file, "python", &left.to_string()])
            .args(WORK);
        command
    }
}

/// What a writer must have.
fn expected(name: &str, n: i64) -> String {
    let gone = |item: i64| (1..=n).any(|at| at % 5 == 0 && at - 3 == item);
    let items = (1..=n).filter(|item| !gone(*item)).map(|item| {
        let end = if item < n && (item + 1) % 2 == 0 { "!" } else { "" };
        format!("{item}{name} {item}{end}")
    });
    format!("{name}|{n}|{}", items.collect::<Vec<_>>().join(","))
}

async fn survive(world: World, seed: u64, journal: &str, rounds: u32) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let phone = Device::start(&world, "phone", SCHEMA, TABLES).await;
    let laptop = Laptop::new(&world, journal).await;
    let (mut acknowledged, mut killed) = ([0, 0], 0);
    for round in 0..rounds {
        let mut left = |most: i64| random.gen_range(1..most);
        let lives = [
            laptop.child("writer", left(80)),
            laptop.python(left(80)),
            laptop.child("syncer", left(4000)),
            laptop.child("syncer", left(4000)),
        ];
        let lives = lives.map(|command| spawn_blocking(|| live_and_die(command)));
        phone.run(&format!("UPDATE counters SET mark = {round}"));
        phone.sync().await;
        for (place, life) in lives.into_iter().enumerate() {
            let (done, is_killed) = life
                .await
                .map_err(|error| format!("seed {seed}, round {round}: {error}"))?;
            killed += u32::from(is_killed);
            if let Some(last) = acknowledged.get_mut(place) {
                *last = done.max(*last);
            }
        }
    }
    // As often as not.
    if killed < rounds {
        return Err(format!(
            "seed {seed}: only {killed} of {} processes were killed",
            rounds * 4
        ));
    }
    phone.sync().await;
    let mark = format!("{rounds}");
    phone.run(&format!("UPDATE counters SET mark = {mark}"));
    for _ in 0..2 {
        phone.sync().await;
        let (_, is_killed) = live(&laptop).await;
        assert!(!is_killed);
    }
    let app = Connection::open(&laptop.file).map_err(|error| error.to_string())?;
    for (device, app) in [("laptop", &app), ("phone", &phone.app)] {
        for check in ["PRAGMA integrity_check", "PRAGMA foreign_key_check"] {
            let found = ask(app, check);
            if !found.is_empty() && found != ["ok"] {
                return Err(format!("seed {seed}: {device}: {found:?}"));
            }
        }
        if ask(app, "SELECT DISTINCT mark FROM counters") != [mark.clone()] {
            return Err(format!("seed {seed}: {device} lost the phone's last edit"));
        }
        for ((name, last), found) in ["rust", "python"].iter().zip(acknowledged).rev().zip(ask(app, ITEMS)) {
            let n: i64 = found.split('|').nth(1).unwrap_or_default().parse().unwrap_or_default();
            if n < last || found != expected(name, n) {
                return Err(format!(
                    "seed {seed}: {device}, {last} acknowledged: {found}\n{}",
                    expected(name, n)
                ));
            }
        }
    }
    Ok(())
}

async fn live(laptop: &Laptop) -> (i64, bool) {
    let command = laptop.child("syncer", i64::MAX);
    spawn_blocking(|| live_and_die(command)).await.unwrap()
}

fn survive_with(journal: &str) {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |number| number.parse().unwrap());
    let (seed, rounds) = (number("SYNCKIT_SEED", 1), number("SYNCKIT_ROUNDS", 8));
    run(async |world| Ok(survive(world, seed, journal, u32::try_from(rounds)?).await?));
}

#[test]
fn killed_processes_lose_nothing() {
    survive_with("DELETE");
}

#[test]
fn killed_processes_lose_nothing_with_a_wal() {
    survive_with("WAL");
}
