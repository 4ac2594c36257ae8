//! Random lives of three devices: edits of every kind, syncs, syncs that end at any await, files that are tracked again. When all is
//! quiet, every device has the same rows, and each file is whole.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use synckit_doctest::{World, run};
use synckit_sqlite::SyncedDatabase;

use super::{
    device::Device,
    folding::{BOOK, snapshot},
};

/// With so many entries, the log is folded.
const FOLD_AFTER: u64 = 20;

const SCHEMA: &str = "
    CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, place INTEGER);
    CREATE TABLE tasks (id INTEGER PRIMARY KEY, list INTEGER REFERENCES lists ON DELETE CASCADE, parent INTEGER REFERENCES tasks ON DELETE SET NULL, title TEXT, at INTEGER, seen TEXT);
    CREATE UNIQUE INDEX one_of_a_title ON tasks (list, lower(title)) WHERE at IS NULL;
    CREATE TABLE tags (name TEXT PRIMARY KEY, color TEXT UNIQUE);
    CREATE TABLE tagged (task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE, tag TEXT NOT NULL REFERENCES tags ON DELETE CASCADE ON UPDATE CASCADE, PRIMARY KEY (task, tag)) WITHOUT ROWID;
    CREATE TRIGGER touch AFTER UPDATE OF title ON tasks BEGIN UPDATE tasks SET seen = 'seen ' || NEW.title WHERE id = NEW.id; END;
    INSERT INTO lists VALUES (1, 'Inbox', 0), (2, 'Later', 1); INSERT INTO tasks VALUES (1, 1, NULL, 'Welcome', NULL, NULL);";
const TABLES: [&str; 4] = ["lists", "tasks", "tags", "tagged"];
/// Every row, with the rows that it refers to in the place of numbers.
const ALL: &[&str] = &[
    "SELECT name, place FROM lists ORDER BY 1",
    "SELECT l.name, p.title, t.title, t.at, t.seen FROM tasks t LEFT JOIN lists l ON l.id = t.list LEFT JOIN tasks p ON p.id = t.parent ORDER BY 1, 2, 3, 4, 5",
    "SELECT * FROM tags ORDER BY 1",
    "SELECT t.title, l.name, g.tag FROM tagged g JOIN tasks t ON t.id = g.task LEFT JOIN lists l ON l.id = t.list ORDER BY 1, 2, 3",
];

/// A future that ends after so many polls, as if the process had been killed.
struct Killed<F> {
    future: Pin<Box<F>>,
    polls: u32,
}

impl<F: Future> Future for Killed<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}

async fn sync_or_die(db: &SyncedDatabase, polls: u32) {
    let future = Box::pin(db.sync());
    if let Some(Err(error)) = (Killed { future, polls }).await {
        panic!("{error:?}");
    }
}

/// One transaction of the app. What its database refuses did not happen.
fn edit(device: &Device, random: &mut StdRng) -> String {
    let name = |random: &mut StdRng| {
        ["Inbox", "Later", "Home", "Work", "home"]
            .choose(random)
            .unwrap()
            .to_string()
    };
    let any = |table: &str, random: &mut StdRng| {
        let ids = device.ask(&format!("SELECT id FROM {table}"));
        ids.choose(random).cloned().unwrap_or_else(|| "NULL".into())
    };
    let (a, b, n) = (name(random), name(random), random.gen_range(0..1000));
    let (list, task, other) = (any("lists", random), any("tasks", random), any("tasks", random));
    let at = ["NULL", "1", "2"].choose(random).unwrap();
    let sql = match random.gen_range(0..17) {
        0 => format!("INSERT INTO lists (name, place) VALUES ('{a}', {n})"),
        1 | 2 => format!("INSERT INTO tasks (list, title, at) VALUES ({list}, '{a}', {at})"),
        3 => format!("INSERT INTO tasks (list, parent, title, at) VALUES ({list}, {task}, '{n}', {n})"),
        4 => format!("UPDATE lists SET name = '{a}' WHERE id = {list}"),
        5 => format!("UPDATE lists SET place = {n} WHERE id = {list}"),
        6 => format!("UPDATE tasks SET title = '{a}', at = {at} WHERE id = {task}"),
        7 => format!("UPDATE tasks SET list = {list}, parent = {other} WHERE id = {task}"),
        8 => format!("DELETE FROM tasks WHERE id = {task}"),
        9 => format!("DELETE FROM lists WHERE id = {list} AND {n} < 300"),
        10 => format!("INSERT OR REPLACE INTO lists (name, place) VALUES ('{a}', {n})"),
        11 => format!(
            "INSERT OR IGNORE INTO tags VALUES ('{a}', '{b}'); INSERT OR IGNORE INTO tagged VALUES ({task}, '{a}')"
        ),
        12 => format!("DELETE FROM tags WHERE name = '{a}'"),
        13 => format!("UPDATE OR IGNORE tags SET name = '{b}' WHERE name = '{a}'"),
        // Names change places.
        14 => format!(
            "UPDATE lists SET name = 'x' WHERE name = '{a}'; UPDATE lists SET name = '{a}' WHERE name = '{b}'; UPDATE lists SET name = '{b}' WHERE name = 'x'"
        ),
        // A number is given again.
        15 => format!(
            "DELETE FROM tasks WHERE id = (SELECT max(id) FROM tasks); INSERT INTO tasks (list, title, at) VALUES ({list}, '{n}', {n})"
        ),
        _ => format!("UPDATE tasks SET at = {n}, title = '{n}' WHERE id = {task}"),
    };
    let done = device.app.execute_batch(&format!("BEGIN; {sql}; COMMIT"));
    if done.is_err() {
        device.run("ROLLBACK");
        return format!("({sql})");
    }
    sql
}

async fn live(world: World, seed: u64, rounds: usize) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut devices = Vec::new();
    for name in ["laptop", "phone", "tablet"] {
        let device = Device::start(&world, name, SCHEMA, TABLES).await;
        device.db.fold_after(FOLD_AFTER);
        devices.push(device);
    }
    for round in 0..rounds {
        let mut story = Vec::new();
        for _ in 0..random.gen_range(3..14) {
            let index = random.gen_range(0..devices.len());
            let device = &devices[index];
            match random.gen_range(0..20) {
                0 | 1 => story.push(format!("{index}: {:?}", device.sync().await)),
                2 => {
                    device.db.untrack_all().await.unwrap();
                    device.db.track(TABLES).await.unwrap();
                    story.push(format!("{index}: tracked again"));
                }
                3 | 4 => {
                    let polls = random.gen_range(1..30);
                    sync_or_die(&device.db, polls).await;
                    story.push(format!("{index}: killed after {polls}"));
                }
                _ => story.push(format!("{index}: {}", edit(device, &mut random))),
            }
        }
        come_to_rest(&devices)
            .await
            .map_err(|problem| format!("seed {seed}, round {round}: {problem}\n{story:#?}"))?;
        if round % 3 == 2 {
            begin_anew(&world, &mut devices, round)
                .await
                .map_err(|problem| format!("seed {seed}, round {round}: {problem}\n{story:#?}"))?;
        }
    }
    match snapshot(&devices[0].client).await {
        Some(_) => Ok(()),
        None => Err(format!("seed {seed}: the log was never folded")),
    }
}

/// A device that begins now has what those have that read every entry. It lives on in the place of one of them.
async fn begin_anew(world: &World, devices: &mut [Device], round: usize) -> Result<(), String> {
    let (schema, _) = SCHEMA.split_once("INSERT INTO lists").unwrap();
    let fresh = Device::start(world, &format!("fresh {round}"), schema, TABLES).await;
    fresh.db.fold_after(FOLD_AFTER);
    fresh.sync().await;
    for sql in ALL.iter().chain(&[BOOK]) {
        let (here, there) = (fresh.ask(sql), devices[0].ask(sql));
        if here != there {
            return Err(format!("a fresh device has {here:#?}\nthe first one {there:#?}"));
        }
    }
    devices[round / 3 % 3] = fresh;
    Ok(())
}

async fn come_to_rest(devices: &[Device]) -> Result<(), String> {
    for _ in 0..3 {
        for device in devices {
            device.sync().await;
        }
    }
    for (index, device) in devices.iter().enumerate() {
        let report = device.sync().await;
        if (report.pushed, report.pulled, report.parked, report.held_deletions) != (0, 0, 0, 0) {
            let parked = device.ask("SELECT * FROM synckit_parked");
            return Err(format!("device {index} does not come to rest: {report:?} {parked:#?}"));
        }
        for check in ["PRAGMA integrity_check", "PRAGMA foreign_key_check"] {
            let found = device.ask(check);
            if found != ["ok"] && !found.is_empty() {
                return Err(format!("device {index}: {found:?}"));
            }
        }
        for sql in ALL {
            let (here, there) = (device.ask(sql), devices[0].ask(sql));
            if here != there {
                return Err(format!("device {index} has {here:#?}\nthe first one {there:#?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn every_life_comes_to_rest() {
    for seed in 0..3 {
        run(async |world| Ok(live(world, seed, 10).await?));
    }
}
