//! What is stored beside the log: snapshots and blobs.

use serde_json::{Value, json};
use synckit_crypto::{
    BlobIdKey, BlobKey, KeyRing, OpenError,
    blob::BlobHash,
    snapshot::{Manifest, PartBody, PartDigest, SnapshotContext},
};
use synckit_protocol::{BlobId, KeyId, SnapshotId};

use super::{by_hand, check, hex, place};
use crate::{
    canonical::unhex,
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
    // The part claims one row more than it holds; all else about it is right.
    let miscounted = Manifest::new(vec![
        PartDigest {
            rows: 5,
            ..manifest.parts()[0]
        },
        manifest.parts()[1],
    ])
    .unwrap();
    let sealed_part = parts[0]["sealed"].as_str().map(unhex).unwrap();
    let error = keys
        .snapshot
        .open_part(&keys.key_id, &context, &miscounted, 0, &sealed_part);
    assert!(matches!(error, Err(OpenError::Malformed { .. })));
    let sealed = keys.snapshot.seal_manifest(&keys.key_id, &context, &manifest, &mut rng);
    let nonce = rng.take_drawn();
    let manifest_aad = aad(b"synckit/1 snapshot manifest", &[]);
    assert_eq!(sealed, by_hand::seal(key, &nonce, &manifest_aad, &manifest_plaintext));
    check(
        "snapshot.json",
        &json!({
            "description": "A snapshot of two parts, whose rows are the entries of the first batch in batch.json: the first \
                four and the last two; the manifest of a stream without rows; manifests with one fault each, which must be \
                refused; and a manifest that is right but not of these parts, because it says that the first one has 5 \
                rows. Manifests are plaintexts. Byte strings in hexadecimal.",
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
            "empty_manifest": hex(Manifest::new(Vec::new()).unwrap().encode()),
            "miscounted_manifest": hex(miscounted.encode()),
            "refused_manifests": refused_manifests(&manifest_plaintext),
        }),
    );
}

/// Manifests with one fault each. `good` lists two parts of 4 and 2 rows.
fn refused_manifests(good: &[u8]) -> Vec<Value> {
    assert!(Manifest::decode(good).is_ok());
    let manifest = |format: u8, rows: u64, total: u32, parts: &[u32]| {
        let parts: Vec<u8> = parts
            .iter()
            .flat_map(|rows| [&[7; 32], rows.to_be_bytes().as_slice()].concat())
            .collect();
        [&[format], rows.to_be_bytes().as_slice(), &total.to_be_bytes(), &parts].concat()
    };
    assert!(Manifest::decode(&manifest(1, 50_003, 2, &[50_000, 3])).is_ok());
    [
        ("format 0", manifest(0, 6, 2, &[4, 2])),
        ("format 2", manifest(2, 6, 2, &[4, 2])),
        ("one row more than the parts have", manifest(1, 7, 2, &[4, 2])),
        ("one row fewer than the parts have", manifest(1, 5, 2, &[4, 2])),
        ("rows without parts", manifest(1, 1, 0, &[])),
        ("a part without rows", manifest(1, 4, 2, &[4, 0])),
        ("a part of 50,001 rows", manifest(1, 50_001, 1, &[50_001])),
        ("a part fewer than it says", manifest(1, 4, 2, &[4])),
        ("a part more than it says", manifest(1, 4, 1, &[4, 2])),
        ("a byte too few", good[..good.len() - 1].to_vec()),
        ("a byte after the last part", [good, &[0]].concat()),
        ("no bytes", Vec::new()),
    ]
    .map(|(what, manifest)| {
        assert!(Manifest::decode(&manifest).is_err(), "{what}");
        json!({"what": what, "manifest": hex(manifest)})
    })
    .into()
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
    let refused = refused_blobs(&keys.blob, &keys.key_id, ring.blob_id_key());
    check(
        "blob.json",
        &json!({
            "description": "Sealed files. Byte strings in hexadecimal. hash = SHA-256(file); blob_id = \
                HMAC-SHA256(blob_id_key, hash); sealed = nonce || XChaCha20-Poly1305(blob_key, nonce, aad, file). \
                The refused ones answer a download of the file with this hash: each has one fault.",
            "key_id": hex(keys.key_id.as_bytes()),
            "blob_key": hex(keys.blob.expose_bytes()),
            "blob_id_key": hex(ring.blob_id_key().expose_bytes()),
            "blobs": blobs,
            "refused": refused,
        }),
    );
}

/// Answers to a download that must not become a file.
fn refused_blobs(key: &BlobKey, key_id: &KeyId, blob_id_key: &BlobIdKey) -> Vec<Value> {
    let (file, other) = (b"the file that was asked for".as_slice(), b"another file".as_slice());
    let hash = BlobHash::of(file);
    let blob_id = blob_id_key.blob_id(&hash);
    let sealed = |blob_id: &BlobId, key_id: &KeyId, file: &[u8]| {
        let aad = [b"synckit/1 blob\0".as_slice(), blob_id.as_bytes(), key_id.as_bytes()].concat();
        by_hand::seal(key.expose_bytes(), &[0x4e; 24], &aad, file)
    };
    let good = sealed(&blob_id, key_id, file);
    assert_eq!(key.open(key_id, &blob_id, &good).as_deref(), Ok(file));
    let changed = |at: usize| {
        let mut changed = good.clone();
        changed[at] ^= 1;
        changed
    };
    [
        ("a tag that was changed", changed(good.len() - 1), false),
        ("a text that was changed", changed(30), false),
        ("a nonce that was changed", changed(0), false),
        (
            "sealed for another blob",
            sealed(&blob_id_key.blob_id(&BlobHash::of(other)), key_id, file),
            false,
        ),
        (
            "sealed for another key id",
            sealed(&blob_id, &KeyId::from_bytes([9; 16]), file),
            false,
        ),
        ("39 bytes", good[..39].to_vec(), false),
        (
            "another file, sealed in the place of this one",
            sealed(&blob_id, key_id, other),
            true,
        ),
    ]
    .map(|(what, sealed, opens)| {
        let opened = key.open(key_id, &blob_id, &sealed);
        assert_eq!(opened.is_ok(), opens, "{what}");
        assert_ne!(opened.as_deref(), Ok(file));
        json!({"what": what, "hash": hash.to_string(), "sealed": hex(sealed)})
    })
    .into()
}
