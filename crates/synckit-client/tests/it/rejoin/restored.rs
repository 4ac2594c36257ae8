//! A server that was restored from an older copy.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use synckit_client::{Cursor, RejoinEvidence};

use super::app::{App, Rows, converge, shown, union};
use crate::{
    interference::{Fate, Interference},
    snapshots::{DAY, cut, stored, world_with_days},
    world::{World, change, changes, pull_all},
};

#[tokio::test]
async fn rejoin_after_a_restore_loses_nothing() {
    // All devices rejoin a restored server and nothing that any of them had is lost.
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    let mut phone = App::new(world.next_device(&user, "phone").await);
    let mut tablet = App::new(world.next_device(&user, "tablet").await);
    for row in ["a", "b", "c", "d"] {
        laptop.edit(row, 10);
        laptop.sync().await.unwrap();
    }
    phone.sync().await.unwrap();
    tablet.sync().await.unwrap();
    let backup = world.backup();
    // Each has what the others lack, and a newer version of something.
    laptop.edit("laptop", 20);
    laptop.edit("a", 30);
    laptop.edit("b", 21);
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    phone.edit("phone", 22);
    phone.edit("a", 25);
    phone.edit("b", 40);
    phone.delete("c", 41);
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    tablet.edit("d", 50);
    tablet.edit("tablet", 51);
    tablet.sync().await.unwrap();
    tablet.edit("c", 20);
    let expected = union(&[&laptop, &phone, &tablet]);
    let world = world.restore(backup).await;

    let old_ends = [laptop.cursor.seq(), phone.cursor.seq()];
    for app in [&mut laptop, &mut phone, &mut tablet] {
        let evidence = app.evidence().await;
        // The user has not decided yet: nothing goes on by itself.
        assert!(app.sync().await.unwrap_err().is_tampering());
        assert!(
            app.client
                .push(app.id, changes(1))
                .await
                .unwrap_err()
                .source
                .is_tampering()
        );
        let rejoined = app.rejoin(&evidence).await;
        assert!(rejoined.push_all_rows);
        app.sync().await.unwrap();
    }
    assert!(old_ends.iter().all(|end| *end > 4));
    converge(&world, &user, &mut [&mut laptop, &mut phone, &mut tablet], &expected).await;
}

#[tokio::test]
async fn concurrent_rejoins_keep_the_newest_versions() {
    // Devices that rejoin at once write no older version after a newer one.
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    let mut phone = App::new(world.next_device(&user, "phone").await);
    let backup = world.backup();
    // More than one batch, and each device is ahead in a half of it.
    for row in 0..600 {
        laptop.edit(&format!("row {row}"), 10 + row % 2);
        phone.edit(&format!("row {row}"), 11 - row % 2);
    }
    for app in [&mut laptop, &mut phone] {
        app.sync().await.unwrap();
    }
    let expected = union(&[&laptop, &phone]);
    let world = world.restore(backup).await;
    for app in [&mut laptop, &mut phone] {
        let evidence = app.evidence().await;
        app.rejoin(&evidence).await;
    }
    let (one, other) = tokio::join!(laptop.sync(), phone.sync());
    one.unwrap();
    other.unwrap();
    // The log decides, not the time, for whoever reads it later.
    let (fresh, id) = world.next_device(&user, "fresh").await;
    let mut last = Rows::new();
    for change in pull_all(&fresh, id, Cursor::START).await.unwrap().0 {
        last.insert(change.row_id.clone(), change);
    }
    assert_eq!(shown(&last), shown(&expected));
}

#[tokio::test]
async fn last_common_position_survives_a_restart() {
    // The last common position is near and found after a restart too.
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    for time in 0..60 {
        laptop.edit("row", time);
        laptop.sync().await.unwrap();
    }
    let backup = world.backup();
    for time in 60..64 {
        laptop.edit("row", time);
        laptop.sync().await.unwrap();
    }
    laptop.sync().await.unwrap();
    let world = world.restore(backup).await;
    let evidence = laptop.evidence().await;
    let rejoined = laptop.rejoin(&evidence).await;
    assert_eq!(rejoined.latest.seq, 60);
    assert!((32..=60).contains(&rejoined.cursor.seq()), "{}", rejoined.cursor);
    // The app never stored what it was given, and starts again.
    let again = world.another_client(&user).await;
    let old = Cursor::at(match evidence {
        RejoinEvidence::History(evidence) => evidence.known,
        other => panic!("{other:?}"),
    });
    again.resume_at(old);
    let error = again.pull(laptop.id, old).await.unwrap_err();
    let second = again.rejoin(&error.rejoin_evidence().unwrap(), old).await.unwrap();
    assert!((32..=60).contains(&second.cursor.seq()), "{}", second.cursor);
    assert_eq!(pull_all(&again, laptop.id, second.cursor).await.unwrap().1.seq(), 60);
}

#[tokio::test]
async fn a_cursor_that_lags_is_never_moved_forward() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    phone.push(phone_id, vec![change("t", "theirs")]).await.unwrap();
    // It knows the chain by its own pushes, and its app has pulled nothing.
    laptop.push(laptop_id, vec![change("t", "mine")]).await.unwrap();
    let backup = world.backup();
    laptop.push(laptop_id, vec![change("t", "gone")]).await.unwrap();
    let world = world.restore(backup).await;
    let error = laptop.pull(laptop_id, Cursor::START).await.unwrap_err();
    let evidence = error.rejoin_evidence().unwrap();
    let rejoined = laptop.rejoin(&evidence, Cursor::START).await.unwrap();
    assert_eq!(rejoined.cursor, Cursor::START);
    assert_eq!(rejoined.latest.seq, 2);
    let rows = pull_all(&laptop, laptop_id, rejoined.cursor).await.unwrap().0;
    assert_eq!(
        rows.iter().map(|row| row.row_id.as_str()).collect::<Vec<_>>(),
        ["theirs", "mine"]
    );
    drop(world);
}

#[tokio::test]
async fn a_rejoin_that_was_cut_off_anywhere_is_repeated() {
    let mut world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    laptop.edit("a", 1);
    laptop.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let backup = world.backup();
    for lost_from in 0..8 {
        laptop.edit(&format!("row {lost_from}"), 2);
        laptop.sync().await.unwrap();
        laptop.sync().await.unwrap();
        world = world.restore(backup.clone()).await;

        // The future is dropped while it waits for the answer to one of its requests.
        let sent = Arc::new(AtomicUsize::new(0));
        let stuck = Interference::new(move |_| {
            if sent.fetch_add(1, Ordering::SeqCst) > lost_from {
                Fate::Unanswered
            } else {
                Fate::Delivered
            }
        });
        let client = world.resumed_over(&user, Arc::clone(&stuck) as Arc<_>);
        client.resume_at(laptop.cursor);
        let dying = async {
            let error = client.pull(laptop.id, laptop.cursor).await.unwrap_err();
            let rejoined = client.rejoin(&error.rejoin_evidence().unwrap(), laptop.cursor).await;
            rejoined.unwrap();
            true
        };
        let stopped = async {
            while stuck.requests() <= lost_from + 1 {
                tokio::task::yield_now().await;
            }
            false
        };
        let is_done = tokio::select! {
            done = dying => done,
            done = stopped => done,
        };
        assert!(
            is_done || lost_from < 7,
            "it takes more requests than this test cuts off"
        );
        assert!(
            !is_done || lost_from > 3,
            "nothing was cut off after {lost_from} requests"
        );

        laptop.client = world.another_client(&user).await;
        laptop.client.resume_at(laptop.cursor);
        let evidence = laptop.evidence().await;
        laptop.rejoin(&evidence).await;
        laptop.sync().await.unwrap();
    }
    let mut fresh = App::new(world.next_device(&user, "fresh").await);
    fresh.sync().await.unwrap();
    assert_eq!(shown(&fresh.rows), shown(&laptop.rows));
    assert_eq!(fresh.rows.len(), 9);
}

#[tokio::test]
async fn compacted_log_is_rejoined_through_its_snapshot() {
    // A restored log that was cut is rejoined through its snapshot.
    let (world, now) = world_with_days().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    for time in 0..20 {
        laptop.edit("a", time);
        laptop.edit(&format!("row {time}"), time);
        laptop.sync().await.unwrap();
    }
    laptop.sync().await.unwrap();
    stored(&laptop.client, laptop.id).await;
    // Now the server hears that the app has everything up to there.
    laptop.sync().await.unwrap();
    let whole = laptop.client.status().await.unwrap().stored_bytes;
    now.fetch_add(15 * DAY, Ordering::SeqCst);
    cut(&laptop.client, whole).await;
    let backup = world.backup();
    laptop.edit("b", 30);
    laptop.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let world = world.restore(backup).await;
    let evidence = laptop.evidence().await;
    // The app has lost its own cursor, so nothing later than the start will do.
    let lagging = world.another_client(&user).await;
    lagging.resume_at(laptop.cursor);
    let error = lagging.pull(laptop.id, laptop.cursor).await.unwrap_err();
    let rejoined = lagging
        .rejoin(&error.rejoin_evidence().unwrap(), Cursor::START)
        .await
        .unwrap();
    assert_eq!((rejoined.cursor, rejoined.latest.seq), (Cursor::START, 40));
    assert_eq!(pull_all(&lagging, laptop.id, Cursor::START).await.unwrap().0.len(), 21);

    let expected = union(&[&laptop]);
    laptop.rejoin(&evidence).await;
    converge(&world, &user, &mut [&mut laptop], &expected).await;
}
