//! Properties of everything that can be sealed: it comes back, it has one encoding, and no change goes unnoticed.

use proptest::{collection, option, prelude::*, sample};
use serde_json::{Map, Number, Value};
use synckit_crypto::{
    AccountKey, Envelope, KeyRing, RecoveryCode,
    batch::{BatchBody, BatchContext, ChangeEntry, ChangeOp, EncodeErrorKind, Timestamp},
    snapshot::PartBody,
};
use synckit_protocol::{BatchId, DeviceId, Head, Position};

use crate::{
    fixtures::{SCOPE, edition, ending},
    rng::VectorRng,
};

fn name() -> impl Strategy<Value = String> {
    // Few enough that entries share names, and strange enough to matter for their order.
    prop_oneof![
        sample::select(vec![
            "id",
            "title",
            "body",
            "a",
            "b",
            "aa",
            "z",
            "\u{e9}",
            "",
            "\u{1f600}"
        ])
        .prop_map(str::to_owned),
        "\\PC{0,30}",
    ]
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<u64>().prop_map(Number::from),
        any::<i64>().prop_map(Number::from),
        any::<f64>().prop_filter_map("finite", Number::from_f64),
        (-300_i64..300).prop_map(Number::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number().prop_map(Value::Number),
        "\\PC{0,40}".prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            collection::vec((name(), inner), 0..8).prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

fn row_id() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9A-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9a-f]{32}",
        "\\PC{0,40}",
    ]
}

fn change() -> impl Strategy<Value = ChangeEntry> {
    let op = sample::select(vec![ChangeOp::Insert, ChangeOp::Update, ChangeOp::Delete]);
    (name(), op, row_id(), any::<i64>(), option::of(value())).prop_map(|(table, op, row_id, micros, data)| {
        ChangeEntry {
            table,
            op,
            row_id,
            timestamp: Timestamp::from_micros(micros),
            data,
        }
    })
}

fn changes() -> impl Strategy<Value = Vec<ChangeEntry>> {
    collection::vec(change(), 1..40)
}

fn context() -> impl Strategy<Value = BatchContext> {
    (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u64>(), any::<[u8; 32]>()).prop_map(|(device, batch, seq, head)| {
        BatchContext {
            scope: SCOPE,
            device_id: DeviceId::from_bytes(device),
            batch_id: BatchId::from_bytes(batch),
            parent: Position {
                seq,
                head: Head::from_bytes(head),
            },
        }
    })
}

/// A value inside arrays and objects, around the limit of their nesting.
fn nested() -> impl Strategy<Value = Value> {
    let levels = prop_oneof![0..4_usize, 124..133_usize];
    let innermost = prop_oneof![
        Just(Value::Null),
        Just(Value::Array(Vec::new())),
        Just(Value::Object(Map::new()))
    ];
    (innermost, levels).prop_flat_map(|(innermost, levels)| {
        collection::vec(option::of(name()), levels).prop_map(move |around| {
            around.into_iter().fold(innermost.clone(), |value, key| match key {
                None => Value::Array(vec![value]),
                Some(key) => Value::Object(Map::from_iter([(key, value)])),
            })
        })
    })
}

proptest! {
    #[test]
    fn deep_data_is_refused_or_comes_back(entry in change(), data in nested()) {
        let entries = [ChangeEntry { data: Some(data.clone()), ..entry }];
        // Every array and object counts, an empty one too.
        let levels = std::iter::successors(Some(&data), |value| match value {
            Value::Array(items) => items.first(),
            Value::Object(fields) => fields.values().next(),
            _ => None,
        });
        let depth = levels.filter(|value| value.is_array() || value.is_object()).count();
        match BatchBody::encode(&entries) {
            Ok(body) => {
                prop_assert!(depth <= 128);
                prop_assert_eq!(&BatchBody::decode(body.plaintext(), 1).unwrap(), &entries);
            }
            Err(error) => {
                prop_assert_eq!(error.kind, EncodeErrorKind::TooDeep);
                prop_assert!(depth > 128);
            }
        }
    }

    #[test]
    fn body_comes_back_and_has_one_encoding(entries in changes()) {
        let body = BatchBody::encode(&entries).unwrap();
        let decoded = BatchBody::decode(body.plaintext(), body.count()).unwrap();
        prop_assert_eq!(&decoded, &entries);
        prop_assert_eq!(&BatchBody::encode(&decoded).unwrap(), &body);
        let (rows, part) = PartBody::encode_prefix(&entries).unwrap();
        prop_assert_eq!(rows, entries.len());
        prop_assert_eq!(PartBody::decode(part.plaintext()).unwrap(), entries);
    }

    #[test]
    fn changed_plaintext_is_refused_or_another_value(
        entries in changes(), at in any::<sample::Index>(), bit in 0..8_u32,
    ) {
        let body = BatchBody::encode(&entries).unwrap();
        let mut changed = body.plaintext().to_vec();
        changed[at.index(body.plaintext_len())] ^= 1 << bit;
        if let Ok(decoded) = BatchBody::decode(&changed, body.count()) {
            // Two encodings of one value would differ here and still decode alike.
            let again = BatchBody::encode(&decoded).unwrap();
            prop_assert_eq!(again.plaintext(), changed.as_slice());
        }
    }

    #[test]
    fn sealed_batch_comes_back_and_a_change_is_noticed(
        entries in changes(), context in context(), at in any::<sample::Index>(), flip in 1..=255_u8, seed in any::<u64>(),
    ) {
        let mut rng = VectorRng::new(&seed.to_string());
        let keys = KeyRing::generate(&SCOPE, &mut rng).current().subkeys(&SCOPE);
        let body = BatchBody::encode(&entries).unwrap();
        let sealed = keys.batch.seal(&keys.key_id, &context, &body, &mut rng);
        let opened = keys.batch.open(&keys.key_id, &context, body.count(), &sealed).unwrap();
        prop_assert_eq!(&opened, &entries);
        let mut changed = sealed;
        let at = at.index(changed.len());
        changed[at] ^= flip;
        prop_assert!(keys.batch.open(&keys.key_id, &context, body.count(), &changed).is_err());
    }

    #[test]
    fn ring_comes_back_from_envelope_and_keychain(steps in collection::vec(0..1000_u64, 0..=24), seed in any::<u64>()) {
        let mut rng = VectorRng::new(&seed.to_string());
        let mut ring = KeyRing::generate(&SCOPE, &mut rng);
        let mut until = ring.floor();
        for step in steps {
            if step > 0 {
                until = Position { seq: until.seq + step, head: Head::from_bytes([step as u8; 32]) };
            }
            ring = ring.rotate(&SCOPE, ending(until), &mut rng).unwrap();
        }
        prop_assert_eq!(&KeyRing::from_secret_bytes(&SCOPE, &ring.to_secret_bytes()).unwrap(), &ring);
        let account_key = AccountKey::generate(&mut rng);
        let envelope = Envelope::seal(&SCOPE, &account_key, edition(1), 1, &ring, &mut rng).unwrap();
        let envelope = Envelope::decode(&envelope.encode()).unwrap();
        prop_assert_eq!(envelope.open(&SCOPE, &account_key).unwrap(), ring);
    }

    #[test]
    fn recovery_code_comes_back_a_wrong_word_does_not(
        entropy in any::<[u8; 32]>(), at in 0..24_usize, other in any::<[u8; 32]>(),
    ) {
        let code = RecoveryCode::from_entropy(entropy);
        let words = code.words();
        prop_assert_eq!(&RecoveryCode::parse(&words).unwrap(), &code);
        let stranger = RecoveryCode::from_entropy(other);
        let stranger_words = stranger.words();
        let mut mixed: Vec<_> = words.split(' ').collect();
        mixed[at] = stranger_words.split(' ').nth(at).unwrap();
        // One word of 24 differs: the checksum of 8 bits may hold by chance, but never for the same code.
        if mixed != words.split(' ').collect::<Vec<_>>() {
            prop_assert_ne!(RecoveryCode::parse(&mixed.join(" ")), Ok(code));
        }
    }
}
