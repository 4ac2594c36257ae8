//! Many requests, one commit.
//!
//! To make groups that do not depend on the speed of the machine, these tests hold the write lock of the database from
//! outside until everything is queued.

use std::{sync::Mutex, time::Duration};

use futures_util::future::{join, join_all};
use rusqlite::Connection;
use synckit_protocol::limits::BATCH_SEALED_BYTES_MAX;
use synckit_store::{
    Allowance, AppWrite, Append, Charge, CountedKey, Draw, NewApp, NewBatch, SqliteOptions, Store, StoreError,
};

use crate::{
    fixture::{
        NOW, app_id, append, batch, create_app, end_of, id16, new_key, read_all, ready_stream, secret, start, stored,
        stream_of,
    },
    sqlite::SqliteHarness,
};

/// Holds the write lock of the database.
struct Blockade(Connection);

impl Blockade {
    fn of(harness: &SqliteHarness) -> Self {
        let connection = Connection::open(harness.path()).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }

    fn end(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

/// Queues every job behind a blockade, ends it, and returns the results in order.
async fn queued_together<T>(harness: &SqliteHarness, jobs: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let blockade = Blockade::of(harness);
    // The second future is polled after the first, which has polled every job by then, and so queued it.
    join(join_all(jobs), async { blockade.end() }).await.0
}

/// The first batches of streams 1 to `streams`, each of `size` bytes.
async fn first_batches(store: &dyn Store, streams: u64, size: usize) -> Vec<NewBatch> {
    let mut batches = Vec::new();
    for n in 1..=streams {
        let stream = ready_stream(store, n).await;
        batches.push(batch(stream, start(stream), n, n, 3, size));
    }
    batches
}

fn is_stored(result: &Result<Append, StoreError>, batch: &NewBatch) -> bool {
    let expected = Append::Stored {
        first_seq: 1,
        position: end_of(batch),
        repeated: false,
    };
    result.as_ref().is_ok_and(|answer| *answer == expected)
}

fn all_stored(results: &[Result<Append, StoreError>], batches: &[NewBatch]) -> bool {
    results
        .iter()
        .zip(batches)
        .all(|(result, batch)| is_stored(result, batch))
}

async fn log_of(store: &dyn Store, n: u64) -> usize {
    read_all(store, stream_of(n, n), n).await.len()
}

#[tokio::test]
async fn requests_that_wait_together_share_one_commit() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let batches = first_batches(store, 25, 1000).await;
    let before = harness.sqlite().write_statistics();
    let results = queued_together(&harness, batches.iter().map(|batch| store.append_batch(batch.clone()))).await;
    let after = harness.sqlite().write_statistics();
    assert!(all_stored(&results, &batches));
    assert_eq!((after.jobs - before.jobs, after.commits - before.commits), (25, 1));
}

#[tokio::test]
async fn batches_that_build_on_each_other_share_one_commit() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let stream = ready_stream(store, 1).await;
    let mut parent = start(stream);
    let batches: Vec<_> = (1..=25)
        .map(|n| {
            let batch = batch(stream, parent, 1, n, 20, 1000);
            parent = end_of(&batch);
            batch
        })
        .collect();
    let before = harness.sqlite().write_statistics();
    let results = queued_together(&harness, batches.iter().map(|batch| store.append_batch(batch.clone()))).await;
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Ok(Append::Stored { repeated: false, .. })))
    );
    assert_eq!(harness.sqlite().write_statistics().commits - before.commits, 1);
    assert_eq!(
        read_all(store, stream, 1).await,
        batches.iter().map(stored).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_request_that_fails_does_not_fail_its_neighbours() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let mut batches = first_batches(store, 9, 1000).await;
    batches[4].digest.count = 0;
    let before = harness.sqlite().write_statistics();
    let results = queued_together(&harness, batches.iter().map(|batch| store.append_batch(batch.clone()))).await;
    assert_eq!(harness.sqlite().write_statistics().commits - before.commits, 1);
    for (index, (result, batch)) in results.iter().zip(&batches).enumerate() {
        match index {
            4 => assert!(matches!(result, Err(StoreError::InvalidBatch))),
            _ => assert!(is_stored(result, batch)),
        }
    }
    assert_eq!((log_of(store, 5).await, log_of(store, 6).await), (0, 1));
}

#[tokio::test]
async fn what_a_failed_request_wrote_is_undone() {
    // The first of a group is undone in another way than the others.
    for failing in 0..3 {
        let harness = SqliteHarness::open().await;
        let store = harness.store();
        create_app(store, 1).await;
        // Each app is new. The key of one is not: its failure comes after its first write.
        let jobs = (0..3).map(|n| NewApp {
            id: app_id(2 + n),
            name: format!("new {n}"),
            team: None,
            key: new_key(if n == failing { 1 } else { 2 + n }),
        });
        let results = queued_together(&harness, jobs.map(|app| store.create_app(app))).await;
        for (n, result) in (0..).zip(&results) {
            match result {
                Err(StoreError::Database(_)) => assert_eq!(n, failing),
                result => assert!(
                    matches!(result, Ok(AppWrite::Written)) && n != failing,
                    "{failing} {n} {result:?}"
                ),
            }
        }
        let apps: Vec<_> = store.apps(NOW).await.unwrap().iter().map(|app| app.id).collect();
        let made = (0..3).filter(|n| *n != failing).map(|n| app_id(2 + n));
        assert_eq!(apps, [app_id(1)].into_iter().chain(made).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_request_that_fills_the_disk_fails_alone() {
    let options = SqliteOptions {
        max_bytes: Some(2 * 1024 * 1024),
        ..SqliteOptions::default()
    };
    let harness = SqliteHarness::with(options);
    let store = harness.store();
    let mut batches = first_batches(store, 5, 1000).await;
    batches[2] = batch(batches[2].stream, batches[2].parent, 3, 3, 3, 3_000_000);
    let results = queued_together(&harness, batches.iter().map(|batch| store.append_batch(batch.clone()))).await;
    for (index, (result, batch)) in results.iter().zip(&batches).enumerate() {
        match index {
            2 => assert!(matches!(result, Err(StoreError::Full(_)))),
            _ => assert!(is_stored(result, batch)),
        }
    }
    assert_eq!((log_of(store, 3).await, log_of(store, 4).await), (0, 1));
}

#[tokio::test]
async fn a_lock_that_is_never_freed_is_busy() {
    let options = SqliteOptions {
        busy_timeout: Duration::from_millis(1),
        ..SqliteOptions::default()
    };
    let harness = SqliteHarness::with(options);
    let batches = first_batches(harness.store(), 1, 1000).await;
    let blockade = Blockade::of(&harness);
    assert!(matches!(
        harness.store().append_batch(batches[0].clone()).await,
        Err(StoreError::Busy)
    ));
    // Readers are not kept out.
    assert_eq!(log_of(harness.store(), 1).await, 0);
    blockade.end();
    append(harness.store(), &batches[0]).await;
}

#[tokio::test]
async fn a_full_queue_turns_requests_away() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let results = queued_together(&harness, (0..1100).map(|n| store.create_invite(secret(n), NOW))).await;
    // The writer may or may not have taken its first job off the queue before its lane was full: a quarter of the queue.
    let done = results.iter().filter(|result| result.is_ok()).count();
    assert!([256, 257].contains(&done), "{done}");
    for (n, result) in (0..).zip(&results) {
        assert!(matches!(result, Ok(()) | Err(StoreError::Busy)));
        assert_eq!(store.invite_is_open(secret(n)).await.unwrap(), result.is_ok());
    }
}

#[tokio::test]
async fn the_memory_of_the_queue_is_bounded() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let batches = first_batches(store, 20, BATCH_SEALED_BYTES_MAX).await;
    let results = queued_together(&harness, batches.iter().map(|batch| store.append_batch(batch.clone()))).await;
    let stored = results.iter().filter(|result| result.is_ok()).count();
    // The writer may or may not have taken its first job off the queue before the queue was full.
    assert!(
        [15, 16].contains(&stored),
        "64 MiB hold 15 batches of a little more than 4 MiB, not {stored}"
    );
    assert!(
        results[stored..]
            .iter()
            .all(|result| matches!(result, Err(StoreError::Busy)))
    );
    append(store, &batches[19]).await;
}

#[tokio::test]
async fn small_push_passes_large_ones_of_other_streams() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let mut batches = first_batches(store, 9, 2_000_000).await;
    let small = &mut batches[8];
    *small = batch(small.stream, small.parent, 9, 9, 1, 300);
    let answered = Mutex::new(Vec::new());
    let results = queued_together(
        &harness,
        batches.iter().enumerate().map(async |(index, batch)| {
            let result = store.append_batch(batch.clone()).await;
            answered.lock().unwrap().push(index);
            result
        }),
    )
    .await;
    assert!(all_stored(&results, &batches));
    let place = answered.lock().unwrap().iter().position(|index| *index == 8);
    // One large job at most was taken off the queue before the small one came, and no other shares its transaction.
    assert!(place.is_some_and(|place| place <= 1), "{answered:?}");
}

#[tokio::test]
async fn small_job_shares_its_commit_with_no_large_one() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let mut batches = first_batches(store, 3, 100_000).await;
    let small = &mut batches[2];
    *small = batch(small.stream, small.parent, 3, 3, 1, 300);
    let before = harness.sqlite().write_statistics();
    let results = queued_together(&harness, batches.iter().map(|batch| store.append_batch(batch.clone()))).await;
    assert!(all_stored(&results, &batches));
    // The small job is first, and by itself; all three would fit into one transaction.
    let commits = harness.sqlite().write_statistics().commits - before.commits;
    assert_eq!(commits, 2);
}

#[tokio::test]
async fn transaction_holds_a_bounded_number_of_bytes() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let batches = first_batches(store, 8, 200_000).await;
    let before = harness.sqlite().write_statistics();
    let results = queued_together(&harness, batches.iter().map(|batch| store.append_batch(batch.clone()))).await;
    assert!(all_stored(&results, &batches));
    let commits = harness.sqlite().write_statistics().commits - before.commits;
    assert_eq!(commits, 4, "512 KiB hold two batches of 200,000 bytes");
}

#[tokio::test]
async fn transactions_are_larger_without_small_jobs() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let batches = first_batches(store, 9, 200_000).await;
    let (last, batches) = batches.split_last().unwrap();
    // The streams were made by small jobs.
    let mut parent = start(last.stream);
    for n in 0..256 {
        parent = append(store, &batch(last.stream, parent, 9, 1000 + n, 3, 20_000)).await;
    }
    let before = harness.sqlite().write_statistics();
    let results = queued_together(&harness, batches.iter().map(|batch| store.append_batch(batch.clone()))).await;
    assert!(all_stored(&results, batches));
    let commits = harness.sqlite().write_statistics().commits - before.commits;
    assert_eq!(commits, 2, "1 MiB holds five batches of 200,000 bytes");
}

#[tokio::test]
async fn closing_finishes_what_was_accepted() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let batches = first_batches(store, 10, 1000).await;
    let appends = join_all(batches.iter().map(|batch| store.append_batch(batch.clone())));
    let (results, closed) = join(appends, store.close()).await;
    closed.unwrap();
    assert!(all_stored(&results, &batches));
}

/// Strangers can cause as many counts as they like.
#[tokio::test]
async fn a_flood_of_guesses_leaves_room_for_others() {
    let harness = SqliteHarness::open().await;
    let store = harness.store();
    let guess = |n| Charge {
        once: None,
        draws: vec![Draw {
            of: CountedKey(id16(n)),
            allowance: Allowance {
                tokens: 1,
                window_seconds: 1,
            },
        }],
        from_strangers: None,
        may_grow: true,
    };
    let blockade = Blockade::of(&harness);
    let guesses = join_all((0..1000).map(|n| store.count(guess(n), NOW)));
    let others = join(store.check(), store.create_invite(secret(1), NOW));
    // As in `queued_together`; unconstrained, so that one look polls all of them.
    let queued = join(join(guesses, others), async { blockade.end() });
    let ((counted, (checked, invited)), ()) = tokio::task::unconstrained(queued).await;
    assert!(counted.iter().any(|answer| matches!(answer, Err(StoreError::Busy))));
    checked.unwrap();
    invited.unwrap();
}
