//! Files of many rows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use rusqlite::{Connection, functions::FunctionFlags};
use synckit_doctest::run;
use synckit_sqlite::SyncedDatabase;

use super::device::{Device, ask};

const SCHEMA: &str = "
    CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE tasks (id INTEGER PRIMARY KEY, list_id INTEGER REFERENCES lists ON DELETE CASCADE, title TEXT, done INTEGER NOT NULL DEFAULT 0, at REAL);";

const PHOTOS: &str = "CREATE TABLE photos (name TEXT PRIMARY KEY, bytes BLOB)";

fn rows() -> u32 {
    std::env::var("SYNCKIT_ROWS").map_or(3_000, |rows| rows.parse().unwrap())
}

fn fill(device: &Device) {
    let counted =
        |to: u32| format!("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < {to})");
    device.run(&format!(
        "INSERT INTO lists {} SELECT x, 'List ' || x FROM c",
        counted(100)
    ));
    device.run(&format!(
        "INSERT INTO tasks {} SELECT x, 1 + x % 100, 'Task number ' || x, x % 2, x * 1.5 FROM c",
        counted(rows())
    ));
}

/// Says how long a sync took: `SYNCKIT_ROWS=100000` measures.
#[expect(clippy::print_stdout, reason = "a measurement")]
async fn sync(device: &Device, what: &str) -> (usize, usize) {
    let start = Instant::now();
    let report = device.sync().await;
    println!("{what}: {:?}", start.elapsed());
    assert_eq!((report.parked, report.conflicts), (0, 0));
    (report.pushed, report.pulled)
}

#[test]
fn many_rows_arrive() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["lists", "tasks"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["lists", "tasks"]).await;
        fill(&laptop);
        let all = usize::try_from(rows())? + 100;
        assert_eq!(sync(&laptop, "all sent").await, (all, 0));
        assert_eq!(sync(&phone, "all received").await, (0, all));
        phone.run("UPDATE tasks SET title = 'x' WHERE id = 77");
        assert_eq!(sync(&phone, "one sent").await, (1, 0));
        assert_eq!(sync(&laptop, "one received").await, (0, 1));
        assert_eq!(sync(&laptop, "nothing").await, (0, 0));
        let all = "SELECT count(*), total(at), count(DISTINCT list_id), count(*) FILTER (WHERE title = 'x') FROM tasks";
        assert_eq!(laptop.ask(all), phone.ask(all));
        Ok(())
    });
}

/// Two devices that made the same rows, and met later: every row of one becomes a row of the other.
#[test]
fn many_equal_rows_become_one_each() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["lists", "tasks"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["lists", "tasks"]).await;
        for device in [&laptop, &phone] {
            let name = format!(
                "WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < {}) SELECT 'List ' || x FROM c",
                rows()
            );
            device.run(&format!(
                "INSERT INTO lists (name) {name}; INSERT INTO tasks (list_id) SELECT id FROM lists"
            ));
        }
        sync(&laptop, "all sent").await;
        sync(&phone, "all met").await;
        sync(&laptop, "the tasks received").await;
        let all = "SELECT count(DISTINCT name), count(*) FROM tasks JOIN lists ON lists.id = list_id";
        assert_eq!(laptop.ask(all), [format!("{}|{}", rows(), 2 * rows())]);
        assert_eq!(phone.ask(all), laptop.ask(all));
        Ok(())
    });
}

/// Files that arrive together are placed together: each time looks at every row. A row that the table refuses counts these times.
#[test]
fn files_that_come_together_are_placed_once() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", PHOTOS, ["photos"]).await;
        laptop.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 30) INSERT INTO photos SELECT x, randomblob(70000) FROM c");
        laptop.run("INSERT INTO photos VALUES ('odd', NULL)");
        laptop.sync().await;
        let tried = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tried);
        let register = move |connection: &Connection| {
            let count = Arc::clone(&count);
            let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
            connection.create_scalar_function("is_even", 1, flags, move |context| {
                let is_even = context.get::<String>(0)? != "odd";
                count.fetch_add(usize::from(!is_even), Ordering::SeqCst);
                Ok(is_even)
            })
        };
        let (client, device) = world.device("phone").await?;
        let path = world.path("phone.db");
        let app = Connection::open(&path)?;
        register(&app)?;
        app.execute_batch("CREATE TABLE photos (name TEXT PRIMARY KEY CHECK (is_even(name)), bytes BLOB)")?;
        let phone = SyncedDatabase::open_with(&path, client, device.id, register).await?;
        phone.track(["photos"]).await?;
        assert_eq!(phone.sync().await?.parked, 1);
        assert_eq!(ask(&app, "SELECT count(*) FROM photos"), ["30"]);
        let tried = tried.load(Ordering::SeqCst);
        assert!(tried < 20, "{tried}");
        Ok(())
    });
}
