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
    canonical::{REFUSED, framed, unhex},
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
    let refused: Vec<_> = REFUSED
        .iter()
        .map(|(body, rule)| json!({"body": hex(unhex(body)), "rule": rule}))
        .collect();
    check(
        "batch.json",
        &json!({
            "description": "Three batches, each sealed on top of the one before; and bodies that break one rule of the \
                encoding each and must be refused (count 1). Byte strings in hexadecimal; timestamps in microseconds; an \
                entry without data has no field of that name. The number -0.0 in the first batch is a float.",
            "app_id": hex(SCOPE.app_id.as_bytes()),
            "user_id": hex(SCOPE.user_id.as_bytes()),
            "master_key": hex(ring.current().expose_bytes()),
            "key_id": hex(keys.key_id.as_bytes()),
            "batch_key": hex(keys.batch.expose_bytes()),
            "start": place(start()),
            "batches": sealed_batches,
            "refused_bodies": refused,
        }),
    );
}
