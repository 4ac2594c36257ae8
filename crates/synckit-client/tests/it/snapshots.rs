//! Folding, pulling through snapshots, and what a server can do with them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Value, json};
use synckit_client::{
    ChangeEntry, ChangeOp, Cursor, DeviceId, Error, FoldOutcome, SyncKitClient, Tampering, transport::RequestBody,
};
use synckit_protocol::wire::{
    log::Page,
    snapshots::{SnapshotAnswer, SnapshotPartAnswer},
};
use synckit_server::Clock;
use tokio::sync::Notify;

use crate::{
    interference::{Fate, Interference},
    world::{User, World, change, changes, pull_all},
};

pub(crate) const DAY: u64 = 24 * 3600;

/// The rows of an app.
type Rows = BTreeMap<(String, String), Value>;

fn apply(rows: &mut Rows, changes: &[ChangeEntry]) {
    for change in changes {
        let key = (change.table.clone(), change.row_id.clone());
        match change.op {
            ChangeOp::Delete => rows.remove(&key),
            ChangeOp::Insert | ChangeOp::Update => rows.insert(key, change.data.clone().unwrap_or(Value::Null)),
        };
    }
}

async fn fresh_rows(world: &World, user: &User, name: &str) -> Rows {
    let (client, id) = world.next_device(user, name).await;
    let mut rows = Rows::new();
    apply(&mut rows, &pull_all(&client, id, Cursor::START).await.unwrap().0);
    rows
}

fn update(row: usize, value: usize) -> ChangeEntry {
    ChangeEntry {
        op: ChangeOp::Update,
        data: Some(json!({ "value": value, "text": "some more of a row" })),
        ..change("notes", &row.to_string())
    }
}

fn delete(row: &str) -> ChangeEntry {
    ChangeEntry {
        op: ChangeOp::Delete,
        data: None,
        ..change("notes", row)
    }
}

/// A server whose days pass when the test says so.
pub(crate) async fn world_with_days() -> (World, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(1_767_225_600));
    let time = Arc::clone(&now);
    let world = World::start_with(move |config| {
        let time = Arc::clone(&time);
        config.clock = Clock::from_fn(move || UNIX_EPOCH + Duration::from_secs(time.load(Ordering::SeqCst)));
        config.sweep_interval = Duration::from_millis(5);
    })
    .await;
    (world, now)
}

/// Waits until the server holds less than before, which nothing but a cut brings about in these tests.
pub(crate) async fn cut(client: &SyncKitClient, whole: u64) {
    while client.status().await.unwrap().stored_bytes == whole {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn stored(client: &SyncKitClient, id: DeviceId) {
    assert_eq!(client.fold(id).await.unwrap().outcome, FoldOutcome::Stored);
}

/// `SYNCKIT_TEST_EDITS=1000000` shows the same for a million edits to ten thousand rows.
#[tokio::test]
async fn snapshot_costs_by_rows_and_not_by_edits() {
    // Many edits to few rows cost space and time for the rows.
    let edit_count: usize = std::env::var("SYNCKIT_TEST_EDITS").map_or(20_000, |text| text.parse().unwrap());
    let row_count = (edit_count / 100).max(500);
    let (world, now) = world_with_days().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    let edits: Vec<_> = (0..edit_count).map(|edit| update(edit % row_count, edit)).collect();
    laptop.push(id, edits.clone()).await.unwrap();
    let mut expected = Rows::new();
    apply(&mut expected, &edits);
    let before = laptop.status().await.unwrap();
    assert_eq!(before.snapshot, None);

    let report = laptop.fold(id).await.unwrap();
    assert_eq!(
        (report.outcome, report.entries, report.rows, report.parts),
        (FoldOutcome::Stored, edit_count as u64, row_count as u64, 1)
    );
    let status = laptop.status().await.unwrap();
    let snapshot = status.snapshot.unwrap();
    assert_eq!(
        (snapshot.position, snapshot.position.seq, snapshot.size),
        (report.position, edit_count as u64, report.sealed_bytes)
    );
    assert_eq!(status.stored_bytes, before.stored_bytes + report.sealed_bytes);
    // A device that starts now reads rows, although the log is still there.
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let (pulled, cursor) = pull_all(&phone, phone_id, Cursor::START).await.unwrap();
    assert_eq!((pulled.len(), cursor.seq()), (row_count, edit_count as u64));
    assert!(pulled.iter().all(|change| change.op == ChangeOp::Insert));
    let mut rows = Rows::new();
    apply(&mut rows, &pulled);
    assert_eq!(rows, expected);

    // Both devices have come past the snapshot; when it has settled, the edits go.
    pull_all(&laptop, id, Cursor::START).await.unwrap();
    pull_all(&phone, phone_id, cursor).await.unwrap();
    now.fetch_add(15 * DAY, Ordering::SeqCst);
    while laptop.status().await.unwrap().stored_bytes > report.sealed_bytes {
        tokio::task::yield_now().await;
    }
    assert!(report.sealed_bytes * 20 < before.stored_bytes, "{report:?} {before:?}");
    // Shown with --nocapture.
    eprintln!(
        "{edit_count} edits took {} bytes, {row_count} rows take {}",
        before.stored_bytes, report.sealed_bytes
    );
    assert_eq!(laptop.status().await.unwrap().change_count, edit_count as u64);
    assert_eq!(fresh_rows(&world, &user, "tablet").await, expected);
    // And the stream goes on.
    laptop.push(id, vec![update(1, 7)]).await.unwrap();
    assert_eq!(pull_all(&phone, phone_id, cursor).await.unwrap().0, [update(1, 7)]);
}

/// What the app keeps of the history is what readers get, in its order, over several parts.
#[tokio::test]
async fn app_decides_what_a_snapshot_keeps() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    let large = |number: usize| ChangeEntry {
        data: Some(json!({ "text": "x".repeat(1 << 20), "number": number })),
        ..change("notes", "0")
    };
    for number in 0..5 {
        laptop.push(id, vec![large(number)]).await.unwrap();
    }
    let add = |mut all: Vec<ChangeEntry>, next: Vec<ChangeEntry>| {
        all.extend(next);
        all
    };
    let backwards = |all: Vec<ChangeEntry>| all.into_iter().rev().collect();
    let report = laptop.fold_with(id, add, backwards).await.unwrap();
    assert_eq!(
        (report.outcome, report.entries, report.rows, report.parts),
        (FoldOutcome::Stored, 5, 5, 2)
    );
    assert_eq!(report.position.seq, 5);
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let (pulled, _) = pull_all(&phone, phone_id, Cursor::START).await.unwrap();
    assert_eq!(pulled, [4, 3, 2, 1, 0].map(large));
    // On top of that snapshot, and what no entry may be.
    laptop.push(id, vec![large(5)]).await.unwrap();
    let too_large = |_: Vec<ChangeEntry>| {
        let data = Some(json!("x".repeat(4 << 20)));
        vec![
            change("notes", "1"),
            ChangeEntry {
                data,
                ..change("notes", "0")
            },
        ]
    };
    let refused = laptop.fold_with(id, add, too_large).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Encode(error) if error.index == 1),
        "{refused:?}"
    );
    let report = laptop.fold_with(id, add, |all| all).await.unwrap();
    assert_eq!((report.entries, report.rows), (6, 6));
    let nothing = laptop.fold_with(id, add, |all| all).await.unwrap();
    assert_eq!((nothing.outcome, nothing.entries), (FoldOutcome::NotNewer, 0));
}

#[tokio::test]
async fn fold_continues_from_the_last_snapshot() {
    // A fold goes on from the snapshot before and keeps deletions.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(700)).await.unwrap();
    stored(&laptop, id).await;
    laptop
        .push(id, vec![delete("0"), update(1, 5), change("other", "0")])
        .await
        .unwrap();
    let report = laptop.fold(id).await.unwrap();
    assert_eq!((report.entries, report.rows), (703, 701));
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let (pulled, _) = pull_all(&phone, phone_id, Cursor::START).await.unwrap();
    assert_eq!(pulled.len(), 701);
    assert_eq!(
        pulled
            .iter()
            .filter(|change| change.op == ChangeOp::Delete)
            .collect::<Vec<_>>(),
        [&delete("0")]
    );
    let mut rows = Rows::new();
    apply(&mut rows, &pulled);
    assert_eq!(rows.len(), 700);
    assert_eq!(rows[&("notes".to_owned(), "1".to_owned())]["value"], 5);
    // Nothing new: nothing is stored.
    assert_eq!(phone.fold(phone_id).await.unwrap().outcome, FoldOutcome::NotNewer);
}

#[tokio::test]
async fn an_empty_stream_is_not_folded() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    assert_eq!(laptop.fold(id).await.unwrap().outcome, FoldOutcome::NotNewer);
    assert_eq!(
        laptop.pull(id, Cursor::START).await.unwrap(),
        (vec![], Cursor::START, false)
    );
}

#[tokio::test]
async fn a_new_process_goes_on_in_the_middle_of_a_snapshot() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(1_200)).await.unwrap();
    stored(&laptop, id).await;
    laptop.push(id, changes(1)).await.unwrap();
    let (mut rows, mut cursor, mut pages) = (Vec::new(), Cursor::START.to_string(), Vec::new());
    loop {
        // Each page in a process of its own, which has nothing but the stored text.
        let client = world.another_client(&user).await;
        client.resume_at(cursor.parse().unwrap());
        let (changes, next, has_more) = client.pull(id, cursor.parse().unwrap()).await.unwrap();
        pages.push((changes.len(), next.snapshot().is_some(), next.seq()));
        rows.extend(changes);
        // What a push says is safe to store is the place in the snapshot, too.
        assert_eq!(client.push(id, Vec::new()).await.unwrap(), next);
        cursor = next.to_string();
        if !has_more {
            break;
        }
    }
    assert_eq!(
        pages,
        [(500, true, 0), (500, true, 0), (200, false, 1_200), (1, false, 1_201)]
    );
    assert_eq!(rows.len(), 1_201);
    assert_eq!(rows[..1_200], changes(1_200));
}

#[tokio::test]
async fn a_place_in_a_snapshot_may_be_asked_for_again() {
    let world = World::start().await;
    let (user, _, id) = stream_of_parts(&world).await;
    let client = world.another_client(&user).await;
    let (mut from, mut pages) = (Cursor::START, Vec::new());
    loop {
        let page = client.pull(id, from).await.unwrap();
        assert_eq!(client.pull(id, from).await.unwrap(), page);
        pages.push((from, page.clone()));
        from = page.1;
        if !page.2 {
            break;
        }
    }
    assert!(pages.iter().filter(|(from, _)| from.snapshot().is_some()).count() >= 2);
    for (from, page) in pages.into_iter().rev() {
        assert_eq!(client.pull(id, from).await.unwrap(), page);
    }
}

#[tokio::test]
async fn replaced_snapshot_is_read_anew_with_deletions() {
    // A snapshot that is replaced while it is read is read anew with its deletions.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(600)).await.unwrap();
    stored(&laptop, id).await;
    laptop.push(id, vec![update(1, 1)]).await.unwrap();
    stored(&laptop, id).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let mut rows = Rows::new();
    let (first, cursor, _) = phone.pull(phone_id, Cursor::START).await.unwrap();
    apply(&mut rows, &first);
    assert!(cursor.snapshot().is_some());

    // The one in the middle goes: neither the first to settle nor the newest.
    laptop.push(id, vec![delete("3")]).await.unwrap();
    stored(&laptop, id).await;
    let restarted = world.resumed(&user, "phone", Interference::new(|_| Fate::Delivered));
    restarted.resume_at(cursor);
    apply(&mut rows, &pull_all(&restarted, phone_id, cursor).await.unwrap().0);
    assert_eq!(rows, fresh_rows(&world, &user, "tablet").await);
    assert_eq!(rows.len(), 599);
}

#[tokio::test]
async fn device_away_for_long_catches_up() {
    // A device that was away for long does not hold the log and catches up.
    let (world, now) = world_with_days().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    laptop
        .push(id, vec![update(1, 1), update(2, 2), update(3, 3)])
        .await
        .unwrap();
    let mut rows = Rows::new();
    let (pulled, cursor) = pull_all(&phone, phone_id, Cursor::START).await.unwrap();
    apply(&mut rows, &pulled);
    pull_all(&phone, phone_id, cursor).await.unwrap();
    laptop
        .push(id, vec![update(1, 10), delete("2"), update(4, 4)])
        .await
        .unwrap();
    stored(&laptop, id).await;
    let (_, end) = pull_all(&laptop, id, Cursor::START).await.unwrap();
    laptop.pull(id, end).await.unwrap();
    let whole = laptop.status().await.unwrap().stored_bytes;

    // The phone was active lately: it holds the log, however old the snapshot is.
    for _ in 0..3 {
        now.fetch_add(25 * DAY, Ordering::SeqCst);
        laptop.pull(id, end).await.unwrap();
    }
    assert_eq!(laptop.status().await.unwrap().stored_bytes, whole);
    now.fetch_add(20 * DAY, Ordering::SeqCst);
    laptop.pull(id, end).await.unwrap();
    cut(&laptop, whole).await;

    // After 95 days its session is over, but its keys, its rows and its cursor are there.
    phone.authenticate(&user.email, &user.password).await.unwrap();
    phone.try_load_key_from_keychain().unwrap();
    phone.resume_at(cursor);
    phone.push(phone_id, vec![update(5, 5)]).await.unwrap();
    apply(&mut rows, &[update(5, 5)]);
    apply(&mut rows, &pull_all(&phone, phone_id, cursor).await.unwrap().0);
    assert_eq!(rows, fresh_rows(&world, &user, "tablet").await);
    assert_eq!(rows.len(), 4);
    let error = phone
        .push_at(
            phone_id,
            cursor,
            Some(SyncKitClient::new_batch_id()),
            vec![update(6, 6)],
        )
        .await
        .unwrap_err();
    assert!(matches!(error.source, Error::Behind { .. }), "{error:?}");
    // Rotation walks the chain from what is left of it, on a device that knows nothing, too.
    let (tablet, _) = world.next_device(&user, "tablet 2").await;
    tablet.rotate_keys(&user.password).await.unwrap();
}

#[tokio::test]
async fn interrupted_fold_leaves_nothing_half_done() {
    // A fold that stops at any request leaves nothing half done.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(3)).await.unwrap();
    let mut expected = Rows::new();
    apply(&mut expected, &changes(3));
    let mut completed = 0;
    for stop_at in 0..20 {
        laptop.push(id, vec![update(7, stop_at)]).await.unwrap();
        apply(&mut expected, &[update(7, stop_at)]);
        let (count, stop) = (AtomicUsize::new(0), Arc::new(Notify::new()));
        let stopped = Arc::clone(&stop);
        let transport = Interference::new(move |_| {
            if count.fetch_add(1, Ordering::SeqCst) == stop_at {
                stopped.notify_one();
                return Fate::RequestLost;
            }
            Fate::Delivered
        });
        let client = world.resumed_over(&user, transport);
        tokio::select! {
            biased;
            () = stop.notified() => {}
            folded = client.fold(id) => {
                assert_eq!(folded.unwrap().outcome, FoldOutcome::Stored);
                completed += 1;
            }
        }
        let mut rows = Rows::new();
        apply(&mut rows, &pull_all(&laptop, id, Cursor::START).await.unwrap().0);
        assert_eq!(rows, expected, "stopped at request {stop_at}");
        if completed == 2 {
            return;
        }
    }
    panic!("the fold never came to its end");
}

#[tokio::test]
async fn a_fold_survives_the_loss_of_any_answer() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(3)).await.unwrap();
    for lost in 0..9 {
        laptop.push(id, vec![update(7, lost)]).await.unwrap();
        let count = AtomicUsize::new(0);
        let transport = Interference::new(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            request if request == lost => Fate::AnswerLost,
            _ => Fate::Delivered,
        });
        let client = world.resumed_over(&user, transport);
        assert_eq!(
            client.fold(id).await.unwrap().outcome,
            FoldOutcome::Stored,
            "answer {lost}"
        );
        let status = laptop.status().await.unwrap();
        assert_eq!(status.snapshot.unwrap().position, status.latest);
    }
    assert_eq!(fresh_rows(&world, &user, "phone").await.len(), 4);
}

#[tokio::test]
async fn slower_of_two_concurrent_folds_does_no_harm() {
    // Of two devices that fold at once one comes too late and nothing is wrong.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    for round in 0..5 {
        laptop
            .push(id, (0..10).map(|row| update(row, round)).collect())
            .await
            .unwrap();
        let (one, other) = tokio::join!(laptop.fold(id), phone.fold(phone_id));
        let outcomes = [one.unwrap().outcome, other.unwrap().outcome];
        assert!(outcomes.contains(&FoldOutcome::Stored), "{outcomes:?}");
        assert_ne!(outcomes, [FoldOutcome::Stored; 2]);
    }
    assert_eq!(fresh_rows(&world, &user, "tablet").await.len(), 10);
}

#[tokio::test]
async fn fold_under_a_retired_key_is_refused() {
    // A fold under a key that was retired meanwhile is refused.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    laptop.push(id, changes(3)).await.unwrap();
    laptop.rotate_keys(&user.password).await.unwrap();
    let error = phone.fold(phone_id).await.unwrap_err();
    assert!(matches!(error, Error::KeyRotated { .. }), "{error:?}");
    stored(&laptop, id).await;
    // A snapshot from before a rotation stays readable.
    laptop.rotate_keys(&user.password).await.unwrap();
    assert_eq!(fresh_rows(&world, &user, "tablet").await.len(), 3);
}

/// A stream of several parts, folded twice.
async fn stream_of_parts(world: &World) -> (User, SyncKitClient, DeviceId) {
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    let big = |row: usize| ChangeEntry {
        data: Some(json!({ "text": "x".repeat(1_500_000 + row) })),
        ..change("notes", &row.to_string())
    };
    laptop.push(id, (0..5).map(big).collect()).await.unwrap();
    stored(&laptop, id).await;
    laptop.push(id, vec![change("notes", "6")]).await.unwrap();
    let report = laptop.fold(id).await.unwrap();
    assert_eq!((report.outcome, report.parts), (FoldOutcome::Stored, 3));
    (user, laptop, id)
}

type Lie = fn(&str, Vec<u8>) -> Vec<u8>;

fn lie_about_parts(path: &str, body: Vec<u8>, lie: impl FnOnce(&mut SnapshotPartAnswer)) -> Vec<u8> {
    if !path.contains("/parts/") {
        return body;
    }
    let mut answer: SnapshotPartAnswer = minicbor_serde::from_slice(&body).unwrap();
    lie(&mut answer);
    minicbor_serde::to_vec(&answer).unwrap()
}

fn lie_about_manifests(path: &str, body: Vec<u8>, lie: impl FnOnce(&mut SnapshotAnswer)) -> Vec<u8> {
    if !path.starts_with("/api/sync/snapshots/") || path.contains("/parts/") {
        return body;
    }
    let mut answer: SnapshotAnswer = minicbor_serde::from_slice(&body).unwrap();
    lie(&mut answer);
    minicbor_serde::to_vec(&answer).unwrap()
}

fn lying(lie: Lie) -> Arc<Interference> {
    Interference::new(move |request| {
        let path = request.uri().path().to_owned();
        if request.method() == http::Method::GET && path.starts_with("/api/sync/snapshots/") {
            Fate::Changed(Box::new(move |body| lie(&path, body)))
        } else {
            Fate::Delivered
        }
    })
}

const LIES: [Lie; 6] = [
    |path, body| lie_about_parts(path, body, |answer| answer.sealed.0[100] ^= 1),
    |path, body| lie_about_parts(path, body, |answer| answer.sealed.0.truncate(1000)),
    |path, body| lie_about_manifests(path, body, |answer| answer.manifest.0[50] ^= 1),
    |path, body| lie_about_manifests(path, body, |answer| answer.snapshot.position.seq += 1),
    |path, body| {
        lie_about_manifests(path, body, |answer| {
            answer.snapshot.snapshot_id = synckit_client::SnapshotId::from_bytes([7; 16]);
        })
    },
    |path, body| {
        lie_about_manifests(path, body, |answer| {
            answer.snapshot.key_id = synckit_client::KeyId::from_bytes([7; 16]);
        })
    },
];

#[tokio::test]
async fn forged_snapshot_is_skipped_while_the_log_exists() {
    // A forged snapshot is skipped while the log exists.
    let world = World::start().await;
    let (user, _, _) = stream_of_parts(&world).await;
    for (index, lie) in LIES.into_iter().enumerate() {
        let (phone, id) = world.device_over(&user, &format!("phone {index}"), lying(lie)).await;
        let (pulled, cursor) = pull_all(&phone, id, Cursor::START).await.unwrap();
        let entries = 6 + index;
        assert_eq!((pulled.len(), cursor.seq()), (entries, entries as u64), "lie {index}");
        // A fold does not build on it, either.
        phone.push(id, vec![change("notes", "7")]).await.unwrap();
        stored(&phone, id).await;
    }
    assert_eq!(fresh_rows(&world, &user, "tablet").await.len(), 7);
}

#[tokio::test]
async fn forged_snapshot_without_a_log_fails_with_evidence() {
    // A forged snapshot is an error with evidence when the log is gone.
    let (world, now) = world_with_days().await;
    let (user, laptop, laptop_id) = stream_of_parts(&world).await;
    let (_, end) = pull_all(&laptop, laptop_id, Cursor::START).await.unwrap();
    laptop.pull(laptop_id, end).await.unwrap();
    let whole = laptop.status().await.unwrap().stored_bytes;
    now.fetch_add(15 * DAY, Ordering::SeqCst);
    cut(&laptop, whole).await;
    for (index, lie) in LIES.into_iter().enumerate() {
        let (phone, id) = world.device_over(&user, &format!("phone {index}"), lying(lie)).await;
        let error = pull_all(&phone, id, Cursor::START).await.unwrap_err();
        assert!(
            matches!(&error, Error::Tampering(Tampering::SnapshotForged(evidence)) if evidence.position.seq == 6),
            "lie {index}: {error:?}"
        );
        assert!(error.is_tampering());
    }
    // The honest run beside it.
    assert_eq!(fresh_rows(&world, &user, "tablet").await.len(), 6);
}

#[tokio::test]
async fn older_snapshot_replaces_a_damaged_one() {
    // Where the log is cut an older snapshot replaces a damaged one.
    let (world, now) = world_with_days().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(3)).await.unwrap();
    stored(&laptop, id).await;
    let (_, end) = pull_all(&laptop, id, Cursor::START).await.unwrap();
    laptop.pull(id, end).await.unwrap();
    let whole = laptop.status().await.unwrap().stored_bytes;
    now.fetch_add(15 * DAY, Ordering::SeqCst);
    cut(&laptop, whole).await;
    laptop.push(id, vec![delete("0"), update(7, 7)]).await.unwrap();
    stored(&laptop, id).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    {
        let database = rusqlite::Connection::open(world.data_dir().join("synckit.db")).unwrap();
        let damage = "UPDATE snapshot_parts SET sealed = zeroblob(length(sealed))
             WHERE snapshot_key = (SELECT max(snapshot_key) FROM snapshots)";
        assert_eq!(database.execute(damage, []).unwrap(), 1);
    }
    let (pulled, cursor) = pull_all(&phone, phone_id, Cursor::START).await.unwrap();
    assert_eq!((pulled.len(), cursor.seq()), (3 + 2, 5));
    // A fold goes around it too, and puts a good one in its place as soon as there is something new.
    phone.push(phone_id, vec![update(8, 8)]).await.unwrap();
    stored(&phone, phone_id).await;
    let (tablet, tablet_id) = world.next_device(&user, "tablet").await;
    assert_eq!(pull_all(&tablet, tablet_id, Cursor::START).await.unwrap().0.len(), 5);
}

#[tokio::test]
async fn parts_in_the_wrong_place_are_forged() {
    let world = World::start().await;
    let (user, ..) = stream_of_parts(&world).await;
    // Every part that any snapshot of the stream has, in the place of the first; the newest snapshot's own last.
    let parts: Vec<Vec<u8>> = {
        let database = rusqlite::Connection::open(world.data_dir().join("synckit.db")).unwrap();
        let mut statement = database
            .prepare("SELECT sealed FROM snapshot_parts ORDER BY snapshot_key, part")
            .unwrap();
        let parts = statement.query_map([], |row| row.get(0)).unwrap();
        parts.collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(parts.len(), 6);
    for (index, part) in parts.into_iter().enumerate() {
        let served = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&served);
        let transport = Interference::new(move |request| match request.uri().path() {
            path if path.ends_with("/parts/0") => {
                let (part, counted) = (part.clone(), Arc::clone(&counted));
                Fate::Changed(Box::new(move |_| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    minicbor_serde::to_vec(SnapshotPartAnswer { sealed: part.into() }).unwrap()
                }))
            }
            // Without the log there is no way around it.
            "/api/sync/pull" if avoids_snapshot(request.body()) => Fate::Answered(410, b"{}".to_vec()),
            _ => Fate::Delivered,
        });
        let (phone, id) = world.device_over(&user, &format!("phone {index}"), transport).await;
        let pulled = phone.pull(id, Cursor::START).await;
        assert!(served.load(Ordering::SeqCst) > 0);
        // The newest snapshot's first part is the fourth.
        assert_eq!(pulled.is_ok(), index == 3, "part {index}: {pulled:?}");
    }
}

fn avoids_snapshot(body: &RequestBody) -> bool {
    let RequestBody::Full(body) = body else { return false };
    let pull: synckit_protocol::wire::log::Pull = minicbor_serde::from_slice(body).unwrap();
    pull.avoid_snapshot
}

#[tokio::test]
async fn a_snapshot_of_another_history_is_a_fork() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(2)).await.unwrap();
    stored(&laptop, id).await;
    let known = laptop.status().await.unwrap().latest;
    // The device knows another head at the snapshot's position.
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let mut head = *known.head.as_bytes();
    head[0] ^= 1;
    let other = synckit_client::Position {
        seq: known.seq,
        head: synckit_client::Head::from_bytes(head),
    };
    phone.resume_at(Cursor::at(other));
    let error = phone.pull(phone_id, Cursor::START).await.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::HistoryForked(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn snapshot_older_than_the_cursor_is_a_rewind() {
    // An older snapshot than the cursor is a server that went back.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(2)).await.unwrap();
    stored(&laptop, id).await;
    let old: Arc<Mutex<Option<Page>>> = Arc::default();
    laptop.push(id, changes(2)).await.unwrap();
    let lie = Arc::clone(&old);
    let transport = Interference::new(move |request| {
        if request.uri().path() != "/api/sync/pull" {
            return Fate::Delivered;
        }
        let lie = Arc::clone(&lie);
        Fate::Changed(Box::new(move |body| {
            let page: Page = minicbor_serde::from_slice(&body).unwrap();
            let mut old = lie.lock().unwrap();
            if page.snapshot.is_some() {
                *old = Some(page);
                return body;
            }
            // Whatever is asked, the old snapshot is the answer.
            minicbor_serde::to_vec(old.as_ref().unwrap()).unwrap()
        }))
    });
    let (phone, phone_id) = world.device_over(&user, "phone", transport).await;
    let (_, cursor, has_more) = phone.pull(phone_id, Cursor::START).await.unwrap();
    assert!(has_more);
    let error = phone.pull(phone_id, cursor).await.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::HistoryRewound(_))),
        "{error:?}"
    );
}

/// Section 6.4 of the protocol: the device knows the snapshot's position from its first rows on.
#[tokio::test]
async fn first_rows_of_a_snapshot_are_known() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(10)).await.unwrap();
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let backup = world.backup();
    laptop.push(id, changes(1_200)).await.unwrap();
    stored(&laptop, id).await;
    let (rows, _, has_more) = phone.pull(phone_id, Cursor::START).await.unwrap();
    assert!(has_more && rows.len() == 500, "the middle of a snapshot");

    // A server that went back to before the snapshot. The phone has not read any of the log yet.
    let _world = world.restore(backup).await;
    let error = phone.pull(phone_id, Cursor::START).await.unwrap_err();
    let Error::Tampering(Tampering::HistoryRewound(evidence)) = error else {
        panic!("{error:?}");
    };
    assert_eq!((evidence.known.seq, evidence.claimed.seq), (1_210, 10));
}

#[tokio::test]
async fn a_cursor_outside_its_snapshot_is_refused() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(600)).await.unwrap();
    stored(&laptop, id).await;
    let (_, cursor, _) = laptop.pull(id, Cursor::START).await.unwrap();
    let text = cursor.to_string();
    for outside in [
        text.replacen("s0.500.", "s0.600.", 1),
        text.replacen("s0.500.", "s1.0.", 1),
    ] {
        let error = laptop.pull(id, outside.parse().unwrap()).await.unwrap_err();
        assert!(
            matches!(error, Error::InvalidArgument { argument: "cursor", .. }),
            "{error:?}"
        );
    }
    let error = laptop
        .push_at(id, cursor, Some(SyncKitClient::new_batch_id()), changes(1))
        .await
        .unwrap_err();
    assert!(
        matches!(error.source, Error::InvalidArgument { argument: "parent", .. }),
        "{error:?}"
    );
}
