//! Plans of apps, and their use.

use synckit_protocol::{SnapshotId, limits::BLOB_UNDELETE_SECONDS};

use super::{
    fixture::{
        HASH, KEY, NOW, OWNER, app_id, append, batch, blob_id, create_app, create_stream, new_upload, ready_stream,
        start, upload, upload_id, user_id,
    },
    whole_account::retain,
};
use crate::{
    AppPlan, AppStored, Append, Hour, HourOfUse, Month, Moved, NewBatch, NewSnapshot, NewSnapshotPart, NewUpload,
    PlanPart, SnapshotPartWrite, SnapshotWrite, Store, UploadBegin, UsageFlush, UserLimit,
    rules::quotas::{PlanRoom, Quota},
};

const PLAN: AppPlan = AppPlan {
    gigabytes: 10,
    burst_hundredths: 500,
};
const HOUR: Hour = Hour::of(NOW);

/// Flush `number` of meter `n`.
fn flush(n: u8, number: u64, moved: &[(u64, Hour, u64)]) -> UsageFlush {
    let moved = moved.iter().map(|&(app, hour, bytes)| Moved {
        app_id: app_id(app),
        hour,
        bytes,
    });
    UsageFlush {
        meter: [n; 16],
        number,
        moved: moved.collect(),
        now: NOW,
    }
}

async fn moved_in(store: &dyn Store, month: Month) -> Vec<u64> {
    let apps = store.planned_apps(month).await.unwrap();
    apps.iter().map(|app| app.moved_bytes).collect()
}

async fn plans(store: &dyn Store) -> Vec<Option<AppPlan>> {
    let apps = store.planned_apps(HOUR.month()).await.unwrap();
    apps.iter().map(|app| app.plan).collect()
}

pub async fn a_plan_is_given_changed_and_taken_away(store: &dyn Store) {
    assert!(!store.write_plan(app_id(1), Some(PLAN), NOW).await.unwrap());
    create_app(store, 1).await;
    create_app(store, 2).await;
    assert_eq!(plans(store).await, [None, None]);
    let larger = AppPlan { gigabytes: 20, ..PLAN };
    for plan in [PLAN, larger] {
        assert!(store.write_plan(app_id(1), Some(plan), NOW).await.unwrap());
        assert_eq!(plans(store).await, [Some(plan), None]);
    }
    assert!(store.write_plan(app_id(1), None, NOW).await.unwrap());
    assert_eq!(plans(store).await, [None, None]);
}

pub async fn owners_are_told_of_a_part_by_one_node(store: &dyn Store) {
    create_app(store, 1).await;
    let (month, next) = (HOUR.month(), HOUR.month().next());
    let note = async |part, from, to| store.note_told(app_id(1), part, from, to).await.unwrap();
    assert!(!note(PlanPart::Storage, 0, 80).await, "no plan");
    store.write_plan(app_id(1), Some(PLAN), NOW).await.unwrap();
    let told = async |month| {
        let apps = store.planned_apps(month).await.unwrap();
        (apps[0].told_storage, apps[0].told_transfer)
    };
    assert_eq!(told(month).await, (0, 0));
    assert!(note(PlanPart::Storage, 0, 80).await);
    assert!(!note(PlanPart::Storage, 0, 80).await, "another node was first");
    assert!(note(PlanPart::Storage, 80, 0).await);
    assert!(note(PlanPart::Transfer(month), 0, 95).await);
    assert!(!note(PlanPart::Transfer(month), 0, 95).await);
    assert_eq!(told(month).await, (0, 95));
    // A month begins anew, and a changed plan keeps what was told.
    assert_eq!(told(next).await, (0, 0));
    store.write_plan(app_id(1), Some(PLAN), NOW).await.unwrap();
    assert!(note(PlanPart::Transfer(next), 0, 80).await);
    assert_eq!(told(next).await, (0, 80));
}

pub async fn what_moved_is_added_once(store: &dyn Store) {
    for n in [1, 2] {
        create_app(store, n).await;
    }
    let month = HOUR.month();
    let next = Hour::of(month.next().begins());
    // The last app is not there.
    let first = flush(1, 1, &[(1, HOUR, 10), (2, HOUR, 5), (1, next, 3), (9, HOUR, 1)]);
    assert!(store.add_usage(first.clone()).await.unwrap());
    assert!(!store.add_usage(first).await.unwrap(), "sent again");
    assert!(store.add_usage(flush(1, 2, &[(1, HOUR, 100)])).await.unwrap());
    assert!(!store.add_usage(flush(1, 1, &[(1, HOUR, 1000)])).await.unwrap(), "late");
    assert!(
        store.add_usage(flush(2, 1, &[(1, HOUR, 1)])).await.unwrap(),
        "another node"
    );
    assert_eq!(moved_in(store, month).await, [111, 5]);
    assert_eq!(moved_in(store, month.next()).await, [3, 0]);
    store.note_stored(app_id(1), HOUR, 7).await.unwrap();
    store.note_stored(app_id(1), HOUR, 8).await.unwrap();
    let hours = store.hours_of_use(app_id(1), HOUR).await.unwrap();
    let expected = [(HOUR, 111, Some(8)), (next, 3, None)].map(|(hour, moved_bytes, stored_bytes)| HourOfUse {
        hour,
        moved_bytes,
        stored_bytes,
    });
    assert_eq!(hours, expected);
    assert_eq!(store.hours_of_use(app_id(1), next).await.unwrap(), expected[1..]);
}

pub async fn what_is_deleted_does_not_count(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let other = create_stream(store, 2).await;
    upload(store, other, 9, 9).await;
    append(store, &batch(stream, start(stream), 1, 1, 1, 100)).await;
    upload(store, stream, 1, 7).await;
    let stored = async |counted_bytes, held_bytes| {
        let expected = AppStored {
            counted_bytes,
            held_bytes,
        };
        assert_eq!(store.app_stored(app_id(1)).await.unwrap(), expected);
    };
    stored(1107, 1107).await;
    assert!(store.delete_blob(stream, blob_id(7), NOW).await.unwrap());
    assert!(!store.delete_blob(stream, blob_id(7), NOW).await.unwrap());
    stored(100, 1107).await;
    // Brought back.
    store.begin_upload(new_upload(stream, 2, 7)).await.unwrap();
    stored(1107, 1107).await;
    // Deleted, and then replaced by an upload.
    store.delete_blob(stream, blob_id(7), NOW).await.unwrap();
    let replacement = NewUpload {
        replace: true,
        ..new_upload(stream, 3, 7)
    };
    store.begin_upload(replacement).await.unwrap();
    assert!(store.confirm_upload(stream, upload_id(3), HASH, NOW).await.unwrap());
    stored(1107, 2114).await;
    // Deleted, and swept.
    store.delete_blob(stream, blob_id(7), NOW).await.unwrap();
    let swept = NOW + BLOB_UNDELETE_SECONDS;
    let objects = store.sweepable_objects(swept, 10).await.unwrap();
    store.objects_deleted(&objects, swept).await.unwrap();
    stored(100, 100).await;
    // Of a deleted account, until its rows are swept.
    assert!(store.delete_account(user_id(1)).await.unwrap().is_some());
    stored(0, 100).await;
    retain(store, NOW).await;
    stored(0, 0).await;
}

pub async fn a_deleted_app_leaves_no_use(store: &dyn Store) {
    for n in [1, 2] {
        create_app(store, n).await;
        store.write_plan(app_id(n), Some(PLAN), NOW).await.unwrap();
        store.note_stored(app_id(n), HOUR, 7).await.unwrap();
    }
    store
        .add_usage(flush(1, 1, &[(1, HOUR, 10), (2, HOUR, 20)]))
        .await
        .unwrap();
    assert!(store.delete_app(app_id(1)).await.unwrap());
    assert_eq!(moved_in(store, HOUR.month()).await, [20]);
    assert!(store.add_usage(flush(1, 2, &[(1, HOUR, 10)])).await.unwrap());
    retain(store, NOW).await;
    assert!(store.hours_of_use(app_id(1), Hour(0)).await.unwrap().is_empty());
    assert_eq!(store.hours_of_use(app_id(2), Hour(0)).await.unwrap().len(), 1);
    assert_eq!(moved_in(store, HOUR.month()).await, [20]);
}

pub async fn old_hours_of_use_are_forgotten(store: &dyn Store) {
    create_app(store, 1).await;
    let later = Hour(HOUR.0 + 800);
    assert!(later.month() > HOUR.month());
    store
        .add_usage(flush(1, 1, &[(1, HOUR, 10), (1, later, 20)]))
        .await
        .unwrap();
    assert!(!store.forget_usage(HOUR, NOW).await.unwrap());
    assert_eq!(store.hours_of_use(app_id(1), Hour(0)).await.unwrap().len(), 2);
    assert!(!store.forget_usage(later, later.begins()).await.unwrap());
    let left = store.hours_of_use(app_id(1), Hour(0)).await.unwrap();
    assert_eq!(left.iter().map(|hour| hour.hour).collect::<Vec<_>>(), [later]);
    assert_eq!(moved_in(store, HOUR.month()).await, [0]);
    assert_eq!(moved_in(store, later.month()).await, [20]);
    // Its flush is forgotten, too.
    assert!(store.add_usage(flush(1, 1, &[])).await.unwrap());
}

const FULL: PlanRoom = PlanRoom {
    app_is_full: true,
    user_bytes_max: None,
};

pub async fn the_limit_of_users_is_kept_with_the_app(store: &dyn Store) {
    let limit = |megabytes| UserLimit {
        megabytes,
        burst_hundredths: 250,
    };
    assert!(!store.write_user_limit(app_id(1), Some(limit(1))).await.unwrap());
    assert_eq!(store.user_limit(app_id(1)).await.unwrap(), None);
    create_app(store, 1).await;
    assert_eq!(store.user_limit(app_id(1)).await.unwrap(), None);
    for limit in [Some(limit(1)), Some(limit(u32::MAX)), None, Some(limit(7))] {
        assert!(store.write_user_limit(app_id(1), limit).await.unwrap());
        assert_eq!(store.user_limit(app_id(1)).await.unwrap(), limit);
        let apps = store.planned_apps(HOUR.month()).await.unwrap();
        assert_eq!(apps.iter().map(|app| app.user_limit).collect::<Vec<_>>(), [limit]);
    }
}

/// A user who may store 64,000 bytes in the app, of which files leave 1,000 to batches.
pub async fn a_user_at_the_limit_stores_nothing_new(store: &dyn Store) {
    let room = PlanRoom {
        app_is_full: false,
        user_bytes_max: Some(64_000),
    };
    let stream = ready_stream(store, 1).await;
    let other = ready_stream(store, 2).await;
    let begun = async |n, blob, size, replace| {
        let upload = NewUpload {
            room,
            size,
            replace,
            ..new_upload(stream, n, blob)
        };
        store.begin_upload(upload).await.unwrap()
    };
    let over = UploadBegin::OverQuota(Quota::UserStorage);
    assert_eq!(begun(1, 1, 63_001, false).await, over);
    assert_eq!(begun(1, 1, 40_000, false).await, UploadBegin::Begun);
    // What is announced counts, so that two uploads at once do not go past each other.
    assert_eq!(begun(2, 2, 23_001, false).await, over);
    assert_eq!(begun(2, 2, 23_000, false).await, UploadBegin::Begun);
    for n in [1, 2] {
        assert!(store.confirm_upload(stream, upload_id(n), HASH, NOW).await.unwrap());
    }
    let pushed = async |parent, n, size| {
        let batch = NewBatch {
            room,
            ..batch(stream, parent, 1, n, 1, size)
        };
        store.append_batch(batch).await.unwrap()
    };
    let over_batch = Append::OverQuota(Quota::UserStorage);
    assert_eq!(pushed(start(stream), 1, 1_001).await, over_batch);
    let Append::Stored { position, .. } = pushed(start(stream), 1, 1_000).await else {
        panic!("to the last byte");
    };
    // A retry, and what others do.
    let again = pushed(start(stream), 1, 1_000).await;
    assert!(matches!(again, Append::Stored { repeated: true, .. }), "{again:?}");
    let of_other = NewBatch {
        room,
        ..batch(other, start(other), 2, 1, 1, 1_000)
    };
    let of_other = store.append_batch(of_other).await.unwrap();
    assert!(matches!(of_other, Append::Stored { .. }), "{of_other:?}");
    assert_eq!(pushed(position, 2, 1).await, over_batch);
    // The same blob is there; a larger one in its place is too large; a deleted one counts no more.
    assert_eq!(begun(3, 1, 40_000, false).await, UploadBegin::AlreadyExists);
    assert_eq!(begun(3, 1, 40_001, true).await, over);
    store.delete_blob(stream, blob_id(1), NOW).await.unwrap();
    let Append::Stored { position: head, .. } = pushed(position, 2, 5_000).await else {
        panic!("a deleted blob counts no more");
    };
    assert_eq!(
        begun(3, 1, 40_000, false).await,
        over,
        "it was deleted, and would be brought back"
    );
    assert_eq!(store.blob(stream, blob_id(1)).await.unwrap(), None);
    // Snapshots go twice as far.
    let stored = 23_000 + 1_000 + 5_000;
    let part = async |size| {
        let part = NewSnapshotPart {
            stream,
            snapshot_id: SnapshotId::from_bytes([1; 16]),
            part: 0,
            sealed: vec![7; size].into(),
            room,
            now: NOW,
        };
        store.put_snapshot_part(part).await.unwrap()
    };
    let over_part = SnapshotPartWrite::OverQuota(Quota::UserStorage);
    assert_eq!(part(128_001 - stored).await, over_part);
    assert_eq!(part(128_000 - stored).await, SnapshotPartWrite::Stored);
    // And so does their manifest.
    let whole = NewSnapshot {
        stream,
        snapshot_id: SnapshotId::from_bytes([1; 16]),
        key_id: KEY,
        position: head,
        parts: 1,
        manifest: vec![7].into(),
        signed_by: Some(OWNER),
        room,
        settled_before: 0,
        now: NOW,
    };
    let written = store.put_snapshot(whole.clone()).await.unwrap();
    assert_eq!(written, SnapshotWrite::OverQuota(Quota::UserStorage));
    let room = PlanRoom::default();
    let written = store.put_snapshot(NewSnapshot { room, ..whole }).await.unwrap();
    assert_eq!(written, SnapshotWrite::Stored);
}

pub async fn a_full_app_takes_nothing_new(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let first = batch(stream, start(stream), 1, 1, 1, 100);
    let head = append(store, &first).await;
    let second = batch(stream, head, 1, 2, 1, 100);
    for batch in [&first, &second] {
        let full = NewBatch {
            room: FULL,
            ..batch.clone()
        };
        let answer = store.append_batch(full).await.unwrap();
        match batch.digest.batch_id == first.digest.batch_id {
            // What was stored before is answered as before.
            true => assert!(matches!(answer, Append::Stored { repeated: true, .. }), "{answer:?}"),
            false => assert_eq!(answer, Append::OverQuota(Quota::AppStorage)),
        }
    }
    upload(store, stream, 1, 7).await;
    upload(store, stream, 2, 8).await;
    store.delete_blob(stream, blob_id(8), NOW).await.unwrap();
    let begun = async |blob| {
        let upload = NewUpload {
            room: FULL,
            ..new_upload(stream, 3, blob)
        };
        store.begin_upload(upload).await.unwrap()
    };
    assert_eq!(begun(7).await, UploadBegin::AlreadyExists);
    assert_eq!(begun(8).await, UploadBegin::OverQuota(Quota::AppStorage), "was deleted");
    assert_eq!(begun(9).await, UploadBegin::OverQuota(Quota::AppStorage));
    assert_eq!(store.blob(stream, blob_id(8)).await.unwrap(), None);
    append(store, &second).await;
}
