//! What is stored beside the log: snapshots and blobs.

use serde_json::json;
use synckit_crypto::{
    KeyRing,
    blob::BlobHash,
    snapshot::{Manifest, PartBody, PartDigest, SnapshotContext},
};
use synckit_protocol::SnapshotId;

use super::{by_hand, check, hex, place};
use crate::{
    fixtures::{SCOPE, entries, position},
    rng::VectorRng,
};

#[test]
fn snapshot_vectors_match() {
    let mut rng = VectorRng::new("synckit/1 vectors snapshot");
    let ring = KeyRing::generate(&SCOPE, &mut rng);
    let keys = ring.current().subkeys(&SCOPE);
    let key = keys.snapshot.expose_bytes();
    let context = SnapshotContext {
        scope: SCOPE,
        snapshot_id: SnapshotId::from_bytes([0xe5; 16]),
        position: position(75),
    };
    let aad = |label: &[u8], tail: &[&[u8]]| {
        let place = [
            SCOPE.app_id.as_bytes().as_slice(),
            SCOPE.user_id.as_bytes(),
            keys.key_id.as_bytes(),
            &context.position.seq.to_be_bytes(),
            context.position.head.as_bytes(),
            context.snapshot_id.as_bytes(),
        ]
        .concat();
        [label, &[0], &place, &tail.concat()].concat()
    };
    let rows = entries();
    let (mut parts, mut digests) = (Vec::new(), Vec::new());
    let mut manifest_plaintext = [[1].as_slice(), &(rows.len() as u64).to_be_bytes(), &2_u32.to_be_bytes()].concat();
    for (index, rows) in (0_u32..).zip([&rows[..4], &rows[4..]]) {
        let (taken, body) = PartBody::encode_prefix(rows).unwrap();
        assert_eq!(taken, rows.len());
        rng.take_drawn();
        let sealed = keys
            .snapshot
            .seal_part(&keys.key_id, &context, index, 2, &body, &mut rng);
        let nonce = rng.take_drawn();
        let aad = aad(b"synckit/1 snapshot", &[&index.to_be_bytes(), &2_u32.to_be_bytes()]);
        assert_eq!(sealed, by_hand::seal(key, &nonce, &aad, body.plaintext()));
        let digest = PartDigest::of(&body, &sealed);
        manifest_plaintext.extend(by_hand::sha256(&sealed));
        manifest_plaintext.extend(body.rows().to_be_bytes());
        parts.push(json!({
            "rows": body.rows(),
            "plaintext": hex(body.plaintext()),
            "aad": hex(&aad),
            "nonce": hex(&nonce),
            "sealed": hex(&sealed),
            "sealed_hash": hex(digest.sealed_hash.as_bytes()),
        }));
        digests.push(digest);
    }
    let manifest = Manifest::new(digests).unwrap();
    assert_eq!(manifest.encode(), manifest_plaintext);
    let sealed = keys.snapshot.seal_manifest(&keys.key_id, &context, &manifest, &mut rng);
    let nonce = rng.take_drawn();
    let manifest_aad = aad(b"synckit/1 snapshot manifest", &[]);
    assert_eq!(sealed, by_hand::seal(key, &nonce, &manifest_aad, &manifest_plaintext));
    check(
        "snapshot.json",
        &json!({
            "description": "A snapshot of two parts, whose rows are the entries of the first batch in batch.json: the first \
                four and the last two. Byte strings in hexadecimal.",
            "app_id": hex(SCOPE.app_id.as_bytes()),
            "user_id": hex(SCOPE.user_id.as_bytes()),
            "key_id": hex(keys.key_id.as_bytes()),
            "snapshot_key": hex(key),
            "snapshot_id": hex(context.snapshot_id.as_bytes()),
            "position": place(context.position),
            "parts": parts,
            "manifest": {
                "plaintext": hex(&manifest_plaintext),
                "aad": hex(&manifest_aad),
                "nonce": hex(&nonce),
                "sealed": hex(&sealed),
            },
        }),
    );
}

#[test]
fn blob_vectors_match() {
    let mut rng = VectorRng::new("synckit/1 vectors blob");
    let ring = KeyRing::generate(&SCOPE, &mut rng);
    let keys = ring.current().subkeys(&SCOPE);
    let mut blobs = Vec::new();
    for len in [0_usize, 1, 15, 16, 17, 63, 64, 65, 1000] {
        let file: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let hash = BlobHash::of(&file);
        let blob_id = ring.blob_id_key().blob_id(&hash);
        assert_eq!(
            by_hand::hmac(ring.blob_id_key().expose_bytes(), &by_hand::sha256(&file)),
            blob_id.as_bytes()
        );
        rng.take_drawn();
        let sealed = keys.blob.seal(&keys.key_id, &blob_id, &file, &mut rng).unwrap();
        let nonce = rng.take_drawn();
        let aad = [
            b"synckit/1 blob\0".as_slice(),
            blob_id.as_bytes(),
            keys.key_id.as_bytes(),
        ]
        .concat();
        assert_eq!(sealed, by_hand::seal(keys.blob.expose_bytes(), &nonce, &aad, &file));
        blobs.push(json!({
            "file": hex(&file),
            "hash": hash.to_string(),
            "blob_id": hex(blob_id.as_bytes()),
            "aad": hex(&aad),
            "nonce": hex(&nonce),
            "sealed": hex(&sealed),
        }));
    }
    check(
        "blob.json",
        &json!({
            "description": "Sealed files. Byte strings in hexadecimal. hash = SHA-256(file); blob_id = \
                HMAC-SHA256(blob_id_key, hash); sealed = nonce || XChaCha20-Poly1305(blob_key, nonce, aad, file).",
            "key_id": hex(keys.key_id.as_bytes()),
            "blob_key": hex(keys.blob.expose_bytes()),
            "blob_id_key": hex(ring.blob_id_key().expose_bytes()),
            "blobs": blobs,
        }),
    );
}
