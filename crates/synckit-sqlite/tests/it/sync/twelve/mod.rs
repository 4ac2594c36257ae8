//! The twelve databases, as applications leave them: on their way to a device that starts empty and to one that was seeded alike,
//! edited on all of them, and rebuilt.

mod compare;
mod declared;
mod edits;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rand::{SeedableRng as _, rngs::StdRng};
use rusqlite::Connection;
use serde_json::Value as Json;
use synckit_doctest::{World, run};
use synckit_sqlite::{Answer, SyncedDatabase, inspect::SchemaReport, track::Track};

use self::{
    compare::canonical,
    declared::declared,
    edits::{edit, rebuild},
};
use super::device::ask;
use crate::schemas;

struct Device {
    app: Connection,
    db: SyncedDatabase,
    report: SchemaReport,
    local: Vec<(String, String)>,
}

impl Device {
    async fn open(world: &World, path: &Path, tracks: &[Track], report: &SchemaReport, manifest: &Json) -> Self {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (client, device) = world.device(name).await.unwrap();
        let db = SyncedDatabase::open_with(path, client, device.id, schemas::register)
            .await
            .unwrap();
        db.track(tracks.to_vec())
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            app: connect(path),
            db,
            report: report.clone(),
            local: local_columns(manifest),
        }
    }

    fn rows(&self) -> Rows {
        canonical(&self.app, &self.report, &self.local)
    }

    async fn sync(&self) {
        let count = self.db.sync().await.unwrap().held_deletions;
        if count > 0 {
            let question = super::device::question(&self.db);
            self.db.decide(&question, Answer::Yes).await.unwrap();
            self.db.sync().await.unwrap();
        }
    }

    fn edit(&self, count: usize, random: &mut StdRng) -> Vec<String> {
        (0..count)
            .filter_map(|_| edit(&self.app, &self.report, random))
            .collect()
    }
}

fn local_columns(manifest: &Json) -> Vec<(String, String)> {
    let tables = manifest["local_columns"].as_object().into_iter().flatten();
    let columns = tables.flat_map(|(table, columns)| {
        columns
            .as_array()
            .into_iter()
            .flatten()
            .map(move |column| (table, column))
    });
    columns
        .map(|(table, column)| (table.clone(), column.as_str().unwrap().to_owned()))
        .collect()
}

fn connect(path: &Path) -> Connection {
    let app = Connection::open(path).unwrap();
    schemas::register(&app).unwrap();
    app.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    app
}

fn copy(world: &World, name: &str, device: &str) -> PathBuf {
    let path = world.path(&format!("{device} {name}.db"));
    std::fs::copy(schemas::folder().join(format!("{name}.sqlite")), &path).unwrap();
    path
}

/// The file of a new installation: the schema, and the rows of the tables that are not synced.
fn fresh(world: &World, name: &str, report: &SchemaReport) -> PathBuf {
    let (path, source) = (world.path(&format!("phone {name}.db")), copy(world, name, "source"));
    let app = connect(&path);
    app.execute_batch(&format!(
        "PRAGMA foreign_keys = OFF; ATTACH '{}' AS source",
        source.display()
    ))
    .unwrap();
    let objects = |condition: &str| {
        ask(
            &app,
            &format!(
                "SELECT sql FROM source.sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' AND {condition} ORDER BY rowid"
            ),
        )
    };
    let shadow = "name IN (SELECT name FROM pragma_table_list WHERE schema = 'source' AND type = 'shadow')";
    let run = |sql: &str| {
        app.execute_batch(sql)
            .unwrap_or_else(|error| panic!("{name}: {error} in {sql}"))
    };
    objects(&format!("type = 'table' AND NOT {shadow}"))
        .iter()
        .for_each(|sql| run(sql));
    let tables = ask(
        &app,
        "SELECT name FROM pragma_table_list WHERE schema = 'source' AND type = 'table' AND name NOT LIKE 'sqlite_%'",
    );
    for table in tables.iter().filter(|table| report.table(table).is_none()) {
        run(&format!(
            "INSERT INTO main.\"{table}\" SELECT * FROM source.\"{table}\""
        ));
    }
    objects("type <> 'table'").iter().for_each(|sql| run(sql));
    // The rows came before the triggers.
    for index in ask(
        &app,
        "SELECT name FROM main.sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL TABLE%USING fts%content%'",
    ) {
        run(&format!("INSERT INTO \"{index}\" (\"{index}\") VALUES ('rebuild')"));
    }
    path
}

type Rows = BTreeMap<String, Vec<String>>;

fn compare(here: &Rows, there: &Rows, what: &str) {
    let only = |these: &[String], those: &[String]| {
        let only = these.iter().filter(|row| !those.contains(row));
        only.take(3).cloned().collect::<Vec<_>>()
    };
    for (table, here) in here {
        let there = &there[table];
        let (more, less) = (only(here, there), only(there, here));
        assert!(
            here == there,
            "{what}: {table} {} {}: {more:#?} {less:#?}",
            here.len(),
            there.len()
        );
    }
}

async fn come_to_rest(devices: &[&Device], what: &str) {
    for _ in 0..3 {
        for device in devices {
            device.sync().await;
        }
    }
    for device in devices {
        let report = device.db.sync().await.unwrap();
        let parked = ask(&device.app, "SELECT * FROM synckit_parked LIMIT 5");
        assert_eq!(
            (report.pushed, report.pulled, report.parked, report.unsendable),
            (0, 0, 0, 0),
            "{what}: {parked:#?}"
        );
        assert_eq!(ask(&device.app, "PRAGMA integrity_check"), ["ok"], "{what}");
        assert_eq!(
            ask(&device.app, "PRAGMA foreign_key_check"),
            Vec::<String>::new(),
            "{what}"
        );
        compare(&devices[0].rows(), &device.rows(), what);
    }
}

async fn travel(world: World, name: &str, rounds: usize) {
    let (source, manifest) = (copy(&world, name, "laptop"), schemas::manifest(name));
    let (tracks, report) = declared(&connect(&source), &manifest);
    let phone = fresh(&world, name, &report);
    let laptop = Device::open(&world, &source, &tracks, &report, &manifest).await;
    let phone = Device::open(&world, &phone, &tracks, &report, &manifest).await;
    let tablet = Device::open(&world, &copy(&world, name, "tablet"), &tracks, &report, &manifest).await;
    let before = laptop.rows();
    come_to_rest(&[&laptop, &phone], &format!("{name}: first sync")).await;
    compare(
        &before,
        &laptop.rows(),
        &format!("{name}: the first sync changed its own device"),
    );
    let seed = std::env::var("SYNCKIT_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    let mut story = vec![laptop.edit(12, &mut random), tablet.edit(12, &mut random)];
    let all = [&laptop, &tablet, &phone];
    come_to_rest(&all, &format!("{name}, seed {seed}: {story:#?}")).await;
    let rounds = std::env::var("SYNCKIT_ROUNDS").map_or(rounds, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        story = all.iter().map(|device| device.edit(15, &mut random)).collect();
        for table in report.tables.iter().skip(round % 3).step_by(3) {
            rebuild(&phone.app, &table.name);
        }
        story.push(phone.edit(5, &mut random));
        come_to_rest(&all, &format!("{name}, seed {seed}, round {round}: {story:#?}")).await;
    }
}

macro_rules! travels {
    ($($test:ident $name:literal $rounds:literal),* $(,)?) => { $(
        #[test]
        fn $test() {
            run(async |world| {
                travel(world, $name, $rounds).await;
                Ok(())
            });
        }
    )* };
}

travels! {
    notebook_travels "01-notebook" 1, flashcards_travel "02-flashcards" 1, references_travel "03-references" 1,
    ebooks_travel "04-ebooks" 1, mail_travels "05-mail" 1, budget_travels "06-budget" 1, household_travels "07-household" 1,
    website_travels "08-website" 1, messenger_travels "09-messenger" 0, podcasts_travel "10-podcasts" 1, tasks_travel "11-tasks" 1,
    trading_travels "12-trading" 1,
}
