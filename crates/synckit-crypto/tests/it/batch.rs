//! Sealed batches: what comes back, what is refused, and where a batch ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use synckit_crypto::{
    KeyRing, OpenError, StreamKeys,
    batch::{BatchBody, BatchContext, ChangeEntry, ChangeOp, EncodeErrorKind, Timestamp},
    snapshot::PartBody,
};
use synckit_protocol::{
    BatchId, DeviceId, KeyId,
    limits::{BATCH_PLAINTEXT_BYTES_MAX, ENTRY_BYTES_MAX, SEAL_OVERHEAD_BYTES},
};

use crate::{
    fixtures::{OTHER_SCOPES, SCOPE, context, entries, entry, position},
    rng::VectorRng,
};

fn keys(rng: &mut VectorRng) -> StreamKeys {
    KeyRing::generate(&SCOPE, rng).current().subkeys(&SCOPE)
}

#[test]
fn sealed_batch_opens_to_the_same_entries() {
    let mut rng = VectorRng::new("batch");
    let keys = keys(&mut rng);
    let body = BatchBody::encode(&entries()).unwrap();
    let sealed = keys.batch.seal(&keys.key_id, &context(), &body, &mut rng);
    assert_eq!(sealed.len(), body.plaintext_len() + SEAL_OVERHEAD_BYTES);
    let opened = keys
        .batch
        .open(&keys.key_id, &context(), body.count(), &sealed)
        .unwrap();
    assert_eq!(opened, entries());
    assert_eq!(opened[2].data, None);
    assert_eq!(opened[3].data, Some(Value::Null));
    let negative_zero = opened[4].data.as_ref().unwrap()[2].as_f64().unwrap();
    assert!(negative_zero == 0.0 && negative_zero.is_sign_negative());
}

#[test]
fn resealed_body_has_a_fresh_nonce() {
    let mut rng = VectorRng::new("batch");
    let keys = keys(&mut rng);
    let body = BatchBody::encode(&entries()).unwrap();
    let moved = BatchContext {
        parent: position(42),
        ..context()
    };
    let first = keys.batch.seal(&keys.key_id, &context(), &body, &mut rng);
    let second = keys.batch.seal(&keys.key_id, &moved, &body, &mut rng);
    assert_ne!(first[..24], second[..24]);
    assert_eq!(keys.batch.open(&keys.key_id, &moved, 6, &second).unwrap(), entries());
    assert_eq!(
        keys.batch.open(&keys.key_id, &context(), 6, &second),
        Err(OpenError::Authentication)
    );
}

#[test]
fn batch_opens_nowhere_but_in_its_place() {
    let mut rng = VectorRng::new("batch");
    let keys = keys(&mut rng);
    let body = BatchBody::encode(&entries()).unwrap();
    let sealed = keys.batch.seal(&keys.key_id, &context(), &body, &mut rng);
    let mut places = vec![
        BatchContext {
            device_id: DeviceId::from_bytes([0; 16]),
            ..context()
        },
        BatchContext {
            batch_id: BatchId::from_bytes([0; 16]),
            ..context()
        },
        BatchContext {
            parent: synckit_protocol::Position {
                seq: 42,
                ..context().parent
            },
            ..context()
        },
        BatchContext {
            parent: synckit_protocol::Position {
                seq: 41,
                ..position(42)
            },
            ..context()
        },
    ];
    places.extend(OTHER_SCOPES.map(|scope| BatchContext { scope, ..context() }));
    for place in places {
        let error = keys.batch.open(&keys.key_id, &place, 6, &sealed);
        assert_eq!(error, Err(OpenError::Authentication), "{place:?}");
    }
    let other_id = KeyId::from_bytes([0; 16]);
    assert_eq!(
        keys.batch.open(&other_id, &context(), 6, &sealed),
        Err(OpenError::Authentication)
    );
    for count in [0, 5, 7, u32::MAX] {
        assert_eq!(
            keys.batch.open(&keys.key_id, &context(), count, &sealed),
            Err(OpenError::Authentication)
        );
    }
    let other = KeyRing::generate(&SCOPE, &mut rng).current().subkeys(&SCOPE);
    assert_eq!(
        other.batch.open(&keys.key_id, &context(), 6, &sealed),
        Err(OpenError::Authentication)
    );
}

#[test]
fn every_changed_bit_and_missing_byte_is_noticed() {
    let mut rng = VectorRng::new("batch");
    let keys = keys(&mut rng);
    let body = BatchBody::encode(&entries()).unwrap();
    let sealed = keys.batch.seal(&keys.key_id, &context(), &body, &mut rng);
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = keys.batch.open(&keys.key_id, &context(), 6, &changed);
        assert_eq!(error, Err(OpenError::Authentication), "bit {bit}");
    }
    for len in 0..sealed.len() {
        let error = keys.batch.open(&keys.key_id, &context(), 6, &sealed[..len]);
        assert_eq!(error, Err(OpenError::Authentication), "{len} bytes");
    }
}

#[test]
fn count_beside_an_honest_seal_must_be_right() {
    let mut rng = VectorRng::new("batch");
    let keys = keys(&mut rng);
    let body = BatchBody::encode(&entries()).unwrap();
    let error = BatchBody::decode(body.plaintext(), 5);
    assert!(matches!(error, Err(OpenError::Malformed { .. })));
    let sealed = keys.batch.seal(&keys.key_id, &context(), &body, &mut rng);
    assert!(keys.batch.open(&keys.key_id, &context(), 6, &sealed).is_ok());
}

#[test]
fn prefix_ends_at_500_entries() {
    let many: Vec<_> = (0..501).map(|row| entry(&row.to_string(), None)).collect();
    let (taken, body) = BatchBody::encode_prefix(&many).unwrap();
    assert_eq!((taken, body.count()), (500, 500));
    let error = BatchBody::encode(&many).unwrap_err();
    assert_eq!((error.index, error.kind), (500, EncodeErrorKind::BatchTooLarge));
    let (taken, body) = BatchBody::encode_prefix(&many[500..]).unwrap();
    assert_eq!((taken, body.count()), (1, 1));
}

/// A part of a snapshot has the same encoding, and may hold more entries.
#[test]
fn batch_of_501_entries_is_refused() {
    let many: Vec<_> = (0..501).map(|row| entry(&row.to_string(), None)).collect();
    let (taken, part) = PartBody::encode_prefix(&many).unwrap();
    assert_eq!(taken, 501);
    assert_eq!(PartBody::decode(part.plaintext()).unwrap(), many);
    for count in [0, 500, 501] {
        let error = BatchBody::decode(part.plaintext(), count);
        assert!(matches!(error, Err(OpenError::Malformed { .. })), "{count}");
    }
    let full = BatchBody::encode(&many[..500]).unwrap();
    assert_eq!(BatchBody::decode(full.plaintext(), 500).unwrap(), many[..500]);
}

#[test]
fn prefix_ends_at_4_mib_without_a_trace_of_the_rest() {
    let large = |row: &str, field: &str| entry(row, Some(json!({field: "x".repeat(1_000_000)})));
    let entries: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(|row| large(row, row)).to_vec();
    let (taken, body) = BatchBody::encode_prefix(&entries).unwrap();
    assert_eq!(taken, 4);
    assert!(body.plaintext_len() <= BATCH_PLAINTEXT_BYTES_MAX);
    // The field name of the fifth entry is not left behind among the names.
    assert_eq!(body, BatchBody::encode(&entries[..4]).unwrap());
    assert_eq!(BatchBody::decode(body.plaintext(), 4).unwrap(), entries[..4]);
    assert_eq!(BatchBody::encode_prefix(&entries[4..]).unwrap().0, 2);
}

#[test]
fn batch_of_exactly_4_mib_is_taken() {
    let with = |row: &str, len: usize| entry(row, Some(Value::String("x".repeat(len))));
    // The frame is 5 bytes; names and the heads of the body are 9; each entry is 19 bytes and its text.
    let rest = BATCH_PLAINTEXT_BYTES_MAX - 5 - 9 - 2 * 19;
    let entries = |rest: usize| [with("r", 3_000_000), with("s", rest - 3_000_000)];
    let full = BatchBody::encode(&entries(rest)).unwrap();
    assert_eq!(full.plaintext_len(), BATCH_PLAINTEXT_BYTES_MAX);
    let body_len = u32::from_be_bytes(full.plaintext()[1..5].try_into().unwrap()) as usize;
    assert_eq!(body_len, BATCH_PLAINTEXT_BYTES_MAX - 5, "no padding at all");
    assert_eq!(BatchBody::decode(full.plaintext(), 2).unwrap(), entries(rest));
    let error = BatchBody::encode(&entries(rest + 1)).unwrap_err();
    assert_eq!((error.index, error.kind), (1, EncodeErrorKind::BatchTooLarge));
}

#[test]
fn entry_of_3_mib_fits_and_one_byte_more_does_not() {
    let with = |len: usize| entry("r", Some(Value::String("x".repeat(len))));
    // 5 parts, index, op, "r", timestamp, text of four length bytes; and the name "notes".
    let around = 1 + 1 + 1 + 2 + 9 + 5 + 6;
    let (taken, body) = BatchBody::encode_prefix(&[with(ENTRY_BYTES_MAX - around), entry("s", None)]).unwrap();
    assert_eq!(taken, 2);
    assert!(body.plaintext_len() <= BATCH_PLAINTEXT_BYTES_MAX);
    assert!(PartBody::row_len_max(&with(ENTRY_BYTES_MAX - around)).is_ok());
    let error = PartBody::row_len_max(&with(ENTRY_BYTES_MAX - around + 1)).unwrap_err();
    assert_eq!(error, EncodeErrorKind::EntryTooLarge);
    let error = BatchBody::encode_prefix(&[entry("s", None), with(ENTRY_BYTES_MAX - around + 1)]).unwrap_err();
    assert_eq!((error.index, error.kind), (1, EncodeErrorKind::EntryTooLarge));
    let long_name = entry("r", Some(json!({"n".repeat(ENTRY_BYTES_MAX): 1})));
    assert_eq!(PartBody::row_len_max(&long_name), Err(EncodeErrorKind::EntryTooLarge));
    let error = BatchBody::encode(&[long_name]).unwrap_err();
    assert_eq!((error.index, error.kind), (0, EncodeErrorKind::EntryTooLarge));
}

#[test]
fn empty_push_is_refused() {
    let error = BatchBody::encode_prefix(&[]).unwrap_err();
    assert_eq!((error.index, error.kind), (0, EncodeErrorKind::NoEntries));
}

#[test]
fn data_is_nested_128_deep_and_not_deeper() {
    let nested = |depth: usize| {
        let mut value = json!(1);
        for level in 0..depth {
            value = if level % 2 == 0 {
                json!([value])
            } else {
                json!({"k": value})
            };
        }
        entry("r", Some(value))
    };
    // An even depth has an object at its top, an odd one an array.
    for depth in [127, 128] {
        let deep = [nested(depth)];
        let body = BatchBody::encode(&deep).unwrap();
        assert_eq!(BatchBody::decode(body.plaintext(), 1).unwrap(), deep);
    }
    for depth in [129, 130] {
        let error = BatchBody::encode(&[entry("s", None), nested(depth)]).unwrap_err();
        assert_eq!((error.index, error.kind), (1, EncodeErrorKind::TooDeep));
    }
}

#[test]
fn size_of_a_usual_row_stays_near_its_data() {
    let rows: Vec<_> = (0..500)
        .map(|row| {
            let id = format!("0190c2a4-7d1e-7f00-8a00-{row:012x}");
            let text = "x".repeat(120);
            entry(
                &id,
                Some(json!({"title": "A title of a note", "body": text, "done": true, "rank": row, "list": 7})),
            )
        })
        .collect();
    let body = BatchBody::encode(&rows).unwrap();
    assert!(
        body.plaintext_len() / 500 < 200,
        "{} bytes a row",
        body.plaintext_len() / 500
    );
}

#[test]
fn system_time_and_timestamp_convert_both_ways() {
    let time = UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
    assert_eq!(Timestamp::from(time).as_micros(), 1_700_000_000_123_456);
    assert_eq!(SystemTime::try_from(Timestamp::from(time)).unwrap(), time);
    for (nanos, micros) in [(1500, -2), (2000, -2), (999, -1), (1_000_000_000, -1_000_000)] {
        let before = UNIX_EPOCH - Duration::from_nanos(nanos);
        assert_eq!(Timestamp::from(before).as_micros(), micros, "{nanos} ns");
    }
    let time = SystemTime::try_from(Timestamp::from_micros(-2)).unwrap();
    assert_eq!(time, UNIX_EPOCH - Duration::from_micros(2));
}

#[test]
fn json_form_of_an_entry_keeps_null_apart_from_absent() {
    let null = entry("r", Some(Value::Null));
    let absent = ChangeEntry {
        op: ChangeOp::Delete,
        ..entry("r", None)
    };
    let expected =
        json!({"table": "notes", "op": "update", "row_id": "r", "timestamp": 1_700_000_000_000_000_i64, "data": null});
    assert_eq!(serde_json::to_value(&null).unwrap(), expected);
    for entry in [null, absent] {
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<ChangeEntry>(&text).unwrap(), entry);
    }
}

#[test]
fn body_is_redacted_in_debug() {
    let body = BatchBody::encode(&entries()).unwrap();
    let text = format!("{body:?}");
    assert!(text.contains("count: 6") && !text.contains("plaintext:"), "{text}");
}
