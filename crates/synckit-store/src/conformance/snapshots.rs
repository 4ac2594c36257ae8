//! Snapshots, and the log that they replace.

use crate::{
    Append, ChainRead, EnvelopeWrite, NewBatch, NewSnapshot, NewSnapshotPart, PageRead, PageRequest, Retention,
    SnapshotPartWrite, SnapshotWrite, Store, StreamId, rules::quotas::PlanRoom,
};
use bytes::Bytes;
use synckit_protocol::{Cursor, Head, KeyId, Position, SnapshotId, wire::snapshots::SnapshotInfo};

use crate::conformance::fixture::{
    KEY, NO_BYTE_LIMIT, NOW, OWNER, append, append_all, batch, device_id, end_of, id16, new_envelope, page,
    page_request, ready_stream, register, start, stored, stream_of,
};

/// A day, and the ages of the default configuration in days.
const DAY: u64 = 24 * 3600;

fn snapshot_id(n: u64) -> SnapshotId {
    SnapshotId::from_bytes(id16(n))
}

fn part(stream: StreamId, n: u64, part: u32, now: u64) -> NewSnapshotPart {
    NewSnapshotPart {
        stream,
        snapshot_id: snapshot_id(n),
        part,
        sealed: sealed(n, part),
        room: PlanRoom::default(),
        now,
    }
}

/// 1000 bytes of one part and no other.
fn sealed(n: u64, part: u32) -> Bytes {
    let mut bytes = vec![0x77; 1000];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    bytes[8..12].copy_from_slice(&part.to_be_bytes());
    bytes.into()
}

fn manifest(stream: StreamId, n: u64, position: Position, parts: u32, now: u64) -> NewSnapshot {
    NewSnapshot {
        stream,
        snapshot_id: snapshot_id(n),
        key_id: KEY,
        position,
        parts,
        manifest: Bytes::from_static(b"a sealed manifest"),
        signed_by: Some(OWNER),
        room: PlanRoom::default(),
        settled_before: now - 14 * DAY,
        now,
    }
}

/// Stores snapshot `n` of a position in so many parts.
async fn put(store: &dyn Store, stream: StreamId, n: u64, position: Position, parts: u32, now: u64) -> SnapshotWrite {
    for index in 0..parts {
        let written = store.put_snapshot_part(part(stream, n, index, now)).await.unwrap();
        assert_eq!(written, SnapshotPartWrite::Stored);
    }
    store
        .put_snapshot(manifest(stream, n, position, parts, now))
        .await
        .unwrap()
}

fn info(n: u64, position: Position, parts: u32, created_at: u64) -> SnapshotInfo {
    SnapshotInfo {
        snapshot_id: snapshot_id(n),
        key_id: KEY,
        position,
        parts,
        size: u64::from(parts) * 1000 + 17,
        created_at,
    }
}

async fn read(store: &dyn Store, request: PageRequest) -> PageRead {
    store.page(request).await.unwrap()
}

/// The app of a device has come to a position.
async fn pulled(store: &dyn Store, stream: StreamId, device: u64, position: Position, now: u64) {
    let request = PageRequest {
        now,
        ..page_request(stream, device, Cursor::at(position), NO_BYTE_LIMIT)
    };
    assert!(matches!(read(store, request).await, PageRead::Page { .. }));
    // Whatever a store does later, it has done before it finishes later work.
    store.check().await.unwrap();
}

/// Deletes all unneeded data. Returns the number of steps.
async fn retain(store: &dyn Store, now: u64) -> usize {
    let retention = Retention {
        settled_before: now - 14 * DAY,
        active_since: now - 90 * DAY,
        unfinished_before: now - DAY,
        ended_until: now,
        now,
    };
    for pieces in 0..1000 {
        if !store.retain(retention).await.unwrap() {
            return pieces;
        }
    }
    panic!("retention never ends");
}

async fn bytes(store: &dyn Store, stream: StreamId) -> u64 {
    store.status(stream).await.unwrap().stored_bytes
}

/// A stream of three batches of 2, 3 and 4 entries, 100 bytes each.
async fn three_batches(store: &dyn Store) -> (StreamId, Vec<NewBatch>) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[2, 3, 4]).await;
    (stream, batches)
}

/// The same, cut after the second batch.
async fn cut_stream(store: &dyn Store) -> (StreamId, Vec<NewBatch>, SnapshotInfo) {
    let (stream, batches) = three_batches(store).await;
    let base = end_of(&batches[1]);
    assert_eq!(put(store, stream, 1, base, 2, NOW).await, SnapshotWrite::Stored);
    pulled(store, stream, 1, base, NOW).await;
    assert!(retain(store, NOW + 15 * DAY).await > 0);
    (stream, batches, info(1, base, 2, NOW))
}

pub async fn a_snapshot_counts_from_its_manifest(store: &dyn Store) {
    let (stream, batches) = three_batches(store).await;
    let position = end_of(&batches[1]);
    for index in 0..2 {
        store.put_snapshot_part(part(stream, 1, index, NOW)).await.unwrap();
        assert_eq!(store.snapshot(stream, snapshot_id(1)).await.unwrap(), None);
        assert_eq!(store.snapshot_part(stream, snapshot_id(1), 0).await.unwrap(), None);
        assert_eq!(store.status(stream).await.unwrap().snapshot, None);
        assert_eq!(page(store, stream, 1, Cursor::START, NO_BYTE_LIMIT).await.0.len(), 3);
    }
    let written = store
        .put_snapshot(manifest(stream, 1, position, 2, NOW + 1))
        .await
        .unwrap();
    assert_eq!(written, SnapshotWrite::Stored);
    let expected = info(1, position, 2, NOW + 1);
    let found = store.snapshot(stream, snapshot_id(1)).await.unwrap().unwrap();
    assert_eq!((found.info, &found.manifest[..]), (expected, &b"a sealed manifest"[..]));
    for index in 0..2 {
        let found = store.snapshot_part(stream, snapshot_id(1), index).await.unwrap();
        assert_eq!(found, Some(sealed(1, index)));
    }
    assert_eq!(store.snapshot_part(stream, snapshot_id(1), 2).await.unwrap(), None);
    let status = store.status(stream).await.unwrap();
    assert_eq!((status.snapshot, status.stored_bytes), (Some(expected), 300 + 2017));
    let from_start = page_request(stream, 1, Cursor::START, NO_BYTE_LIMIT);
    assert_eq!(read(store, from_start).await, PageRead::Snapshot(expected));
    // From any other cursor, and with `avoid_snapshot`, the log is unchanged.
    assert_eq!(
        page(store, stream, 1, Cursor::at(end_of(&batches[0])), NO_BYTE_LIMIT)
            .await
            .0,
        [stored(&batches[1]), stored(&batches[2])]
    );
    let avoiding = PageRequest {
        avoid_snapshot: true,
        ..from_start
    };
    assert!(matches!(read(store, avoiding).await, PageRead::Page { batches, .. } if batches.len() == 3));
}

pub async fn parts_and_manifest_may_come_again(store: &dyn Store) {
    let (stream, batches) = three_batches(store).await;
    let position = end_of(&batches[2]);
    for _ in 0..2 {
        assert_eq!(put(store, stream, 1, position, 2, NOW).await, SnapshotWrite::Stored);
    }
    assert_eq!(bytes(store, stream).await, 300 + 2017);
    // But a complete snapshot never changes.
    let other = NewSnapshotPart {
        sealed: sealed(9, 9),
        ..part(stream, 1, 0, NOW)
    };
    assert_eq!(store.put_snapshot_part(other).await.unwrap(), SnapshotPartWrite::Stale);
    assert_eq!(
        store.snapshot_part(stream, snapshot_id(1), 0).await.unwrap(),
        Some(sealed(1, 0))
    );
}

pub async fn a_snapshot_without_all_its_parts_is_incomplete(store: &dyn Store) {
    let (stream, batches) = three_batches(store).await;
    let position = end_of(&batches[2]);
    let write = async |parts| {
        store
            .put_snapshot(manifest(stream, 1, position, parts, NOW))
            .await
            .unwrap()
    };
    assert_eq!(write(1).await, SnapshotWrite::Incomplete, "nothing was begun");
    for index in [0, 2] {
        store.put_snapshot_part(part(stream, 1, index, NOW)).await.unwrap();
    }
    for parts in [1, 2, 3, 4] {
        assert_eq!(write(parts).await, SnapshotWrite::Incomplete, "of {parts}");
    }
    store.put_snapshot_part(part(stream, 1, 1, NOW)).await.unwrap();
    assert_eq!(write(3).await, SnapshotWrite::Stored);
}

pub async fn a_snapshot_is_current_newer_and_on_the_chain(store: &dyn Store) {
    let (stream, batches) = three_batches(store).await;
    let middle = end_of(&batches[1]);
    let latest = end_of(&batches[2]);
    assert_eq!(put(store, stream, 1, middle, 1, NOW).await, SnapshotWrite::Stored);
    assert_eq!(put(store, stream, 2, middle, 1, NOW).await, SnapshotWrite::Stale);
    assert_eq!(
        put(store, stream, 3, end_of(&batches[0]), 1, NOW).await,
        SnapshotWrite::Stale
    );
    assert_eq!(put(store, stream, 4, start(stream), 1, NOW).await, SnapshotWrite::Stale);
    for position in [
        Position { seq: 8, ..latest },
        Position { seq: 10, ..latest },
        Position {
            head: Head::from_bytes([9; 32]),
            ..latest
        },
    ] {
        assert_eq!(
            put(store, stream, 5, position, 1, NOW).await,
            SnapshotWrite::Diverged { latest }
        );
    }
    let other_key = NewSnapshot {
        key_id: KeyId::from_bytes([1; 16]),
        ..manifest(stream, 5, latest, 1, NOW)
    };
    assert_eq!(store.put_snapshot(other_key).await.unwrap(), SnapshotWrite::KeyMismatch);
    let elsewhere = stream_of(9, 9);
    assert_eq!(
        store.put_snapshot_part(part(elsewhere, 1, 0, NOW)).await.unwrap(),
        SnapshotPartWrite::NoEnvelope
    );
    assert_eq!(
        store
            .put_snapshot(manifest(elsewhere, 1, start(elsewhere), 0, NOW))
            .await
            .unwrap(),
        SnapshotWrite::NoEnvelope
    );
    assert_eq!(store.snapshot(elsewhere, snapshot_id(1)).await.unwrap(), None);
    assert_eq!(store.snapshot_part(elsewhere, snapshot_id(1), 0).await.unwrap(), None);
}

pub async fn the_log_is_cut_when_every_device_has_passed(store: &dyn Store) {
    let (stream, batches) = three_batches(store).await;
    register(store, stream, 2).await;
    let base = end_of(&batches[1]);
    put(store, stream, 1, base, 2, NOW).await;
    pulled(store, stream, 1, end_of(&batches[2]), NOW).await;
    let whole = bytes(store, stream).await;
    assert_eq!(
        retain(store, NOW + 15 * DAY).await,
        0,
        "the second device has not passed it"
    );
    pulled(store, stream, 2, end_of(&batches[0]), NOW).await;
    assert_eq!(
        retain(store, NOW + 15 * DAY).await,
        0,
        "the second device is not that far"
    );
    pulled(store, stream, 2, base, NOW).await;
    assert_eq!(retain(store, NOW + 14 * DAY - 1).await, 0, "it has not settled");
    assert!(retain(store, NOW + 14 * DAY).await > 0);
    assert_eq!(bytes(store, stream).await, whole - 200);
    assert_eq!(retain(store, NOW + 14 * DAY).await, 0, "once is enough");
}

pub async fn only_a_cursor_that_the_app_has_lets_the_log_go(store: &dyn Store) {
    let (stream, batches) = three_batches(store).await;
    let base = end_of(&batches[2]);
    put(store, stream, 1, base, 1, NOW).await;
    let ahead = PageRequest {
        ahead: true,
        ..page_request(stream, 1, Cursor::at(base), NO_BYTE_LIMIT)
    };
    read(store, ahead).await;
    // Seen a day later, so that the device is written to in any case.
    read(
        store,
        PageRequest {
            now: NOW + DAY,
            ..ahead
        },
    )
    .await;
    let invented = Position {
        head: Head::from_bytes([9; 32]),
        ..base
    };
    read(store, page_request(stream, 1, Cursor::at(invented), NO_BYTE_LIMIT)).await;
    store.check().await.unwrap();
    assert_eq!(retain(store, NOW + 15 * DAY).await, 0);
    pulled(store, stream, 1, base, NOW).await;
    assert!(retain(store, NOW + 15 * DAY).await > 0);
}

pub async fn an_absent_or_revoked_device_holds_no_log(store: &dyn Store) {
    let (stream, batches) = three_batches(store).await;
    register(store, stream, 2).await;
    register(store, stream, 3).await;
    let base = end_of(&batches[2]);
    put(store, stream, 1, base, 1, NOW).await;
    pulled(store, stream, 1, base, NOW + 89 * DAY).await;
    store.revoke_device(stream, device_id(2), NOW).await.unwrap();
    assert_eq!(retain(store, NOW + 89 * DAY).await, 0, "the third device may come back");
    assert!(retain(store, NOW + 90 * DAY).await > 0);
}

pub async fn below_its_base_a_log_is_compacted(store: &dyn Store) {
    let (stream, batches, snapshot) = cut_stream(store).await;
    let (base, latest) = (end_of(&batches[1]), end_of(&batches[2]));
    // From the base on everything is as before.
    assert_eq!(
        page(store, stream, 1, Cursor::at(base), NO_BYTE_LIMIT).await.0,
        [stored(&batches[2])]
    );
    let ChainRead::Page(chain) = store.chain(stream, Cursor::at(base), 10).await.unwrap() else {
        panic!("no chain from the base");
    };
    assert_eq!((chain.digests.len(), chain.latest, chain.has_more), (1, latest, false));

    let below = Cursor::at(end_of(&batches[0]));
    let request = page_request(stream, 1, below, NO_BYTE_LIMIT);
    assert_eq!(read(store, request).await, PageRead::Compacted(snapshot));
    let from_start = page_request(stream, 1, Cursor::START, NO_BYTE_LIMIT);
    assert_eq!(read(store, from_start).await, PageRead::Snapshot(snapshot));
    let avoiding = PageRequest {
        avoid_snapshot: true,
        ..from_start
    };
    assert_eq!(read(store, avoiding).await, PageRead::Compacted(snapshot));
    for from in [Cursor::START, below] {
        assert_eq!(
            store.chain(stream, from, 10).await.unwrap(),
            ChainRead::Compacted(snapshot)
        );
    }
    for parent in [start(stream), end_of(&batches[0])] {
        let late = batch(stream, parent, 1, 50, 1, 9);
        assert_eq!(store.append_batch(late).await.unwrap(), Append::Compacted(snapshot));
    }
    let mut rotation = new_envelope(stream, 1);
    rotation.key_id = KeyId::from_bytes([1; 16]);
    rotation.head = Some(start(stream));
    assert_eq!(
        store.put_envelope(rotation).await.unwrap(),
        EnvelopeWrite::Compacted(snapshot)
    );
    // A newer snapshot replaces the start of the log; a client that avoids it gets the older one.
    append(store, &batch(stream, latest, 1, 60, 1, 9)).await;
    put(store, stream, 2, latest, 1, NOW + 15 * DAY).await;
    let newer = info(2, latest, 1, NOW + 15 * DAY);
    assert_eq!(read(store, request).await, PageRead::Compacted(newer));
    assert_eq!(read(store, from_start).await, PageRead::Snapshot(newer));
    assert_eq!(read(store, avoiding).await, PageRead::Compacted(snapshot));
}

pub async fn a_log_can_be_cut_to_its_end_and_goes_on(store: &dyn Store) {
    let (stream, batches) = three_batches(store).await;
    let end = end_of(&batches[2]);
    put(store, stream, 1, end, 1, NOW).await;
    pulled(store, stream, 1, end, NOW).await;
    retain(store, NOW + 15 * DAY).await;
    assert_eq!(bytes(store, stream).await, 1017);
    assert_eq!(
        page(store, stream, 1, Cursor::at(end), NO_BYTE_LIMIT).await,
        (vec![], Cursor::at(end), false)
    );
    let next = batch(stream, end, 1, 9, 1, 100);
    append(store, &next).await;
    assert_eq!(
        page(store, stream, 1, Cursor::at(end), NO_BYTE_LIMIT).await.0,
        [stored(&next)]
    );
}

pub async fn the_newest_batch_ids_outlive_their_batches(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    register(store, stream, 2).await;
    let rare = append_all(store, stream, start(stream), 2, 1000, &[5]).await;
    let many = append_all(store, stream, end_of(&rare[0]), 1, 1, &[2; 300]).await;
    let end = end_of(&many[299]);
    put(store, stream, 1, end, 1, NOW).await;
    for device in [1, 2] {
        pulled(store, stream, device, end, NOW).await;
    }
    assert!(retain(store, NOW + 15 * DAY).await > 2, "in more pieces than one");
    for (index, batch) in rare.iter().chain(&many[236..]).enumerate() {
        let answer = Append::Stored {
            first_seq: batch.parent.seq + 1,
            position: end_of(batch),
            repeated: true,
        };
        assert_eq!(store.append_batch(batch.clone()).await.unwrap(), answer, "{index}");
    }
    for batch in &many[..236] {
        let answer = store.append_batch(batch.clone()).await.unwrap();
        assert!(matches!(answer, Append::Compacted(_)), "{answer:?}");
    }
}

pub async fn a_key_changes_at_the_newest_snapshot_only(store: &dyn Store) {
    let (stream, batches) = three_batches(store).await;
    let end = end_of(&batches[2]);
    let rotate = async |version, snapshot: Option<u64>| {
        let mut rotation = new_envelope(stream, version);
        rotation.key_id = KeyId::from_bytes([1; 16]);
        rotation.head = Some(end);
        rotation.snapshot = snapshot.map(snapshot_id);
        store.put_envelope(rotation).await.unwrap()
    };
    assert_eq!(rotate(1, Some(1)).await, EnvelopeWrite::SnapshotStale);
    put(store, stream, 1, end, 1, NOW).await;
    for named in [None, Some(2)] {
        assert_eq!(rotate(1, named).await, EnvelopeWrite::SnapshotStale);
    }
    // An envelope of the same key ends nothing.
    let same = store.put_envelope(new_envelope(stream, 1)).await.unwrap();
    assert_eq!(same, EnvelopeWrite::Written(2));
    assert_eq!(rotate(2, Some(1)).await, EnvelopeWrite::Written(3));
}

pub async fn an_unfinished_snapshot_is_swept_after_a_day(store: &dyn Store) {
    let (stream, batches) = three_batches(store).await;
    store.put_snapshot_part(part(stream, 1, 0, NOW)).await.unwrap();
    store.put_snapshot_part(part(stream, 1, 1, NOW + 100)).await.unwrap();
    assert_eq!(bytes(store, stream).await, 300 + 2000);
    assert_eq!(retain(store, NOW + DAY + 99).await, 0);
    assert!(retain(store, NOW + DAY + 100).await > 0);
    assert_eq!(bytes(store, stream).await, 300);
    let late = manifest(stream, 1, end_of(&batches[2]), 2, NOW + DAY);
    assert_eq!(store.put_snapshot(late).await.unwrap(), SnapshotWrite::Incomplete);
}

pub async fn a_fifth_unfinished_snapshot_pushes_out_the_oldest(store: &dyn Store) {
    let (stream, batches) = three_batches(store).await;
    for n in 1..=5 {
        store.put_snapshot_part(part(stream, n, 0, NOW + n)).await.unwrap();
    }
    let end = end_of(&batches[2]);
    let write = async |n| store.put_snapshot(manifest(stream, n, end, 1, NOW + 10)).await.unwrap();
    assert_eq!(write(1).await, SnapshotWrite::Stale);
    let more = store.put_snapshot_part(part(stream, 1, 1, NOW)).await.unwrap();
    assert_eq!(more, SnapshotPartWrite::Stale);
    assert_eq!(write(2).await, SnapshotWrite::Stored);
    retain(store, NOW + 10).await;
    assert_eq!(bytes(store, stream).await, 300 + 3 * 1000 + 1017);
}

pub async fn of_many_snapshots_four_stay_and_one_settles(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    register(store, stream, 2).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[1; 60]).await;
    for (day, batch) in (0..).zip(&batches) {
        let now = NOW + day * DAY;
        assert_eq!(
            put(store, stream, day + 1, end_of(batch), 1, now).await,
            SnapshotWrite::Stored
        );
        // One device follows, the other holds the log from the thirtieth day on.
        pulled(store, stream, 1, end_of(batch), now).await;
        pulled(
            store,
            stream,
            2,
            end_of(if day < 30 { batch } else { &batches[29] }),
            now,
        )
        .await;
        retain(store, now).await;
        let mut kept = 0;
        for n in 1..=60 {
            kept += usize::from(store.snapshot(stream, snapshot_id(n)).await.unwrap().is_some());
        }
        assert!((1..=4).contains(&kept), "{kept} on day {day}");
    }
    // The rest of the log begins at a snapshot that both had passed.
    let request = page_request(stream, 1, Cursor::at(end_of(&batches[2])), NO_BYTE_LIMIT);
    assert!(matches!(read(store, request).await, PageRead::Compacted(_)));
    let avoiding = PageRequest {
        avoid_snapshot: true,
        ..page_request(stream, 1, Cursor::START, NO_BYTE_LIMIT)
    };
    let PageRead::Compacted(oldest) = read(store, avoiding).await else {
        panic!("the log is whole");
    };
    assert!(oldest.position.seq <= 30, "{oldest:?}");
    assert_eq!(
        page(store, stream, 1, Cursor::at(oldest.position), NO_BYTE_LIMIT)
            .await
            .0
            .len() as u64,
        60 - oldest.position.seq
    );
}
