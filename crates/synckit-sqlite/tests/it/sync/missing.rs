//! Long values whose bytes the server does not have, or not yet.

use synckit_doctest::run;
use synckit_sqlite::{Answer, Question, SyncedDatabase};

use super::{
    device::{Device, lose_files, question, settle},
    gateway::{Fate, Gateway},
};

const SCHEMA: &str = "CREATE TABLE photos (name TEXT PRIMARY KEY, bytes BLOB, text TEXT)";
const NAMES: &str = "SELECT name FROM photos ORDER BY 1";

/// The server lost a photo: nothing else waits for it, and it comes when somebody has uploaded it again.
#[test]
fn missing_file_holds_nothing_up() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["photos"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["photos"]).await;
        laptop.run("INSERT INTO photos (name, bytes) VALUES ('lost', zeroblob(70000))");
        laptop.run("INSERT INTO photos (name, bytes) VALUES ('there', zeroblob(80000))");
        laptop.sync().await;
        lose_files(&mut world).await;
        laptop.client.blob_put(vec![0; 80_000], |_| {}).await?;
        phone.run("INSERT INTO photos (name) VALUES ('mine')");
        let report = phone.sync().await;
        assert_eq!((report.pushed, report.parked), (1, 1));
        assert_eq!(phone.ask(NAMES), ["mine", "there"]);
        laptop.sync().await;
        assert_eq!(laptop.ask(NAMES), ["lost", "mine", "there"]);
        laptop.client.blob_put(vec![0; 70_000], |_| {}).await?;
        let (client, device) = world.device("phone").await?;
        let again = SyncedDatabase::open(&phone.path, client, device.id).await?;
        assert_eq!(again.sync().await?.parked, 0);
        assert_eq!(phone.ask(NAMES), ["lost", "mine", "there"]);
        Ok(())
    });
}

/// Photos whose deletion waits for an answer, on a server from before they were made: no device gets rows without their bytes.
#[test]
fn row_without_its_bytes_is_not_sent() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["photos"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["photos"]).await;
        let backup = world.backup().await?;
        phone.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 25) INSERT INTO photos SELECT x, randomblob(70000), NULL FROM c");
        phone.sync().await;
        phone.run("DELETE FROM photos");
        assert_eq!(phone.sync().await.held_deletions, 25);
        world.restore(&backup).await?;
        phone.db.sync().await.unwrap_err();
        let question = question(&phone.db);
        assert!(matches!(question, Question::ServerRestored(_)), "{question:?}");
        phone.db.decide(&question, Answer::Yes).await?;
        phone.run("INSERT INTO photos (name) VALUES ('mine')");
        let report = phone.sync().await;
        assert_eq!((report.pushed, report.unsendable, report.held_deletions), (1, 25, 25));
        laptop.run("INSERT INTO photos (name) VALUES ('theirs')");
        assert_eq!(laptop.sync().await.pushed, 1);
        assert_eq!(laptop.ask(NAMES), ["mine", "theirs"]);
        Ok(())
    });
}

/// A photo that is parked keeps its bytes through a restore, and goes to the other history with its row.
#[test]
fn parked_photo_is_sent_to_a_restored_server() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["photos"]).await;
        let checked = "CREATE TABLE photos (name TEXT PRIMARY KEY, bytes BLOB, text TEXT CHECK (text <> 'odd'))";
        let phone = Device::start(&world, "phone", checked, ["photos"]).await;
        let backup = world.backup().await?;
        laptop.run("INSERT INTO photos VALUES ('p', zeroblob(70000), 'odd')");
        laptop.sync().await;
        assert_eq!(phone.sync().await.parked, 1);
        phone.run("INSERT INTO photos (name) VALUES ('mine')");
        phone.sync().await;
        world.restore(&backup).await?;
        phone.db.sync().await.unwrap_err();
        let question = question(&phone.db);
        phone.db.decide(&question, Answer::Yes).await?;
        assert_eq!(phone.sync().await.pushed, 2);
        let fresh = Device::start(&world, "fresh", SCHEMA, ["photos"]).await;
        fresh.sync().await;
        assert_eq!(
            fresh.ask("SELECT name, length(bytes) FROM photos ORDER BY 1"),
            ["mine|-", "p|70000"]
        );
        Ok(())
    });
}

/// One row gets a long value here and another one there: both are everywhere.
#[test]
fn long_values_of_both_sides_meet() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["photos"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["photos"]).await;
        laptop.run("INSERT INTO photos (name) VALUES ('p')");
        settle(&laptop, &phone).await;
        laptop.run("UPDATE photos SET text = hex(zeroblob(40000))");
        laptop.sync().await;
        phone.run("UPDATE photos SET bytes = zeroblob(70000)");
        phone.sync().await;
        laptop.sync().await;
        for device in [&laptop, &phone] {
            assert_eq!(
                device.ask("SELECT length(bytes), length(text) FROM photos"),
                ["70000|80000"]
            );
        }
        Ok(())
    });
}

/// Files cannot be stored for now: what other devices send still comes.
#[test]
fn closed_bucket_holds_up_nothing_that_comes() {
    run(async |world| {
        let gateway = Gateway::on("/api/sync/blobs/upload", |_| Fate::Dropped);
        let laptop = Device::over(&world, "laptop", SCHEMA, ["photos"], gateway).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["photos"]).await;
        laptop.run("INSERT INTO photos (name, bytes) VALUES ('mine', zeroblob(70000))");
        laptop.db.sync().await.unwrap_err();
        phone.run("INSERT INTO photos (name) VALUES ('theirs')");
        phone.sync().await;
        laptop.db.sync().await.unwrap_err();
        assert_eq!(laptop.ask(NAMES), ["mine", "theirs"]);
        Ok(())
    });
}
