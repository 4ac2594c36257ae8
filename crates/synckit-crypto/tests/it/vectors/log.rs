//! The log: padding, batch bodies, sealed batches, the chain.

use serde_json::{Value, json};
use synckit_crypto::{
    KeyRing,
    batch::{BatchBody, BatchContext, ChangeEntry, ChangeOp, Timestamp},
    padded_len,
};
use synckit_protocol::{BatchDigest, BatchId, Cursor, DeviceId, SealedHash};

use super::{by_hand, check, hex, place};
use crate::{
    canonical::{framed, refused, refused_plaintexts, unhex},
    fixtures::{SCOPE, entries, entry, start},
    rng::VectorRng,
};

#[test]
fn padding_vectors_match() {
    let lengths = [
        5, 8, 9, 16, 17, 31, 100, 255, 256, 257, 1000, 1024, 1025, 65_535, 100_000, 1_000_000, 4_100_000, 4_194_304,
    ];
    let lengths: Vec<_> = lengths.iter().map(|len| json!([len, padded_len(*len)])).collect();
    check(
        "padding.json",
        &json!({
            "description": "Pairs of a plaintext's length and the Padm\u{e9} length that it is padded to, in bytes.",
            "lengths": lengths,
        }),
    );
}

/// The entries as the vectors write them, without `serde`'s ideas of the app's types.
fn as_json(entries: &[ChangeEntry]) -> Vec<Value> {
    entries
        .iter()
        .map(|entry| {
            let op = match entry.op {
                ChangeOp::Insert => "insert",
                ChangeOp::Update => "update",
                ChangeOp::Delete => "delete",
            };
            let mut value = json!({
                "table": entry.table,
                "op": op,
                "row_id": entry.row_id,
                "timestamp": entry.timestamp.as_micros(),
            });
            if let Some(data) = &entry.data {
                value["data"] = data.clone();
            }
            value
        })
        .collect()
}

/// Entries that careless encoders and decoders get wrong.
fn borders() -> Vec<ChangeEntry> {
    vec![
        // UTF-8 puts U+FF5E before U+1F600, UTF-16 behind it. Composed and decomposed names are two names.
        entry(
            "order of names",
            Some(json!({
                "\u{1f600}": 1, "\u{ff5e}": 2, "b": 3, "aa": 4, "": 5, "\u{e9}": 6, "e\u{301}": 7, "\u{feff}title": 8,
            })),
        ),
        // Below the top: shorter first, counted in bytes, then by bytes.
        entry(
            "order of keys",
            Some(json!({"keys": {
                "b": 1, "aa": 2, "\u{20ac}": 3, "ab": 4, "\u{1f600}": 5, "\u{ff5e}a": 6, "\u{feff}": 7, "": 8, "\u{e9}": 9,
                "e\u{301}": 10,
            }})),
        ),
        entry(
            "numbers",
            Some(json!([
                0,
                0.0,
                -0.0,
                1,
                1.0,
                -1,
                -1.0,
                23,
                24,
                255,
                256,
                65_535,
                65_536,
                4_294_967_295_u32,
                4_294_967_296_u64,
                -24,
                -25,
                -256,
                -257,
                100_000,
                100_000.0,
                9_007_199_254_740_991_i64,
                9_007_199_254_740_993_i64,
                i64::MAX,
                u64::MAX,
                18_446_744_073_709_551_616.0,
                -9_223_372_036_854_775_808.0,
                5e-324,
                f64::MAX,
                f64::MIN_POSITIVE,
                0.1,
            ])),
        ),
        entry(
            "texts",
            Some(json!([
                "\u{feff}a text that begins with U+FEFF",
                "\u{0}",
                "\u{e9}",
                "e\u{301}",
                "\u{10ffff}",
                "\u{212b}",
                "\r\n",
                "x".repeat(24),
                "x".repeat(256),
            ])),
        ),
        entry(
            "0190c2a47d1e7f008a000123456789ab",
            Some(json!("digits of a UUID without hyphens are a text")),
        ),
        entry(
            "{0190c2a4-7d1e-7f00-8a00-0123456789ab}",
            Some(json!("so is a UUID in braces")),
        ),
        entry(
            "00000000-0000-0000-0000-000000000000",
            Some(json!("and this is 16 bytes")),
        ),
        ChangeEntry {
            table: String::new(),
            op: ChangeOp::Delete,
            timestamp: Timestamp::from_micros(i64::MAX),
            ..entry("\u{feff}", Some(json!({"a delete": "may carry data"})))
        },
    ]
}

/// Entries whose data is nested as deeply as it may be. As bytes alone: many readers of JSON stop before.
fn deepest() -> Vec<ChangeEntry> {
    let arrays = |levels: usize, innermost: Value| (0..levels).fold(innermost, |value, _| json!([value]));
    let objects = |levels: usize, innermost: Value| (0..levels).fold(innermost, |value, _| json!({"k": value}));
    [
        arrays(128, json!(0)),
        arrays(127, json!([])),
        arrays(127, json!({})),
        objects(128, Value::Null),
        objects(127, json!({})),
        objects(127, json!([])),
    ]
    .map(|data| entry("deep", Some(data)))
    .into()
}

/// The body of a plaintext.
fn body_of(plaintext: &[u8]) -> &[u8] {
    let length = u32::from_be_bytes(plaintext[1..5].try_into().unwrap()) as usize;
    &plaintext[5..5 + length]
}

#[test]
fn batch_vectors_match() {
    let mut rng = VectorRng::new("synckit/1 vectors batch");
    let ring = KeyRing::generate(&SCOPE, &mut rng);
    let keys = ring.current().subkeys(&SCOPE);
    let batches = [
        entries(),
        vec![ChangeEntry {
            op: ChangeOp::Delete,
            timestamp: Timestamp::from_micros(i64::MIN),
            ..entry("last", None)
        }],
        (0..30)
            .map(|row| {
                entry(
                    &format!("0190c2a4-7d1e-7f00-8a00-{row:012x}"),
                    Some(json!({"n": row, "text": "row"})),
                )
            })
            .collect(),
        borders(),
    ];
    let mut parent = start();
    let mut sealed_batches = Vec::new();
    for (index, entries) in (1..).zip(batches) {
        let context = BatchContext {
            scope: SCOPE,
            device_id: DeviceId::from_bytes([0xc0 + index; 16]),
            batch_id: BatchId::from_bytes([0xd0 + index; 16]),
            parent,
        };
        let body = BatchBody::encode(&entries).unwrap();
        assert_eq!(body.plaintext(), framed(body_of(body.plaintext())));
        rng.take_drawn();
        let sealed = keys.batch.seal(&keys.key_id, &context, &body, &mut rng);
        let nonce = rng.take_drawn();
        let aad = [
            b"synckit/1 batch\0".as_slice(),
            SCOPE.app_id.as_bytes(),
            SCOPE.user_id.as_bytes(),
            context.device_id.as_bytes(),
            context.batch_id.as_bytes(),
            keys.key_id.as_bytes(),
            &body.count().to_be_bytes(),
            &parent.seq.to_be_bytes(),
            parent.head.as_bytes(),
        ]
        .concat();
        assert_eq!(
            sealed,
            by_hand::seal(keys.batch.expose_bytes(), &nonce, &aad, body.plaintext())
        );
        let digest = BatchDigest {
            batch_id: context.batch_id,
            device_id: context.device_id,
            key_id: keys.key_id,
            count: body.count(),
            sealed_hash: SealedHash::of(&sealed),
        };
        let chained = [
            b"synckit/1 log\0".as_slice(),
            parent.head.as_bytes(),
            &(parent.seq + 1).to_be_bytes(),
            &body.count().to_be_bytes(),
            context.batch_id.as_bytes(),
            context.device_id.as_bytes(),
            keys.key_id.as_bytes(),
            &by_hand::sha256(&sealed),
        ]
        .concat();
        let after = parent.advance(&digest).unwrap();
        assert_eq!(by_hand::sha256(&chained), after.head.as_bytes());
        sealed_batches.push(json!({
            "device_id": hex(context.device_id.as_bytes()),
            "batch_id": hex(context.batch_id.as_bytes()),
            "parent": place(parent),
            "entries": as_json(&entries),
            "count": body.count(),
            "body": hex(body_of(body.plaintext())),
            "plaintext": hex(body.plaintext()),
            "aad": hex(&aad),
            "nonce": hex(&nonce),
            "sealed": hex(&sealed),
            "sealed_hash": hex(digest.sealed_hash.as_bytes()),
            "after": place(after),
            "cursor_after": Cursor::at(after).to_string(),
        }));
        parent = after;
    }
    let accepted_bodies: Vec<_> = deepest()
        .iter()
        .map(|entry| json!({"body": hex(body_of(BatchBody::encode(std::slice::from_ref(entry)).unwrap().plaintext()))}))
        .collect();
    let refused_bodies: Vec<_> = refused()
        .iter()
        .map(|(body, rule)| json!({"body": hex(unhex(body)), "rule": rule}))
        .collect();
    let refused_plaintexts: Vec<_> = refused_plaintexts()
        .iter()
        .map(|(plaintext, rule)| json!({"plaintext": hex(plaintext), "rule": rule}))
        .collect();
    check(
        "batch.json",
        &json!({
            "description": "Four batches, each sealed on top of the one before; bodies whose data is nested as deeply as it may \
                be (count 1), which decode and encode to the same bytes; then bodies that break one rule of the \
                encoding each, and plaintexts whose frame or padding breaks one, which must all be refused (count 1). The \
                fourth batch holds what careless encoders get wrong: the order of names, numbers \
                that are floats, texts that must stay as they are. Byte strings in hexadecimal; timestamps in \
                microseconds; an entry without data has no field of that name. The numbers -0.0 and 1.0 are floats.",
            "app_id": hex(SCOPE.app_id.as_bytes()),
            "user_id": hex(SCOPE.user_id.as_bytes()),
            "master_key": hex(ring.current().expose_bytes()),
            "key_id": hex(keys.key_id.as_bytes()),
            "batch_key": hex(keys.batch.expose_bytes()),
            "start": place(start()),
            "batches": sealed_batches,
            "accepted_bodies": accepted_bodies,
            "refused_bodies": refused_bodies,
            "refused_plaintexts": refused_plaintexts,
        }),
    );
}
