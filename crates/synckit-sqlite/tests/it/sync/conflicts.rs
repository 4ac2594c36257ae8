//! Values that lost are kept, and can come back.

use std::time::{Duration, SystemTime};

use synckit_doctest::run;
use synckit_sqlite::{Conflict, Error, rows::Value};

use super::device::{Device, settle};

const SCHEMA: &str = "CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
    CREATE TABLE notes (id INTEGER PRIMARY KEY, list INTEGER REFERENCES lists ON DELETE CASCADE, text TEXT, done INTEGER)";
const TABLES: [&str; 2] = ["lists", "notes"];
const NOTES: &str = "SELECT l.name, n.text, n.done FROM notes n LEFT JOIN lists l ON l.id = n.list ORDER BY 2";

async fn two(world: &synckit_doctest::World) -> (Device, Device) {
    let laptop = Device::start(world, "laptop", SCHEMA, TABLES).await;
    let phone = Device::start(world, "phone", SCHEMA, TABLES).await;
    laptop.run("INSERT INTO lists VALUES (1, 'Home'); INSERT INTO notes VALUES (1, 1, 'one', 0)");
    settle(&laptop, &phone).await;
    (laptop, phone)
}

async fn only(device: &Device) -> Conflict {
    let mut all = device.db.conflicts().await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// An edit has the time at which it was first looked at.
async fn edit(device: &Device, sql: &str) {
    device.run(sql);
    device.db.parked().await.unwrap();
}

#[test]
fn lost_value_is_shown_and_restored() {
    run(async |world| {
        let (laptop, phone) = two(&world).await;
        edit(&phone, "UPDATE notes SET text = 'phone', done = 1").await;
        edit(&laptop, "UPDATE notes SET text = 'laptop'").await;
        laptop.sync().await;
        // The later edit wins, by the device that is second.
        assert_eq!(phone.sync().await.conflicts, 1);
        let conflict = only(&phone).await;
        assert_eq!(conflict.table, "notes");
        assert_eq!(
            conflict.lost.iter().collect::<Vec<_>>(),
            [("text", &Value::text("phone"))]
        );
        assert_eq!(conflict.now.unwrap().get("text"), Some(&Value::text("laptop")));
        phone.db.restore(conflict.number).await?;
        assert_eq!(phone.ask(NOTES), ["Home|phone|1"]);
        assert_eq!(phone.db.conflicts().await?, []);
        assert!(matches!(
            phone.db.restore(conflict.number).await,
            Err(Error::NoConflict(_))
        ));
        settle(&phone, &laptop).await;
        assert_eq!(laptop.ask(NOTES), ["Home|phone|1"]);
        Ok(())
    });
}

/// A row that went with its parent comes back after that.
#[test]
fn lost_row_comes_back_after_its_parent() {
    run(async |world| {
        let (laptop, phone) = two(&world).await;
        laptop.run("DELETE FROM lists");
        laptop.sync().await;
        phone.run("INSERT INTO notes VALUES (2, 1, 'two', 0)");
        phone.sync().await;
        assert_eq!(phone.ask(NOTES), Vec::<String>::new());
        let all = phone.db.conflicts().await?;
        let tables: Vec<&str> = all.iter().map(|conflict| conflict.table.as_str()).collect();
        assert_eq!(tables, ["notes", "lists"]);
        let error = phone.db.restore(all[0].number).await.unwrap_err();
        assert!(
            matches!(&error, Error::ParentGone { table, column } if table == "notes" && column == "list"),
            "{error:?}"
        );
        phone.db.restore(all[1].number).await?;
        phone.db.restore(all[0].number).await?;
        settle(&phone, &laptop).await;
        for device in [&laptop, &phone] {
            assert_eq!(device.ask(NOTES), ["Home|two|0"]);
            assert_eq!(device.db.conflicts().await?, []);
        }
        Ok(())
    });
}

/// Some values of a row that is gone are no row.
#[test]
fn values_of_a_row_that_is_gone_stay_lost() {
    run(async |world| {
        let (laptop, phone) = two(&world).await;
        edit(&phone, "UPDATE notes SET text = 'phone'").await;
        edit(&laptop, "UPDATE notes SET text = 'laptop'").await;
        settle(&laptop, &phone).await;
        let conflict = only(&phone).await;
        phone.run("DELETE FROM notes");
        let error = phone.db.restore(conflict.number).await.unwrap_err();
        assert!(matches!(error, Error::RowGone(_)), "{error:?}");
        assert_eq!(phone.ask(NOTES), Vec::<String>::new());
        assert!(phone.db.forget(conflict.number).await?);
        Ok(())
    });
}

/// The table has the last word, and then nothing is changed.
#[test]
fn restored_value_obeys_the_table() {
    run(async |world| {
        let (laptop, phone) = two(&world).await;
        edit(&phone, "UPDATE lists SET name = 'phone'").await;
        edit(&laptop, "UPDATE lists SET name = 'laptop'").await;
        settle(&laptop, &phone).await;
        let conflict = only(&phone).await;
        phone.run("INSERT INTO lists (name) VALUES ('phone')");
        let error = phone.db.restore(conflict.number).await.unwrap_err();
        assert!(matches!(error, Error::Database(_)), "{error:?}");
        assert_eq!(phone.ask("SELECT name FROM lists ORDER BY 1"), ["laptop", "phone"]);
        phone.run("DELETE FROM lists WHERE name = 'phone'");
        phone.db.restore(conflict.number).await?;
        settle(&phone, &laptop).await;
        assert_eq!(laptop.ask("SELECT name FROM lists"), ["phone"]);
        Ok(())
    });
}

/// A long text is nowhere else, and outlives the batches that come after.
#[test]
fn lost_long_value_is_kept() {
    run(async |world| {
        let (laptop, phone) = two(&world).await;
        edit(&phone, "UPDATE notes SET text = hex(zeroblob(50000))").await;
        edit(&laptop, "UPDATE notes SET text = 'short'").await;
        laptop.sync().await;
        phone.sync().await;
        phone.run("INSERT INTO notes (text) VALUES ('next')");
        settle(&phone, &laptop).await;
        phone.db.restore(only(&phone).await.number).await?;
        assert_eq!(phone.ask("SELECT length(text) FROM notes WHERE list = 1"), ["100000"]);
        settle(&phone, &laptop).await;
        assert_eq!(laptop.ask("SELECT length(text) FROM notes WHERE list = 1"), ["100000"]);
        assert_eq!(
            phone.ask("SELECT (SELECT count(*) FROM synckit_files) + (SELECT count(*) FROM synckit_lost_files)"),
            ["0"]
        );
        Ok(())
    });
}

#[test]
fn conflicts_are_forgotten_by_age() {
    run(async |world| {
        let (laptop, phone) = two(&world).await;
        edit(&phone, "UPDATE notes SET text = 'phone'").await;
        edit(&laptop, "UPDATE notes SET text = 'laptop'").await;
        settle(&laptop, &phone).await;
        let now = SystemTime::now();
        assert_eq!(
            phone
                .db
                .forget_conflicts_before(now - Duration::from_secs(3600))
                .await?,
            0
        );
        assert_eq!(
            phone
                .db
                .forget_conflicts_before(now + Duration::from_secs(3600))
                .await?,
            1
        );
        assert_eq!(phone.sync().await.conflicts, 0);
        Ok(())
    });
}

/// An app may show a list that is not of now.
#[test]
fn number_of_a_forgotten_conflict_is_not_given_again() {
    run(async |world| {
        let (laptop, phone) = two(&world).await;
        let mut numbers = Vec::new();
        for round in 0..2 {
            edit(&phone, &format!("UPDATE notes SET text = 'phone {round}'")).await;
            edit(&laptop, &format!("UPDATE notes SET text = 'laptop {round}'")).await;
            settle(&laptop, &phone).await;
            let number = only(&phone).await.number;
            numbers.push(number);
            if round == 0 {
                assert!(phone.db.forget(number).await?);
            }
        }
        assert!(!phone.db.forget(numbers[0]).await?);
        assert!(phone.db.forget(numbers[1]).await?);
        Ok(())
    });
}

/// A row was made here, and the one that it must refer to was deleted there: it goes, and can come back with its parent.
#[test]
fn child_that_must_have_a_parent_follows_it() {
    run(async |world| {
        let forms = ["", "ON DELETE CASCADE", "ON DELETE SET NULL", "ON DELETE SET DEFAULT"];
        for (case, form) in forms.into_iter().enumerate() {
            let schema = format!(
                "CREATE TABLE lists{case} (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
                 CREATE TABLE notes{case} (id INTEGER PRIMARY KEY, list INTEGER NOT NULL REFERENCES lists{case} {form}, text TEXT);
                 CREATE TABLE lines{case} (id INTEGER PRIMARY KEY, note INTEGER NOT NULL REFERENCES notes{case} {form}, text TEXT)"
            );
            let tables = [format!("lists{case}"), format!("notes{case}"), format!("lines{case}")];
            let tables = || tables.iter().map(String::as_str);
            let laptop = Device::start(&world, &format!("laptop {case}"), &schema, tables()).await;
            let phone = Device::start(&world, &format!("phone {case}"), &schema, tables()).await;
            laptop.run(&format!("INSERT INTO lists{case} VALUES (1, 'Home'), (2, 'Work')"));
            settle(&laptop, &phone).await;
            phone.run(&format!("DELETE FROM lists{case} WHERE name = 'Home'"));
            phone.sync().await;
            laptop.run(&format!(
                "INSERT INTO notes{case} VALUES (1, 1, 'of Home'), (2, 2, 'of Work'); INSERT INTO lines{case} VALUES (1, 1, 'line')"
            ));
            settle(&laptop, &phone).await;
            for device in [&laptop, &phone] {
                let report = device.sync().await;
                let parked = device.db.parked().await?;
                assert_eq!((report.pushed, &parked[..]), (0, &[][..]), "{form}");
                assert_eq!(
                    device.ask(&format!("SELECT text FROM notes{case}")),
                    ["of Work"],
                    "{form}"
                );
                assert_eq!(
                    device.ask(&format!("SELECT count(*) FROM lines{case}")),
                    ["0"],
                    "{form}"
                );
            }
            // Nothing is lost: the list, the note and its line come back.
            for name in ["lists", "notes", "lines"] {
                let all = laptop.db.conflicts().await?;
                let lost = all.iter().find(|conflict| conflict.table == format!("{name}{case}"));
                laptop.db.restore(lost.map_or(0, |conflict| conflict.number)).await?;
                laptop.sync().await;
            }
            settle(&laptop, &phone).await;
            let joined = format!(
                "SELECT l.name, n.text, i.text FROM lists{case} l JOIN notes{case} n ON n.list = l.id LEFT JOIN lines{case} i ON i.note = n.id ORDER BY 1"
            );
            for device in [&laptop, &phone] {
                assert_eq!(device.ask(&joined), ["Home|of Home|line", "Work|of Work|-"], "{form}");
            }
        }
        Ok(())
    });
}
