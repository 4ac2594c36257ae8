//! What a settings page shows.

use synckit_doctest::run;
use synckit_sqlite::{Answer, Error, Question, SyncStatus};

use super::device::{Device, question, settle, soon};

const SCHEMA: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)";

#[test]
fn status_is_idle_and_tells_what_is_left() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", "CREATE TABLE n (k TEXT PRIMARY KEY)", ["n"]).await;
        let mut status = laptop.db.status();
        assert_eq!(status.next().await, Some(SyncStatus::New));
        laptop.run("INSERT INTO n VALUES ('a'), (NULL)");
        let report = laptop.sync().await;
        assert_eq!(report.unnamed, 1);
        assert!(matches!(status.next().await, Some(SyncStatus::Idle { report: told, .. }) if told == report));
        Ok(())
    });
}

#[test]
fn offline_lasts_since_the_first_failure() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        laptop.sync().await;
        world.stop().await?;
        laptop.run("INSERT INTO notes VALUES (1, 'a')");
        laptop.db.sync().await.unwrap_err();
        let offline = laptop.db.status().now();
        assert!(matches!(offline, SyncStatus::Offline { .. }), "{offline:?}");
        laptop.db.sync().await.unwrap_err();
        assert_eq!(laptop.db.status().now(), offline);
        world.start_again().await?;
        assert_eq!(laptop.sync().await.pushed, 1);
        assert!(matches!(laptop.db.status().now(), SyncStatus::Idle { .. }));
        Ok(())
    });
}

/// A sync in the background finds by itself that the server is back.
#[test]
fn running_sync_survives_an_outage() {
    run(async |mut world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        world.stop().await?;
        let mut status = laptop.db.status();
        let _running = laptop.db.spawn();
        while !matches!(status.next().await, Some(SyncStatus::Offline { .. })) {}
        laptop.run("INSERT INTO notes VALUES (1, 'a')");
        world.start_again().await?;
        soon(async { while !matches!(status.next().await, Some(SyncStatus::Idle { .. })) {} }).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        assert_eq!(phone.sync().await.pulled, 1);
        Ok(())
    });
}

#[test]
fn progress_is_told_in_both_directions() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 1700) INSERT INTO notes SELECT x, 'n' FROM c");
        for device in [&laptop, &phone] {
            let mut status = device.db.status();
            let told = tokio::spawn(async move {
                let mut told = Vec::new();
                loop {
                    match status.next().await {
                        Some(SyncStatus::Syncing { done, of: Some(of) }) => told.push((done, of)),
                        Some(SyncStatus::Idle { .. }) | None => return told,
                        _ => {}
                    }
                }
            });
            device.sync().await;
            let told = told.await?;
            assert!(told.iter().all(|(done, of)| done <= of && *of == 1700), "{told:?}");
            assert!(told.is_sorted() && told.len() > 1, "{told:?}");
        }
        Ok(())
    });
}

/// A sync that is cancelled leaves no trace of its progress.
#[test]
fn cancelled_sync_leaves_the_status() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        laptop.run("INSERT INTO notes VALUES (1, 'a')");
        let mut status = laptop.db.status();
        tokio::select! {
            biased;
            () = async { while !matches!(status.next().await, Some(SyncStatus::Syncing { .. })) {} } => {}
            synced = laptop.db.sync() => panic!("{synced:?}"),
        }
        assert_eq!(laptop.db.status().now(), SyncStatus::New);
        Ok(())
    });
}

#[test]
fn ended_session_needs_a_sign_in() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        laptop.sync().await;
        laptop.client.sign_out().await?;
        laptop.db.sync().await.unwrap_err();
        assert_eq!(laptop.db.status().now(), SyncStatus::NeedsSignIn);
        laptop.client.authenticate(world.email, world.password).await?;
        laptop.db.sync().await.unwrap_err();
        // Who signs out takes the key along.
        assert_eq!(laptop.db.status().now(), SyncStatus::NeedsPassword);
        laptop.db.unlock(world.password).await?;
        laptop.client.register_device("laptop", "linux").await?;
        laptop.sync().await;
        assert!(matches!(laptop.db.status().now(), SyncStatus::Idle { .. }));
        Ok(())
    });
}

#[test]
fn rotated_key_needs_the_password() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        laptop.run("INSERT INTO notes VALUES (1, 'before')");
        settle(&laptop, &phone).await;
        laptop.run("INSERT INTO notes VALUES (2, 'unsent')");
        phone.client.rotate_keys(world.password).await?;
        phone.run("INSERT INTO notes VALUES (3, 'after')");
        phone.sync().await;
        laptop.db.sync().await.unwrap_err();
        assert_eq!(laptop.db.status().now(), SyncStatus::NeedsPassword);
        laptop.db.unlock("a wrong password").await.unwrap_err();
        assert_eq!(laptop.db.status().now(), SyncStatus::NeedsPassword);
        laptop.db.unlock(world.password).await?;
        settle(&laptop, &phone).await;
        let all = "SELECT text FROM notes ORDER BY 1";
        assert_eq!(laptop.ask(all), ["after", "before", "unsent"]);
        assert_eq!(phone.ask(all), laptop.ask(all));
        Ok(())
    });
}

/// A sync in the background waits for the password, and goes on when it is there.
#[test]
fn running_sync_goes_on_after_unlock() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        phone.client.rotate_keys(world.password).await?;
        laptop.run("INSERT INTO notes VALUES (1, 'a')");
        let mut status = laptop.db.status();
        let _running = laptop.db.spawn();
        while status.next().await != Some(SyncStatus::NeedsPassword) {}
        laptop.db.unlock(world.password).await?;
        soon(async { while !matches!(status.next().await, Some(SyncStatus::Idle { .. })) {} }).await;
        assert_eq!(phone.sync().await.pulled, 1);
        Ok(())
    });
}

/// An answer is no commit of another connection.
#[test]
fn running_sync_goes_on_after_decision() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        laptop.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 30) INSERT INTO notes SELECT x, 'n' FROM c");
        laptop.sync().await;
        laptop.run("DELETE FROM notes");
        let mut status = laptop.db.status();
        let _running = laptop.db.spawn();
        let question = loop {
            if let Some(SyncStatus::NeedsDecision(question)) = status.next().await {
                break question;
            }
        };
        laptop.db.decide(&question, Answer::Yes).await?;
        soon(async { while !matches!(status.next().await, Some(SyncStatus::Idle { .. })) {} }).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        phone.sync().await;
        assert_eq!(phone.ask("SELECT count(*) FROM notes"), ["0"]);
        Ok(())
    });
}

#[test]
fn many_deletions_need_a_decision() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        laptop.run("WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 30) INSERT INTO notes SELECT x, 'n' FROM c");
        laptop.sync().await;
        for (answer, left, pushed) in [(Answer::No, "30", 0), (Answer::Yes, "0", 30)] {
            laptop.run("DELETE FROM notes");
            laptop.sync().await;
            let question = question(&laptop.db);
            assert!(
                matches!(question, Question::Deletions { count: 30, .. }),
                "{question:?}"
            );
            laptop.db.decide(&question, answer).await?;
            assert_eq!(laptop.ask("SELECT count(*) FROM notes"), [left]);
            assert_eq!(laptop.sync().await.pushed, pushed);
            assert!(matches!(laptop.db.status().now(), SyncStatus::Idle { .. }));
        }
        Ok(())
    });
}

/// What is deleted between the question and the answer is another question.
#[test]
fn answer_is_about_the_deletions_that_were_shown() {
    run(async |world| {
        let schema =
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); CREATE TABLE tags (name TEXT PRIMARY KEY)";
        let laptop = Device::start(&world, "laptop", schema, ["notes", "tags"]).await;
        let fill = "WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 30)";
        laptop.run(&format!(
            "INSERT INTO notes {fill} SELECT x, 'n' FROM c; INSERT INTO tags {fill} SELECT x FROM c"
        ));
        laptop.sync().await;
        laptop.run("DELETE FROM notes");
        laptop.sync().await;
        let shown = question(&laptop.db);
        laptop.run("DELETE FROM tags");
        let error = laptop.db.decide(&shown, Answer::Yes).await.unwrap_err();
        assert!(matches!(error, Error::AnotherQuestion), "{error:?}");
        let next = question(&laptop.db);
        assert!(matches!(next, Question::Deletions { count: 60, .. }), "{next:?}");
        assert_eq!(laptop.sync().await.pushed, 0);
        laptop.db.decide(&next, Answer::No).await?;
        assert_eq!(
            laptop.ask("SELECT (SELECT count(*) FROM notes), (SELECT count(*) FROM tags)"),
            ["30|30"]
        );
        // Nor is it about as many other ones.
        laptop.run("DELETE FROM tags");
        laptop.db.decide(&shown, Answer::Yes).await.unwrap_err();
        assert_eq!(laptop.sync().await.pushed, 0);
        Ok(())
    });
}
