//! The rules, without a database.

use bytes::Bytes;
use synckit_protocol::{
    AppId, Cursor, Head, InstallationId, KeyId, OwnerKey, Position, SnapshotId,
    limits::{CONSENT_SECONDS, DEVICE_NAME_BYTES_MAX, PAGE_ENTRIES_MAX, PAGE_SESSION_SECONDS, REFRESH_SECONDS},
};
use synckit_store::{
    Append, Envelope, EnvelopeRestore, EnvelopeWrite, NewEnvelope, NewSnapshot, PAGES_APP, PageRead, Retention,
    SnapshotPartWrite, SnapshotWrite, StoreError, VersionedWrite,
    rules::{
        accounts::next_vault,
        devices::{self, DeviceState, LAST_SEEN_SECONDS, Named},
        envelopes::{self, Current, Put, Restore, restored},
        log::{self, Decision, PageSize, SEQ_MAX, Source, Stored},
        positions::{Place, StreamState, is_end_of, place, place_of_cursor},
        quotas::{self, PlanRoom, Quota, Quotas, RESERVE_BYTES_MAX, Usage, sessions_beside_new},
        retention::{Below, Candidate, Reader, STEP_BATCHES, STEP_BYTES, may_cut, step},
        sessions::{Refresh, expired, login_forgotten, oldest, refresh, replaced},
        snapshots::{self, Kept, Stage, is_complete, prune},
    },
};

use crate::fixture::{KEY, NOW, OWNER, batch, new_envelope, page_request, start, stream_of};

fn at(seq: u64, head: u8) -> Position {
    Position {
        seq,
        head: Head::from_bytes([head; 32]),
    }
}

/// A stream at sequence 9 whose log begins after 4, with a snapshot of 6.
fn stream() -> StreamState {
    StreamState {
        id: stream_of(1, 1),
        latest: at(9, 9),
        key_id: Some(KEY),
        base: Some(at(4, 4)),
        snapshot_seq: 6,
    }
}

fn device() -> DeviceState {
    DeviceState {
        revoked: false,
        last_seen_at: NOW,
        pulled_seq: 0,
    }
}

#[test]
fn a_batch_is_checked_in_the_order_of_the_contract() {
    let pushed = batch(stream_of(1, 1), at(9, 9), 1, 1, 3, 10);
    let first = Append::Stored {
        first_seq: 1,
        position: at(3, 3),
        repeated: true,
    };
    // Everything is wrong at once, and put right one by one.
    let mut stored = Stored {
        stream: StreamState {
            key_id: None,
            latest: at(8, 8),
            ..stream()
        },
        first_answer: Some(first.clone()),
        device: None,
    };
    let decide = |stored: &Stored| log::append(stored.clone(), &pushed).unwrap();
    assert_eq!(decide(&stored), Decision::Answer(first));
    stored.first_answer = None;
    assert_eq!(decide(&stored), Decision::Answer(Append::DeviceNotFound));
    stored.device = Some(DeviceState {
        revoked: true,
        ..device()
    });
    assert_eq!(decide(&stored), Decision::Answer(Append::DeviceRevoked));
    stored.device = Some(device());
    assert_eq!(decide(&stored), Decision::Answer(Append::NoEnvelope));
    stored.stream.key_id = Some(KeyId::from_bytes([1; 16]));
    assert_eq!(decide(&stored), Decision::Answer(Append::KeyMismatch));
    stored.stream.key_id = Some(KEY);
    assert_eq!(decide(&stored), Decision::ParentIsNotHead);
    stored.stream.latest = at(9, 9);
    let position = pushed.parent.advance(&pushed.digest).unwrap();
    let decision = decide(&stored);
    assert_eq!(
        decision,
        Decision::Store {
            position,
            device_is_due: false
        }
    );
}

#[test]
fn stored_batch_begins_after_the_head() {
    let position = at(12, 12);
    let expected = Append::Stored {
        first_seq: 10,
        position,
        repeated: false,
    };
    assert_eq!(Decision::stored(&stream(), position), expected);
}

#[test]
fn a_log_ends_at_its_last_sequence_number() {
    let end = at(SEQ_MAX - 3, 1);
    for (count, fits) in [(3, true), (4, false), (0, false)] {
        let pushed = batch(stream_of(1, 1), end, 1, 1, count, 10);
        let stored = Stored {
            stream: StreamState {
                latest: end,
                ..stream()
            },
            first_answer: None,
            device: Some(device()),
        };
        let decision = log::append(stored, &pushed);
        match decision {
            Ok(_) => assert!(fits, "{count}"),
            Err(error) => assert!(!fits && matches!(error, StoreError::InvalidBatch), "{count}"),
        }
    }
}

#[test]
fn a_position_has_one_place() {
    let whole = StreamState {
        base: None,
        snapshot_seq: 0,
        ..stream()
    };
    for (state, position, expected) in [
        (stream(), at(9, 9), Place::OnChain),
        (stream(), at(9, 8), Place::Diverged),
        (stream(), at(10, 9), Place::Diverged),
        (stream(), at(7, 7), Place::Inside),
        (stream(), at(4, 4), Place::OnChain),
        (stream(), at(4, 5), Place::Diverged),
        (stream(), at(3, 3), Place::BelowBase),
        (whole, start(whole.id), Place::OnChain),
        (whole, at(0, 1), Place::Diverged),
        (whole, at(1, 1), Place::Inside),
    ] {
        assert_eq!(place(&state, position), expected, "{position:?}");
    }
    assert_eq!(place_of_cursor(&stream(), Cursor::START), Place::BelowBase);
    assert_eq!(place_of_cursor(&whole, Cursor::START), Place::OnChain);
    assert!(is_end_of(Some(Head::from_bytes([7; 32])), at(7, 7)));
    assert!(!is_end_of(Some(Head::from_bytes([8; 32])), at(7, 7)) && !is_end_of(None, at(7, 7)));
}

#[test]
fn a_page_has_one_source() {
    let request = |cursor, avoid_snapshot| {
        let mut request = page_request(stream_of(1, 1), 1, cursor, 100);
        request.avoid_snapshot = avoid_snapshot;
        request
    };
    let source = |cursor, avoid| log::page(Some(&stream()), Some(&device()), &request(cursor, avoid));
    assert_eq!(source(Cursor::START, false), Source::NewestSnapshot);
    assert_eq!(source(Cursor::START, true), Source::CompactedToOldest);
    assert_eq!(source(Cursor::at(at(3, 3)), false), Source::CompactedToNewest);
    assert_eq!(source(Cursor::at(at(4, 4)), false), Source::Log);
    let whole = StreamState {
        base: None,
        snapshot_seq: 0,
        ..stream()
    };
    let begin = request(Cursor::START, false);
    assert_eq!(log::page(Some(&whole), Some(&device()), &begin), Source::Log);
    let revoked = DeviceState {
        revoked: true,
        ..device()
    };
    let asked = request(Cursor::START, false);
    for (device, answer) in [
        (None, PageRead::DeviceNotFound),
        (Some(&revoked), PageRead::DeviceRevoked),
    ] {
        assert_eq!(log::page(Some(&stream()), device, &asked), Source::Answer(answer));
    }
}

#[test]
fn only_a_cursor_on_the_chain_is_reached() {
    let mut request = page_request(stream_of(1, 1), 1, Cursor::at(at(6, 6)), 100);
    assert_eq!(log::reached(&stream(), &device(), &request, true), Some(6));
    assert_eq!(log::reached(&stream(), &device(), &request, false), None);
    request.ahead = true;
    assert_eq!(log::reached(&stream(), &device(), &request, true), None);
    request.now = NOW + LAST_SEEN_SECONDS;
    assert_eq!(log::reached(&stream(), &device(), &request, true), None);
    request.now += 1;
    assert_eq!(log::reached(&stream(), &device(), &request, true), Some(0));
    let passed = DeviceState {
        pulled_seq: 6,
        ..device()
    };
    request = page_request(stream_of(1, 1), 1, Cursor::at(at(6, 6)), 100);
    assert_eq!(log::reached(&stream(), &passed, &request, true), None);
}

#[test]
fn a_page_has_one_batch_and_keeps_its_limits() {
    let mut size = PageSize::default();
    assert!(size.add(PAGE_ENTRIES_MAX + 1, u64::MAX, 10));
    assert!(!size.add(1, 1, 10));
    let mut size = PageSize::default();
    assert!(size.add(PAGE_ENTRIES_MAX - 1, 4, 10) && size.add(1, 6, 10) && !size.add(1, 0, 10));
    let mut size = PageSize::default();
    assert!(size.add(1, 4, 10) && !size.add(1, 7, 10));
}

#[test]
fn an_envelope_is_checked_in_order() {
    let other_key = KeyId::from_bytes([1; 16]);
    let stored = Some(Current {
        version: 3,
        key_id: other_key,
        owner: OWNER,
    });
    let mut asked = NewEnvelope {
        signed_by: None,
        ..new_envelope(stream_of(1, 1), 2)
    };
    assert_eq!(envelopes::put(stored, &asked), Put::Refuse(EnvelopeWrite::Conflict(3)));
    asked.expected_version = 3;
    assert_eq!(envelopes::put(stored, &asked), Put::Refuse(EnvelopeWrite::NotProven));
    asked.signed_by = Some(OWNER);
    assert_eq!(envelopes::put(stored, &asked), Put::Refuse(EnvelopeWrite::HeadMissing));
    asked.head = Some(at(9, 9));
    assert_eq!(envelopes::put(stored, &asked), Put::WriteAtHead(at(9, 9), None));
    asked.key_id = other_key;
    assert_eq!(envelopes::put(stored, &asked), Put::Write);
    asked.head = None;
    assert_eq!(envelopes::put(stored, &asked), Put::Write);
    // The first one is signed by the key that it names.
    let first = new_envelope(stream_of(1, 1), 0);
    assert_eq!(envelopes::put(None, &first), Put::Write);
    let named = NewEnvelope {
        owner: OwnerKey::from_bytes([3; 32]),
        ..first
    };
    assert_eq!(envelopes::put(None, &named), Put::Refuse(EnvelopeWrite::NotProven));
}

#[test]
fn only_a_kept_older_envelope_is_restored() {
    let kept = |version| Envelope {
        envelope: vec![1],
        key_id: KEY,
        version,
        owner: OWNER,
        updated_at: NOW,
    };
    let all = || vec![kept(5), kept(4)];
    let restore = |version| restored(all(), version, NOW + 1);
    assert_eq!(restore(5), Restore::Refuse(EnvelopeRestore::Current));
    assert_eq!(restore(3), Restore::Refuse(EnvelopeRestore::NotKept));
    assert_eq!(restored(Vec::new(), 0, NOW), Restore::Refuse(EnvelopeRestore::NotKept));
    let expected = Envelope {
        updated_at: NOW + 1,
        ..kept(6)
    };
    assert_eq!(restore(4), Restore::Write(expected));
}

#[test]
fn a_vault_is_written_over_its_version() {
    assert_eq!(next_vault(Some(3), 3), VersionedWrite::Written(4));
    assert_eq!(next_vault(Some(3), 4), VersionedWrite::Conflict(3));
    assert_eq!(next_vault(None, 0), VersionedWrite::Conflict(0));
}

#[test]
fn only_a_copied_refresh_secret_ends_a_session() {
    let now = NOW + REFRESH_SECONDS;
    for (counter, refreshed_at, expected) in [
        (5, NOW + 1, Refresh::Continue(6)),
        (4, NOW + 1, Refresh::Continue(5)),
        (3, NOW + 1, Refresh::End),
        (0, NOW + 1, Refresh::End),
        (6, NOW + 1, Refresh::Refuse),
        (5, NOW, Refresh::Refuse),
        (3, NOW, Refresh::Refuse),
    ] {
        assert_eq!(refresh(5, refreshed_at, counter, now), expected, "{counter}");
    }
    // Secrets count from 1: 0 was never given out.
    assert_eq!(refresh(1, NOW, 0, NOW), Refresh::End);
    assert_eq!(refresh(0, NOW, 0, NOW), Refresh::End);
}

#[test]
fn ended_secrets_are_past_the_next_one() {
    // The one before the current one counts, and so would the current one after the next refresh.
    assert_eq!(replaced(5), 7);
    assert_eq!(refresh(replaced(5), NOW, 5, NOW), Refresh::End);
    assert_eq!(replaced(u64::MAX), u64::MAX);
}

#[test]
fn login_is_remembered_twice_its_time() {
    assert_eq!(login_forgotten(NOW), NOW - 2 * CONSENT_SECONDS);
    assert_eq!(login_forgotten(1), 0);
}

fn manifest(seq: u64) -> NewSnapshot {
    NewSnapshot {
        stream: stream_of(1, 1),
        snapshot_id: SnapshotId::from_bytes([1; 16]),
        key_id: KEY,
        position: at(seq, 1),
        parts: 2,
        manifest: Bytes::new(),
        signed_by: Some(OWNER),
        room: PlanRoom::default(),
        settled_before: NOW,
        now: NOW,
    }
}

#[test]
fn a_manifest_is_checked_in_order() {
    let put = |stream: StreamState, owner, stage, snapshot| snapshots::put(&stream, owner, stage, &snapshot);
    let unfinished = Some(Stage::Unfinished);
    let bad = NewSnapshot {
        key_id: KeyId::from_bytes([1; 16]),
        signed_by: None,
        ..manifest(6)
    };
    let no_key = StreamState {
        key_id: None,
        ..stream()
    };
    let answers = [
        put(no_key, None, Some(Stage::Kept), bad.clone()),
        put(no_key, None, Some(Stage::Condemned), bad.clone()),
        put(no_key, None, unfinished, bad.clone()),
        put(stream(), Some(OWNER), unfinished, bad.clone()),
        put(stream(), Some(OWNER), unfinished, NewSnapshot { key_id: KEY, ..bad }),
        put(stream(), Some(OWNER), None, manifest(6)),
    ];
    let expected = [
        SnapshotWrite::Stored,
        SnapshotWrite::Stale,
        SnapshotWrite::NoEnvelope,
        SnapshotWrite::KeyMismatch,
        SnapshotWrite::NotProven,
        SnapshotWrite::Stale,
    ];
    assert_eq!(answers, expected.map(Some));
    assert_eq!(put(stream(), Some(OWNER), None, manifest(7)), None);
    assert!(is_complete(2, 2, Some(1)) && is_complete(0, 0, None));
    assert!(!is_complete(2, 2, Some(2)) && !is_complete(2, 1, Some(0)) && !is_complete(1, 1, Some(u32::MAX)));
}

#[test]
fn a_part_is_taken_until_its_snapshot_is_complete() {
    let put = snapshots::put_part;
    assert_eq!(put(None, None, false), Some(SnapshotPartWrite::NoEnvelope));
    assert_eq!(put(Some(KEY), None, false), None);
    assert_eq!(put(Some(KEY), Some(Stage::Unfinished), false), None);
    assert_eq!(put(Some(KEY), Some(Stage::Kept), true), Some(SnapshotPartWrite::Stored));
    assert_eq!(put(Some(KEY), Some(Stage::Kept), false), Some(SnapshotPartWrite::Stale));
    assert_eq!(
        put(Some(KEY), Some(Stage::Condemned), true),
        Some(SnapshotPartWrite::Stale)
    );
    for stage in [Stage::Unfinished, Stage::Kept, Stage::Condemned] {
        assert_eq!(Stage::parse(stage.as_str()), Some(stage));
    }
}

#[test]
fn at_most_four_snapshots_stay_and_one_settles() {
    let kept: Vec<Kept> = (1..=8)
        .map(|n| Kept {
            key: n,
            seq: n.unsigned_abs() * 10,
            at: n.unsigned_abs() * 100,
        })
        .collect();
    // 2 carries the base, 4 has settled, 5 has not, 8 is the newest.
    assert_eq!(prune(&kept, 25, 450), [1, 3, 6, 7]);
    // One that settles in this very second has settled.
    assert_eq!(prune(&kept, 25, 400), [1, 3, 6, 7]);
    assert_eq!(prune(&kept[..1], 0, 0), [0; 0]);
    assert_eq!(prune(&[], 0, 0), [0; 0]);
}

#[test]
fn an_active_device_holds_the_log() {
    let ages = Retention {
        settled_before: 100,
        active_since: 50,
        unfinished_before: 0,
        ended_until: 0,
        now: 0,
    };
    let candidate = Candidate {
        seq: 7,
        at: 100,
        base_seq: 0,
    };
    let reader = |last_seen_at, pulled_seq| Reader {
        last_seen_at,
        pulled_seq,
    };
    assert!(may_cut(&candidate, &[reader(51, 7), reader(50, 0)], &ages));
    assert!(!may_cut(&candidate, &[reader(51, 7), reader(51, 6)], &ages));
    assert!(!may_cut(&Candidate { at: 101, ..candidate }, &[], &ages));
    assert!(!may_cut(
        &Candidate {
            base_seq: 7,
            ..candidate
        },
        &[],
        &ages
    ));
}

#[test]
fn a_step_ends_at_a_batch_or_at_the_base() {
    let small = |end| Below { end, sealed_bytes: 10 };
    let full: Vec<Below> = (1..=u64::from(STEP_BATCHES)).map(small).collect();
    assert_eq!(step(1000, &full), (full.len(), u64::from(STEP_BATCHES)));
    assert_eq!(step(1000, &full[1..]), (full.len() - 1, 1000));
    assert_eq!(step(1000, &[]), (0, 1000));
    let half = |end| Below {
        end,
        sealed_bytes: STEP_BYTES / 2,
    };
    let larger = Below {
        end: 7,
        sealed_bytes: STEP_BYTES + 1,
    };
    assert_eq!(step(1000, &[half(5), half(6), small(7)]), (2, 6));
    assert_eq!(step(1000, &[half(5), half(6)]), (2, 1000));
    assert_eq!(step(1000, &[larger, small(8)]), (1, 7));
    assert_eq!(step(1000, &[larger]), (1, 1000));
    assert_eq!(step(1000, &[small(5), larger]), (1, 5));
}

/// A device of this installation; 0 is none.
fn named(key: u8, name: &str, installation: u8) -> Named<u8> {
    Named {
        key,
        name: name.to_owned(),
        installation_id: installation_id(installation),
    }
}

fn installation_id(n: u8) -> Option<InstallationId> {
    (n > 0).then(|| InstallationId::from_bytes([n; 16]))
}

#[test]
fn installation_has_one_device_whatever_its_name() {
    let devices = [named(1, "laptop", 1), named(2, "phone", 2), named(3, "tablet", 0)];
    let place = |name, installation| devices::place(name, installation_id(installation), &devices);
    let new = |name: &str| devices::Place::New(name.to_owned());
    assert_eq!(place("laptop", 2), devices::Place::Found(2));
    assert_eq!(place("desk", 3), new("desk"));
    // Without an installation, a name means the device of that name that has none either.
    assert_eq!(place("tablet", 0), devices::Place::Found(3));
    assert_eq!(place("tablet", 3), new("tablet (2)"));
    assert_eq!(place("laptop", 0), new("laptop (2)"));
    assert_eq!(place("desk", 0), new("desk"));
}

#[test]
fn taken_device_name_gets_the_next_free_number() {
    let mut devices = vec![named(1, "laptop", 1), named(2, "laptop (2)", 2)];
    let third = devices::place("laptop", installation_id(3), &devices);
    assert_eq!(third, devices::Place::New("laptop (3)".to_owned()));
    devices[1].installation_id = None;
    assert_eq!(devices::place("laptop", None, &devices), devices::Place::Found(2));
}

#[test]
fn numbered_device_name_is_cut_at_a_character() {
    for (name, kept) in [
        ("n".repeat(DEVICE_NAME_BYTES_MAX), DEVICE_NAME_BYTES_MAX - 4),
        // Two bytes each, from an odd beginning: the limit is inside one of them.
        (
            format!("n{}", "é".repeat(DEVICE_NAME_BYTES_MAX / 2 - 1)),
            DEVICE_NAME_BYTES_MAX - 5,
        ),
        // No space is left before the number.
        (
            format!("{}   end", "n".repeat(DEVICE_NAME_BYTES_MAX - 6)),
            DEVICE_NAME_BYTES_MAX - 6,
        ),
    ] {
        let taken = [named(1, &name, 1)];
        let devices::Place::New(new) = devices::place(&name, installation_id(2), &taken) else {
            panic!("{name}");
        };
        assert_eq!(new, format!("{} (2)", &name[..kept]));
        assert!(new.len() <= DEVICE_NAME_BYTES_MAX);
    }
}

#[test]
fn limits_of_an_app_hold_to_the_byte() {
    let room = |app_is_full, user_bytes_max| PlanRoom {
        app_is_full,
        user_bytes_max,
    };
    assert_eq!(PlanRoom::default().exceeded(u64::MAX, u64::MAX), None);
    assert_eq!(room(true, Some(100)).exceeded(0, 1), Some(Quota::AppStorage));
    let limited = room(false, Some(100));
    assert_eq!(limited.exceeded(90, 10), None);
    assert_eq!(limited.exceeded(90, 11), Some(Quota::UserStorage));
    assert_eq!(limited.exceeded(u64::MAX, u64::MAX), Some(Quota::UserStorage));
    // Snapshots make room; files leave one byte in 64, and at most 16 MiB.
    assert_eq!(limited.for_snapshots().exceeded(190, 10), None);
    assert_eq!(limited.for_snapshots().exceeded(190, 11), Some(Quota::UserStorage));
    assert_eq!(limited.for_files().exceeded(90, 9), None);
    assert_eq!(limited.for_files().exceeded(90, 10), Some(Quota::UserStorage));
    let large = room(false, Some(100 << 30)).for_files();
    assert_eq!(large.user_bytes_max, Some((100 << 30) - RESERVE_BYTES_MAX));
    assert_eq!(room(true, None).for_files().exceeded(0, 1), Some(Quota::AppStorage));
}

#[test]
fn quotas_hold_to_the_byte_and_to_the_piece() {
    let quotas = Quotas {
        bytes: 100,
        blobs: 3,
        pending_uploads: 2,
        sessions: 5,
        revoked_devices: 1,
    };
    assert_eq!(quotas::batch(&quotas, 90, 10), None);
    assert_eq!(quotas::batch(&quotas, 90, 11), Some(Quota::Bytes));
    assert_eq!(quotas::batch(&quotas, u64::MAX, u64::MAX), Some(Quota::Bytes));
    assert_eq!(quotas::snapshot_part(&quotas, 190, 10), None);
    assert_eq!(quotas::snapshot_part(&quotas, 190, 11), Some(Quota::Bytes));
    let usage = |stored_bytes, pending_bytes, blobs, pending_uploads| Usage {
        stored_bytes,
        pending_bytes,
        blobs,
        pending_uploads,
    };
    // Files leave one byte in 64, and at most 16 MiB.
    assert_eq!(quotas::upload(&quotas, &usage(50, 40, 1, 1), 9), None);
    assert_eq!(quotas::upload(&quotas, &usage(50, 40, 1, 1), 10), Some(Quota::Bytes));
    let large = Quotas {
        bytes: 1 << 40,
        ..quotas
    };
    assert_eq!(quotas::for_files(&large).bytes, (1 << 40) - (16 << 20));
    // What a snapshot replaced does not count, up to as much again.
    let beside = |taken, replaced| quotas::beside_replaced(&quotas, taken, replaced, 10);
    assert_eq!((beside(150, 60), beside(151, 60)), (None, Some(Quota::Bytes)));
    assert_eq!((beside(190, 190), beside(191, 191)), (None, Some(Quota::Bytes)));
    assert_eq!(beside(91, u64::MAX), None);
    assert_eq!(quotas::upload(&quotas, &usage(50, 40, 1, 1), 11), Some(Quota::Bytes));
    assert_eq!(quotas::upload(&quotas, &usage(0, 0, 2, 1), 1), Some(Quota::Blobs));
    assert_eq!(
        quotas::upload(&quotas, &usage(0, 0, 0, 2), 1),
        Some(Quota::PendingUploads)
    );
    assert_eq!(
        (quotas::device(&quotas, 0), quotas::device(&quotas, 1)),
        (None, Some(Quota::RevokedDevices))
    );
    assert_eq!(sessions_beside_new(&quotas), 4);
    let names = [Quota::Bytes, Quota::Blobs, Quota::PendingUploads, Quota::RevokedDevices].map(Quota::as_str);
    assert_eq!(names, ["bytes", "blobs", "pending_uploads", "revoked_devices"]);
}

#[test]
fn sessions_of_pages_and_apps_end_apart() {
    let now = 400 * 24 * 3600;
    assert_eq!(expired(PAGES_APP, now), now - PAGE_SESSION_SECONDS);
    assert_eq!(expired(AppId::from_bytes([1; 16]), now), now - REFRESH_SECONDS);
    assert_eq!(oldest(now), now - REFRESH_SECONDS);
    assert_eq!((expired(PAGES_APP, 5), oldest(5)), (0, 0));
}
