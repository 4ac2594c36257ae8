//! Keys: subkeys, recovery code, vault, envelope, key ring.

use serde_json::{Value, json};
use synckit_crypto::{AccountKey, Envelope, KeyEnd, KeyRing, MasterKey, RecoveryCode, Vault};
use synckit_login::ExportKey;
use synckit_protocol::{EnvelopeClaim, SealedHash, SnapshotClaim, SnapshotId};

use super::{by_hand, check, forged, hex, place};
use crate::{
    fixtures::{SCOPE, edition, ending, export_key, position},
    rng::VectorRng,
};

const APP: &[u8] = SCOPE.app_id.as_bytes();
const USER: &[u8] = SCOPE.user_id.as_bytes();

#[test]
fn subkey_vectors_match() {
    let master_key = MasterKey::generate(&mut VectorRng::new("synckit/1 vectors subkeys"));
    let keys = master_key.subkeys(&SCOPE);
    let salt = [APP, USER].concat();
    let subkey = |label: &str, len| by_hand::hkdf(&salt, master_key.expose_bytes(), &[label.as_bytes()], len);
    assert_eq!(subkey("synckit/1 batch", 32), keys.batch.expose_bytes());
    assert_eq!(subkey("synckit/1 blob", 32), keys.blob.expose_bytes());
    assert_eq!(subkey("synckit/1 snapshot", 32), keys.snapshot.expose_bytes());
    assert_eq!(subkey("synckit/1 key id", 16), keys.key_id.as_bytes());
    check(
        "subkeys.json",
        &json!({
            "description": "HKDF-SHA256(salt = app_id || user_id, key = master key, info = label). A subkey has 32 bytes, \
                a key id 16. Byte strings in hexadecimal.",
            "app_id": hex(APP),
            "user_id": hex(USER),
            "master_key": hex(master_key.expose_bytes()),
            "key_id": hex(keys.key_id.as_bytes()),
            "subkeys": {
                "synckit/1 batch": hex(keys.batch.expose_bytes()),
                "synckit/1 blob": hex(keys.blob.expose_bytes()),
                "synckit/1 snapshot": hex(keys.snapshot.expose_bytes()),
                "synckit/1 envelope mac": hex(subkey("synckit/1 envelope mac", 32)),
                "synckit/1 envelope history": hex(subkey("synckit/1 envelope history", 32)),
            },
        }),
    );
}

#[test]
fn owner_vectors_match() {
    let mut rng = VectorRng::new("synckit/1 vectors owner");
    let first = KeyRing::generate(&SCOPE, &mut rng);
    let second = first.rotate(&SCOPE, ending(position(75)), &mut rng).unwrap();
    let (old, new) = (
        first.current().owner_signing_key(&SCOPE),
        second.current().owner_signing_key(&SCOPE),
    );
    let salt = [APP, USER].concat();
    let owner_key = |ring: &KeyRing| {
        let seed = by_hand::hkdf(&salt, ring.current().expose_bytes(), &[b"synckit/1 owner"], 32);
        let public = by_hand::ed25519_public(&seed);
        assert_eq!(public, ring.current().owner_signing_key(&SCOPE).public().as_bytes());
        let steps = json!({
            "master_key": hex(ring.current().expose_bytes()),
            "key_id": hex(ring.key_id().as_bytes()),
            "seed": hex(&seed),
            "owner": hex(public),
        });
        (seed, steps)
    };
    let ((old_seed, old_steps), (new_seed, new_steps)) = (owner_key(&first), owner_key(&second));

    let bytes = |text: &str| -> Vec<u8> { text.into() };
    let position_bytes = [75_u64.to_be_bytes().as_slice(), &[75; 32]].concat();
    let mut envelopes = Vec::new();
    let snapshot_id = SnapshotId::from_bytes([0xe5; 16]);
    // The first envelope, one in its place under the same key, and a rotation, without and with a snapshot.
    for (ring, expected_version, signing, seed, head, snapshot) in [
        (&first, 0, &old, &old_seed, None, None),
        (&first, 1, &old, &old_seed, None, None),
        (&second, 2, &old, &old_seed, Some(position(75)), None),
        (&second, 2, &old, &old_seed, Some(position(75)), Some(snapshot_id)),
        (&second, 3, &new, &new_seed, None, None),
    ] {
        let envelope = bytes(&format!("envelope {}", expected_version + 1));
        let owner = ring.current().owner_signing_key(&SCOPE).public();
        let claim = EnvelopeClaim {
            app_id: SCOPE.app_id,
            user_id: SCOPE.user_id,
            expected_version,
            key_id: ring.key_id(),
            owner,
            envelope: &envelope,
            head,
            snapshot,
        };
        let message = [
            b"synckit/1 envelope put\0".as_slice(),
            APP,
            USER,
            &expected_version.to_be_bytes(),
            ring.key_id().as_bytes(),
            owner.as_bytes(),
            &by_hand::sha256(&envelope),
            head.map_or(&[], |_| &position_bytes),
            snapshot.as_ref().map_or(&[], |snapshot| snapshot.as_bytes().as_slice()),
        ]
        .concat();
        assert_eq!(claim.message(), message);
        let signature = signing.sign_envelope(&claim);
        assert_eq!(by_hand::ed25519_sign(seed, &message), signature.as_bytes());
        envelopes.push(json!({
            "expected_version": expected_version,
            "key_id": hex(ring.key_id().as_bytes()),
            "owner": hex(owner.as_bytes()),
            "envelope": hex(&envelope),
            "head": head.map(place),
            "snapshot": snapshot.map(|snapshot| hex(snapshot.as_bytes())),
            "signed_by": hex(signing.public().as_bytes()),
            "message": hex(&message),
            "signature": hex(signature.as_bytes()),
        }));
    }

    let manifest = bytes("manifest");
    let claim = SnapshotClaim {
        app_id: SCOPE.app_id,
        user_id: SCOPE.user_id,
        snapshot_id,
        key_id: second.key_id(),
        position: position(75),
        parts: 2,
        manifest: &manifest,
    };
    let message = [
        b"synckit/1 snapshot put\0".as_slice(),
        APP,
        USER,
        &[0xe5; 16],
        second.key_id().as_bytes(),
        &position_bytes,
        &2_u32.to_be_bytes(),
        &by_hand::sha256(&manifest),
    ]
    .concat();
    assert_eq!(claim.message(), message);
    let signature = new.sign_snapshot(&claim);
    assert_eq!(by_hand::ed25519_sign(&new_seed, &message), signature.as_bytes());
    check(
        "owner.json",
        &json!({
            "description": "Owner keys: Ed25519 (RFC 8032) with seed = HKDF-SHA256(salt = app_id || user_id, key = master \
                key, info = \"synckit/1 owner\"), and what they sign. The envelopes and the manifest are short texts \
                here. Byte strings in hexadecimal.",
            "app_id": hex(APP),
            "user_id": hex(USER),
            "keys": [old_steps, new_steps],
            "envelopes": envelopes,
            "snapshot": {
                "snapshot_id": hex([0xe5; 16]),
                "key_id": hex(second.key_id().as_bytes()),
                "position": place(position(75)),
                "parts": 2,
                "manifest": hex(&manifest),
                "signed_by": hex(new.public().as_bytes()),
                "message": hex(&message),
                "signature": hex(signature.as_bytes()),
            },
        }),
    );
}

#[test]
fn recovery_code_vectors_match() {
    let mut rng = VectorRng::new("synckit/1 vectors recovery code");
    let codes = [
        RecoveryCode::from_entropy([0; 32]),
        RecoveryCode::from_entropy([0x7f; 32]),
        RecoveryCode::from_entropy([0xff; 32]),
        RecoveryCode::generate(&mut rng),
    ];
    let words = codes[3].words();
    let mut list: Vec<&str> = words.split(' ').collect();
    let last = list.pop().unwrap();
    let refused = [
        ("23 words", list.join(" ")),
        ("25 words", format!("{} {last} {last}", list.join(" "))),
        (
            "another last word, whose checksum is wrong",
            format!("{} zoo", list.join(" ")),
        ),
        ("a word that is not in the list", format!("{} abandonn", list.join(" "))),
        (
            "two words that changed places",
            format!("{} {} {} {last}", list[1], list[0], list[2..].join(" ")),
        ),
        ("no words", String::new()),
    ]
    .map(|(what, words)| {
        assert!(RecoveryCode::parse(&words).is_err(), "{what}");
        json!({"what": what, "words": words})
    });
    let codes: Vec<_> = codes
        .iter()
        .map(|code| json!({"entropy": hex(code.expose_entropy()), "words": *code.words()}))
        .collect();
    check(
        "recovery_code.json",
        &json!({
            "description": "256 bits of entropy as 24 words of the English BIP39 list. Only the entropy enters a key \
                derivation; BIP39's own stretching is not used.",
            "codes": codes,
            "refused": refused,
        }),
    );
}

/// The secret behind a slot, and what tells the slots apart.
struct SlotOf<'a> {
    label: &'a str,
    number: u8,
    secret: &'a [u8],
}

/// Makes a slot by hand, from the salt and nonce that the library drew.
fn slot(of: &SlotOf<'_>, generation: u32, account_key: &AccountKey, random: &[u8]) -> (Vec<u8>, Value) {
    let (salt, nonce) = random.split_at(32);
    let derived = by_hand::hkdf(salt, of.secret, &[of.label.as_bytes(), USER], 64);
    let (wrapping_key, commitment) = derived.split_at(32);
    let aad = [
        b"synckit/1 vault\0".as_slice(),
        USER,
        &generation.to_be_bytes(),
        &[of.number],
    ]
    .concat();
    let wrapped = by_hand::seal(wrapping_key, nonce, &aad, account_key.expose_bytes());
    let steps = json!({
        "secret": hex(of.secret),
        "salt": hex(salt),
        "info": hex([of.label.as_bytes(), USER].concat()),
        "wrapping_key": hex(wrapping_key),
        "commitment": hex(commitment),
        "nonce": hex(nonce),
        "aad": hex(&aad),
        "wrapped": hex(&wrapped),
    });
    ([salt, commitment, &wrapped].concat(), steps)
}

/// Puts a vault together by hand.
fn assembled(generation: u32, count: u32, slots: &[(u8, &[u8])], account_key: &AccountKey) -> Vec<u8> {
    let mut bytes = [[1].as_slice(), &generation.to_be_bytes(), &count.to_be_bytes()].concat();
    bytes.push(u8::try_from(slots.len()).unwrap());
    for (kind, contents) in slots {
        bytes.push(*kind);
        bytes.extend(u16::try_from(contents.len()).unwrap().to_be_bytes());
        bytes.extend(*contents);
    }
    let mac_key = by_hand::hkdf(USER, account_key.expose_bytes(), &[b"synckit/1 vault mac"], 32);
    let mac = by_hand::hmac(&mac_key, &bytes);
    [bytes, mac].concat()
}

#[test]
fn vault_vectors_match() {
    let mut rng = VectorRng::new("synckit/1 vectors vault");
    let (account_key, code) = (AccountKey::generate(&mut rng), RecoveryCode::generate(&mut rng));
    let (old_export, new_export) = (export_key(), ExportKey::from_bytes([0x5a; 64]));
    let of_old = SlotOf {
        label: "synckit/1 vault password",
        number: 1,
        secret: old_export.as_bytes(),
    };
    let of_new = SlotOf {
        secret: new_export.as_bytes(),
        ..of_old
    };
    let of_code = SlotOf {
        label: "synckit/1 vault recovery",
        number: 2,
        secret: code.expose_entropy(),
    };
    rng.take_drawn();

    let first = Vault::create(&SCOPE.user_id, &old_export, &account_key, &mut rng);
    let (old_slot, old_steps) = slot(&of_old, 1, &account_key, &rng.take_drawn());
    assert_eq!(first.encode(), assembled(1, 1, &[(1, &old_slot)], &account_key));

    let with_code = first
        .with_recovery(&SCOPE.user_id, &code, &account_key, &mut rng)
        .unwrap();
    let (code_slot, code_steps) = slot(&of_code, 1, &account_key, &rng.take_drawn());
    let slots = [(1, old_slot.as_slice()), (2, &code_slot)];
    assert_eq!(with_code.encode(), assembled(1, 2, &slots, &account_key));

    let changed = with_code
        .with_password(&SCOPE.user_id, &new_export, &account_key, &mut rng)
        .unwrap();
    let (new_slot, new_steps) = slot(&of_new, 1, &account_key, &rng.take_drawn());
    let slots = [(1, new_slot.as_slice()), (2, &code_slot)];
    assert_eq!(changed.encode(), assembled(1, 3, &slots, &account_key));

    // A newer version added two slots of a kind that this one keeps as it is.
    let slots = [
        (1, new_slot.as_slice()),
        (2, &code_slot),
        (3, b"passkey"),
        (3, b"another passkey"),
    ];
    let with_passkeys = Vault::decode(&assembled(1, 4, &slots, &account_key)).unwrap();

    let next_key = AccountKey::generate(&mut rng);
    rng.take_drawn();
    let next = Vault::of_generation(2, &SCOPE.user_id, &new_export, &next_key, &mut rng);
    let (next_slot, next_steps) = slot(&of_new, 2, &next_key, &rng.take_drawn());
    assert_eq!(next.encode(), assembled(2, 1, &[(1, &next_slot)], &next_key));

    let mac_key = |key: &AccountKey| hex(by_hand::hkdf(USER, key.expose_bytes(), &[b"synckit/1 vault mac"], 32));
    check(
        "vault.json",
        &json!({
            "description": "The account vault. Byte strings in hexadecimal. wrapping_key || commitment = \
                HKDF-SHA256(salt, secret, info, 64 bytes); wrapped = nonce || XChaCha20-Poly1305(wrapping_key, nonce, aad, \
                account key); mac_key = HKDF-SHA256(user_id, account key, \"synckit/1 vault mac\", 32 bytes). The secret \
                of a password slot is the export key, of a recovery slot the 32 bytes of entropy. Neither secret may open \
                the refused vaults, each of which has one fault.",
            "user_id": hex(USER),
            "account_key": hex(account_key.expose_bytes()),
            "mac_key": mac_key(&account_key),
            "vaults": [
                {"what": "created", "generation": 1, "count": 1, "password_slot": &old_steps, "vault": hex(first.encode())},
                {"what": "with a recovery code", "generation": 1, "count": 2, "password_slot": &old_steps,
                    "recovery_slot": &code_steps, "vault": hex(with_code.encode())},
                {"what": "with a new password", "generation": 1, "count": 3, "password_slot": &new_steps,
                    "recovery_slot": &code_steps, "vault": hex(changed.encode())},
                {"what": "with two slots of an unknown kind", "generation": 1, "count": 4, "password_slot": &new_steps,
                    "recovery_slot": &code_steps, "vault": hex(with_passkeys.encode())},
                {"what": "the next generation", "generation": 2, "count": 1, "account_key": hex(next_key.expose_bytes()),
                    "mac_key": mac_key(&next_key), "password_slot": &next_steps, "vault": hex(next.encode())},
            ],
            "refused": {
                "export_key": hex(old_export.as_bytes()),
                "recovery_entropy": hex(code.expose_entropy()),
                "vaults": forged::vaults(&old_export, &code, &account_key),
            },
        }),
    );
}

/// Makes the safety code of a ring by hand.
fn safety_code(ring: &KeyRing) -> String {
    let floor = ring.floor();
    let digest = by_hand::sha256(
        &[
            b"synckit/1 safety code\0".as_slice(),
            APP,
            USER,
            &ring.key_version().to_be_bytes(),
            ring.key_id().as_bytes(),
            &floor.seq.to_be_bytes(),
            floor.head.as_bytes(),
        ]
        .concat(),
    );
    // The words of the list are those of a recovery code.
    let listed = RecoveryCode::from_entropy(digest.as_slice().try_into().unwrap()).words();
    let code: Vec<&str> = listed.split(' ').take(6).collect();
    assert_eq!(ring.safety_code(&SCOPE).to_string(), code.join(" "));
    code.join(" ")
}

/// Makes an envelope by hand, from the salt and nonces that the library drew.
fn envelope(ring: &KeyRing, account_key: &AccountKey, version: u64, random: &[u8]) -> (Vec<u8>, Value) {
    let master_key = ring.current().expose_bytes();
    let scope = [APP, USER].concat();
    let floor = ring.floor();
    let header = [
        [1].as_slice(),
        &2_u32.to_be_bytes(),
        &5_u32.to_be_bytes(),
        &version.to_be_bytes(),
        &ring.key_version().to_be_bytes(),
        ring.key_id().as_bytes(),
        &floor.seq.to_be_bytes(),
        floor.head.as_bytes(),
    ]
    .concat();
    let (salt, nonces) = random.split_at(32);
    let (wrap_nonce, history_nonce) = nonces.split_at(24);
    let kek = by_hand::hkdf(salt, account_key.expose_bytes(), &[b"synckit/1 kek", &scope], 64);
    let wrap_aad = [b"synckit/1 envelope\0", scope.as_slice(), &header].concat();
    let both_keys = [master_key.as_slice(), ring.blob_id_key().expose_bytes()].concat();
    let wrapped = by_hand::seal(&kek[..32], wrap_nonce, &wrap_aad, &both_keys);
    let retired: Vec<u8> = ring
        .retired()
        .iter()
        .flat_map(|retired| {
            let KeyEnd { until, snapshot } = retired.end();
            [
                until.seq.to_be_bytes().as_slice(),
                until.head.as_bytes(),
                snapshot.as_ref().map_or(&[0; 32], SealedHash::as_bytes).as_slice(),
                retired.key().expose_bytes(),
            ]
            .concat()
        })
        .collect();
    let history_key = by_hand::hkdf(&scope, master_key, &[b"synckit/1 envelope history"], 32);
    let history_aad = [b"synckit/1 envelope history\0", scope.as_slice(), &header].concat();
    let history = if retired.is_empty() {
        assert!(history_nonce.is_empty());
        Vec::new()
    } else {
        by_hand::seal(&history_key, history_nonce, &history_aad, &retired)
    };
    let length = u16::try_from(history.len()).unwrap().to_be_bytes();
    let unauthenticated = [&header, salt, &kek[32..], &wrapped, &length, &history].concat();
    let mac_key = by_hand::hkdf(&scope, master_key, &[b"synckit/1 envelope mac"], 32);
    let mac = by_hand::hmac(&mac_key, &unauthenticated);
    let bytes = [unauthenticated, mac].concat();
    let steps = json!({
        "vault_generation": 2,
        "vault_count": 5,
        "version": version,
        "key_version": ring.key_version(),
        "key_id": hex(ring.key_id().as_bytes()),
        "floor": place(floor),
        "master_key": hex(master_key),
        "blob_id_key": hex(ring.blob_id_key().expose_bytes()),
        "retired": ring.retired().iter().map(|retired| json!({
            "key_version": retired.key_version(),
            "key_id": hex(retired.key_id().as_bytes()),
            "until": place(retired.end().until),
            "snapshot": retired.end().snapshot.map(|hash| hex(hash.as_bytes())),
            "master_key": hex(retired.key().expose_bytes()),
        })).collect::<Vec<_>>(),
        "header": hex(&header),
        "salt": hex(salt),
        "wrapping_key": hex(&kek[..32]),
        "commitment": hex(&kek[32..]),
        "wrap_nonce": hex(wrap_nonce),
        "wrap_aad": hex(&wrap_aad),
        "wrapped": hex(&wrapped),
        "history_key": hex(&history_key),
        "history_nonce": hex(history_nonce),
        "history_aad": hex(&history_aad),
        "history_plaintext": hex(&retired),
        "history": hex(&history),
        "mac_key": hex(&mac_key),
        "envelope": hex(&bytes),
        "key_ring": hex(&*ring.to_secret_bytes()),
        "safety_code": safety_code(ring),
    });
    (bytes, steps)
}

#[test]
fn envelope_vectors_match() {
    let mut rng = VectorRng::new("synckit/1 vectors envelope");
    let account_key = AccountKey::generate(&mut rng);
    let mut ring = KeyRing::generate(&SCOPE, &mut rng);
    let mut envelopes = Vec::new();
    let without_snapshot = KeyEnd {
        snapshot: None,
        ..ending(position(40))
    };
    for (version, end) in [(1, None), (2, Some(without_snapshot)), (3, Some(ending(position(90))))] {
        if let Some(end) = end {
            ring = ring.rotate(&SCOPE, end, &mut rng).unwrap();
        }
        rng.take_drawn();
        let sealed = Envelope::seal(&SCOPE, &account_key, edition(2), version, &ring, &mut rng).unwrap();
        let (bytes, steps) = envelope(&ring, &account_key, version, &rng.take_drawn());
        assert_eq!(sealed.encode(), bytes);
        envelopes.push(steps);
    }
    check(
        "envelope.json",
        &json!({
            "description": "The envelope of a stream, fresh and after one and two rotations, and the same keys as a device \
                keeps them in its keychain (key_ring); envelopes and key rings with one fault each, which must be \
                refused; the keys of a ring under which a batch that ends at a position may be sealed; and those under \
                which a snapshot of a position, whose sealed manifest has this SHA-256, may be. Byte strings in hexadecimal. wrapping_key || commitment = \
                HKDF-SHA256(salt, account key, \"synckit/1 kek\" || app_id || user_id, 64 bytes).",
            "app_id": hex(APP),
            "user_id": hex(USER),
            "account_key": hex(account_key.expose_bytes()),
            "envelopes": envelopes,
            "refused_envelopes": forged::envelopes(&account_key),
            "refused_key_rings": forged::key_rings(),
            "permissions": forged::permissions(),
        }),
    );
}
