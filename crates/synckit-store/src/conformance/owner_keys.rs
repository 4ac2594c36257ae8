//! Owner keys: required to replace an envelope and to complete a snapshot; and the envelopes that an operator may
//! restore.

use crate::{
    EnvelopeRestore, EnvelopeWrite, NewEnvelope, NewSnapshot, SnapshotWrite, Store, StreamId, rules::quotas::PlanRoom,
};
use bytes::Bytes;
use synckit_protocol::{KeyId, OwnerKey, Position, SnapshotId};

use crate::conformance::fixture::{
    KEY, NOW, OWNER, append_all, create_stream, end_of, id16, new_envelope, ready_stream, start, stream_of,
};

fn owner(n: u8) -> OwnerKey {
    OwnerKey::from_bytes([n; 32])
}

pub async fn only_the_owner_key_replaces_an_envelope(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let put = async |expected_version, signed_by, named| {
        let envelope = NewEnvelope {
            owner: named,
            signed_by,
            ..new_envelope(stream, expected_version)
        };
        store.put_envelope(envelope).await.unwrap()
    };
    let (first, second) = (owner(1), owner(2));
    assert_eq!(put(0, None, first).await, EnvelopeWrite::NotProven);
    assert_eq!(put(0, Some(second), first).await, EnvelopeWrite::NotProven);
    assert_eq!(store.envelope(stream).await.unwrap(), None);
    assert_eq!(put(0, Some(first), first).await, EnvelopeWrite::Written(1));
    assert_eq!(store.envelope(stream).await.unwrap().unwrap().owner, first);

    for signed_by in [None, Some(second)] {
        assert_eq!(put(1, signed_by, second).await, EnvelopeWrite::NotProven);
    }
    assert_eq!(put(1, Some(first), second).await, EnvelopeWrite::Written(2));
    // The key that was replaced writes nothing more, not even itself.
    assert_eq!(put(2, Some(first), first).await, EnvelopeWrite::NotProven);
    assert_eq!(put(2, Some(second), second).await, EnvelopeWrite::Written(3));
    // A client that repeats a write whose answer was lost gets a conflict, whatever the present owner key.
    assert_eq!(put(1, Some(first), second).await, EnvelopeWrite::Conflict(3));
    // A change of the master key needs the proof before its head is checked.
    let elsewhere = NewEnvelope {
        key_id: KeyId::from_bytes([1; 16]),
        signed_by: Some(first),
        owner: first,
        ..new_envelope(stream, 3)
    };
    assert_eq!(store.put_envelope(elsewhere).await.unwrap(), EnvelopeWrite::NotProven);
}

fn manifest(stream: StreamId, n: u64, position: Position, signed_by: Option<OwnerKey>) -> NewSnapshot {
    NewSnapshot {
        stream,
        snapshot_id: SnapshotId::from_bytes(id16(n)),
        key_id: KEY,
        position,
        parts: 0,
        manifest: Bytes::from_static(b"a sealed manifest"),
        signed_by,
        room: PlanRoom::default(),
        settled_before: 0,
        now: NOW,
    }
}

pub async fn only_the_current_owner_key_completes_a_snapshot(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[2, 3]).await;
    let (middle, end) = (end_of(&batches[0]), end_of(&batches[1]));
    let put = async |snapshot| store.put_snapshot(snapshot).await.unwrap();
    for signed_by in [None, Some(owner(9))] {
        assert_eq!(
            put(manifest(stream, 1, middle, signed_by)).await,
            SnapshotWrite::NotProven
        );
    }
    assert_eq!(store.status(stream).await.unwrap().snapshot, None);
    assert_eq!(
        put(manifest(stream, 1, middle, Some(OWNER))).await,
        SnapshotWrite::Stored
    );

    let next = NewEnvelope {
        key_id: KeyId::from_bytes([1; 16]),
        head: Some(end),
        snapshot: Some(SnapshotId::from_bytes(id16(1))),
        owner: owner(2),
        ..new_envelope(stream, 1)
    };
    assert_eq!(store.put_envelope(next).await.unwrap(), EnvelopeWrite::Written(2));
    // The first answer is repeated, even to a request signed with the earlier key.
    assert_eq!(put(manifest(stream, 1, middle, None)).await, SnapshotWrite::Stored);
    let under_the_new_key = |signed_by| NewSnapshot {
        key_id: KeyId::from_bytes([1; 16]),
        ..manifest(stream, 2, end, signed_by)
    };
    assert_eq!(
        put(manifest(stream, 2, end, Some(OWNER))).await,
        SnapshotWrite::KeyMismatch
    );
    assert_eq!(put(under_the_new_key(Some(OWNER))).await, SnapshotWrite::NotProven);
    assert_eq!(put(under_the_new_key(Some(owner(2)))).await, SnapshotWrite::Stored);
}

pub async fn a_kept_envelope_is_put_back_with_its_owner_key(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    for version in 0..12_u8 {
        let envelope = NewEnvelope {
            key_id: KeyId::from_bytes([version + 1; 16]),
            head: Some(start(stream)),
            owner: owner(version + 1),
            signed_by: Some(owner(version.max(1))),
            ..new_envelope(stream, version.into())
        };
        let written = store.put_envelope(envelope).await.unwrap();
        assert_eq!(written, EnvelopeWrite::Written(u64::from(version) + 1));
    }
    let versions = async |stream| {
        let kept = store.envelopes(stream).await.unwrap();
        kept.iter().map(|envelope| envelope.version).collect::<Vec<_>>()
    };
    assert_eq!(versions(stream).await, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]);
    let restore = async |stream, version| store.restore_envelope(stream, version, NOW + 1).await.unwrap();
    for gone in [0, 1, 2, 13] {
        assert_eq!(restore(stream, gone).await, EnvelopeRestore::NotKept);
    }
    assert_eq!(restore(stream, 12).await, EnvelopeRestore::Current);
    let before = store.envelopes(stream).await.unwrap().swap_remove(7);
    assert_eq!(restore(stream, 5).await, EnvelopeRestore::Restored(13));
    assert_eq!(versions(stream).await, [13, 12, 11, 10, 9, 8, 7, 6, 5, 4]);
    let current = store.envelope(stream).await.unwrap().unwrap();
    assert_eq!((current.version, current.updated_at), (13, NOW + 1));
    assert_eq!(
        (current.envelope, current.key_id, current.owner),
        (before.envelope, KeyId::from_bytes([5; 16]), owner(5))
    );
    let next = |signed_by| NewEnvelope {
        key_id: KeyId::from_bytes([5; 16]),
        signed_by: Some(signed_by),
        ..new_envelope(stream, 13)
    };
    assert_eq!(
        store.put_envelope(next(owner(12))).await.unwrap(),
        EnvelopeWrite::NotProven
    );
    assert_eq!(
        store.put_envelope(next(owner(5))).await.unwrap(),
        EnvelopeWrite::Written(14)
    );
    // Another stream has envelopes of its own, or none.
    let other = ready_stream(store, 2).await;
    assert_eq!(restore(other, 5).await, EnvelopeRestore::NotKept);
    assert_eq!(restore(stream_of(9, 9), 1).await, EnvelopeRestore::NotKept);
    assert_eq!(versions(stream_of(9, 9)).await, [0; 0]);
}
