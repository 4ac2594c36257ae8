//! Files that no row names any more.

use synckit_client::BlobHash;
use synckit_doctest::run;

use super::device::{Device, settle};

const SCHEMA: &str = "CREATE TABLE photos (name TEXT PRIMARY KEY, bytes BLOB)";
/// A day passes.
const LATER: &str = "UPDATE synckit_unnamed SET since = since - 86400000000";

/// The device that deleted the last row of a file deletes the file, a day later. One that a row names again stays.
#[test]
fn file_without_a_row_is_deleted_a_day_later() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["photos"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["photos"]).await;
        laptop.run("INSERT INTO photos VALUES ('a', zeroblob(70000)), ('b', zeroblob(70000)), ('c', zeroblob(80000))");
        settle(&laptop, &phone).await;
        let (shared, own) = (BlobHash::of(&[0; 70_000]), BlobHash::of(&[0; 80_000]));
        laptop.run("DELETE FROM photos WHERE name = 'a'; UPDATE photos SET bytes = zeroblob(5) WHERE name = 'c'");
        settle(&laptop, &phone).await;
        laptop.client.blob_download_url(&own).await?;
        laptop.run(LATER);
        phone.run(LATER);
        phone.sync().await;
        laptop.client.blob_download_url(&own).await?;
        laptop.sync().await;
        laptop.client.blob_download_url(&own).await.unwrap_err();
        laptop.client.blob_download_url(&shared).await?;
        // It looks once more, as long again.
        assert_eq!(laptop.ask("SELECT deleted FROM synckit_unnamed"), ["1"]);
        laptop.run(LATER);
        laptop.sync().await;
        laptop.client.blob_download_url(&own).await.unwrap_err();
        assert_eq!(laptop.ask("SELECT count(*) FROM synckit_unnamed"), ["0"]);
        Ok(())
    });
}

/// A row arrived that names a file while it was deleted. All devices have the bytes, so none of them asks for the file.
#[test]
fn file_deleted_too_early_is_brought_back() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["photos"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["photos"]).await;
        laptop.run("INSERT INTO photos VALUES ('a', zeroblob(70000))");
        settle(&laptop, &phone).await;
        let hash = BlobHash::of(&[0; 70_000]);
        laptop.client.blob_delete(&hash).await?;
        laptop.run(&format!("INSERT INTO synckit_unnamed VALUES ('{hash}', 0, 1)"));
        laptop.client.blob_download_url(&hash).await.unwrap_err();
        laptop.sync().await;
        laptop.client.blob_download_url(&hash).await?;
        assert_eq!(laptop.ask("SELECT count(*) FROM synckit_unnamed"), ["0"]);
        Ok(())
    });
}

/// A device that was away has edited the row, and another one wants the file: it comes back.
#[test]
fn deleted_file_comes_back_for_a_row() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["photos"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["photos"]).await;
        laptop.run("INSERT INTO photos VALUES ('a', zeroblob(70000))");
        settle(&laptop, &phone).await;
        let hash = BlobHash::of(&[0; 70_000]);
        // The phone has asked for the file, and its row is about to come, when it is deleted.
        phone.run("INSERT INTO photos VALUES ('b', zeroblob(70000))");
        phone.sync().await;
        laptop.client.blob_delete(&hash).await?;
        let fresh = Device::start(&world, "fresh", SCHEMA, ["photos"]).await;
        assert_eq!(fresh.sync().await.parked, 0);
        assert_eq!(
            fresh.ask("SELECT name, length(bytes) FROM photos"),
            ["a|70000", "b|70000"]
        );
        Ok(())
    });
}
