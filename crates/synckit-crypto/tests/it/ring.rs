//! The key ring: rotation, floor, and its form for the keychain.

use synckit_crypto::{KeyEnd, KeyError, KeyRing};
use synckit_protocol::{KeyId, SealedHash, limits::RETIRED_KEYS_MAX};

use crate::{
    fixtures::{OTHER_SCOPES, SCOPE, ending, position, start},
    rng::VectorRng,
};

fn rotated(times: u64, rng: &mut VectorRng) -> KeyRing {
    let mut ring = KeyRing::generate(&SCOPE, rng);
    for round in 1..=times {
        ring = ring.rotate(&SCOPE, ending(position(round * 10)), rng).unwrap();
    }
    ring
}

#[test]
fn new_ring_has_one_key_and_its_floor_at_the_start() {
    let ring = KeyRing::generate(&SCOPE, &mut VectorRng::new("ring"));
    assert_eq!(
        (ring.key_version(), ring.retired().len(), ring.floor()),
        (1, 0, start())
    );
    assert_eq!(ring.key_id(), ring.current().key_id(&SCOPE));
    let found = ring.key_for(&ring.key_id()).unwrap();
    assert_eq!((found.key_version, found.end), (1, None));
    assert!(found.permits(position(u64::MAX)));
    assert!(ring.key_for(&KeyId::from_bytes([0; 16])).is_none());
}

#[test]
fn each_stream_has_its_own_subkeys() {
    let ring = KeyRing::generate(&SCOPE, &mut VectorRng::new("ring"));
    let keys = ring.current().subkeys(&SCOPE);
    for scope in OTHER_SCOPES {
        let other = ring.current().subkeys(&scope);
        assert_ne!(keys.key_id, other.key_id);
        assert_ne!(keys.batch, other.batch);
        assert_ne!(keys.blob, other.blob);
        assert_ne!(keys.snapshot, other.snapshot);
    }
    assert_ne!(keys.batch.expose_bytes(), keys.blob.expose_bytes());
    assert_ne!(keys.batch.expose_bytes(), keys.snapshot.expose_bytes());
}

#[test]
fn ring_finds_the_owner_key_that_the_server_names() {
    let mut rng = VectorRng::new("ring");
    let first = KeyRing::generate(&SCOPE, &mut rng);
    let second = first.rotate(&SCOPE, ending(position(10)), &mut rng).unwrap();
    let third = second.rotate(&SCOPE, ending(position(20)), &mut rng).unwrap();
    let owner = |ring: &KeyRing, scope| ring.current().owner_signing_key(scope).public();
    for ring in [&first, &second, &third] {
        let found = third.owner_signing_key(&SCOPE, &owner(ring, &SCOPE)).unwrap();
        assert_eq!(found.public(), owner(ring, &SCOPE));
        for scope in &OTHER_SCOPES {
            assert_ne!(owner(ring, scope), owner(ring, &SCOPE), "each stream has its own");
            assert!(third.owner_signing_key(&SCOPE, &owner(ring, scope)).is_none());
        }
    }
    assert_ne!(owner(&first, &SCOPE), owner(&second, &SCOPE));
    assert!(first.owner_signing_key(&SCOPE, &owner(&second, &SCOPE)).is_none());
    let text = format!("{:?}", first.current().owner_signing_key(&SCOPE));
    assert_eq!(text, "OwnerSigningKey(redacted)");
}

#[test]
fn rotation_retires_the_key_and_keeps_the_blob_ids() {
    let mut rng = VectorRng::new("ring");
    let first = KeyRing::generate(&SCOPE, &mut rng);
    let second = first.rotate(&SCOPE, ending(position(10)), &mut rng).unwrap();
    assert_eq!((second.key_version(), second.floor()), (2, position(10)));
    assert_eq!(second.blob_id_key(), first.blob_id_key());
    assert_ne!(second.current(), first.current());
    let old = second.key_for(&first.key_id()).unwrap();
    assert_eq!(
        (old.key, old.key_version, old.end),
        (first.current(), 1, Some(ending(position(10))))
    );
}

#[test]
fn retired_key_is_good_up_to_its_last_batch_only() {
    let mut rng = VectorRng::new("ring");
    let first = KeyRing::generate(&SCOPE, &mut rng);
    let ring = first.rotate(&SCOPE, ending(position(10)), &mut rng).unwrap();
    let old = ring.key_for(&first.key_id()).unwrap();
    assert!(old.permits(position(9)) && old.permits(position(10)));
    assert!(!old.permits(position(11)));
    // The same sequence in another history.
    let forked = synckit_protocol::Position {
        seq: 10,
        ..position(99)
    };
    assert!(!old.permits(forked));
}

#[test]
fn twenty_fifth_rotation_is_refused() {
    let mut rng = VectorRng::new("ring");
    let ring = rotated(RETIRED_KEYS_MAX as u64, &mut rng);
    assert_eq!(ring.retired().len(), RETIRED_KEYS_MAX);
    assert_eq!(
        ring.rotate(&SCOPE, ending(position(250)), &mut rng),
        Err(KeyError::RotationLimit)
    );
}

#[test]
fn floor_never_sinks() {
    let mut rng = VectorRng::new("ring");
    let ring = rotated(1, &mut rng);
    let raised = ring.clone().with_floor(position(11)).unwrap();
    assert_eq!(raised.floor(), position(11));
    assert_eq!(raised.clone().with_floor(position(11)).unwrap(), raised);
    assert_eq!(
        raised.clone().with_floor(position(10)),
        Err(KeyError::PositionBehindFloor)
    );
    let forked = synckit_protocol::Position {
        seq: 11,
        ..position(99)
    };
    assert_eq!(raised.clone().with_floor(forked), Err(KeyError::PositionBehindFloor));
    assert_eq!(
        raised.rotate(&SCOPE, ending(position(10)), &mut rng),
        Err(KeyError::PositionBehindFloor)
    );
}

#[test]
fn one_snapshot_is_good_under_a_retired_key() {
    let mut rng = VectorRng::new("ring");
    let first = KeyRing::generate(&SCOPE, &mut rng);
    let end = ending(position(10));
    let (there, other) = (end.snapshot.unwrap(), SealedHash::from_bytes([1; 32]));
    let ring = first.rotate(&SCOPE, end, &mut rng).unwrap();
    let old = ring.key_for(&first.key_id()).unwrap();
    for seq in [1, 9, 10] {
        assert!(old.permits_snapshot(position(seq), there), "{seq}");
        assert!(!old.permits_snapshot(position(seq), other), "{seq}");
    }
    assert!(!old.permits_snapshot(position(11), there));
    let none = KeyEnd { snapshot: None, ..end };
    let ring = first.rotate(&SCOPE, none, &mut rng).unwrap();
    let old = ring.key_for(&first.key_id()).unwrap();
    assert!(!old.permits_snapshot(position(9), there));
    assert!(!old.permits_snapshot(position(9), SealedHash::from_bytes([0; 32])));
    // The current key permits every snapshot.
    let current = ring.key_for(&ring.key_id()).unwrap();
    assert!(current.permits_snapshot(position(9), other));
}

#[test]
fn secret_bytes_come_back() {
    let mut rng = VectorRng::new("ring");
    for times in [0, 1, RETIRED_KEYS_MAX as u64] {
        let ring = rotated(times, &mut rng);
        let bytes = ring.to_secret_bytes();
        assert!(bytes.len() <= KeyRing::SECRET_BYTES_MAX);
        assert_eq!(KeyRing::from_secret_bytes(&SCOPE, &bytes).unwrap(), ring);
    }
    assert_eq!(
        rotated(RETIRED_KEYS_MAX as u64, &mut rng).to_secret_bytes().len(),
        KeyRing::SECRET_BYTES_MAX
    );
}

#[test]
fn secret_bytes_that_break_an_invariant_are_refused() {
    let mut rng = VectorRng::new("ring");
    let ring = rotated(2, &mut rng);
    let bytes = ring.to_secret_bytes();
    let malformed = |bytes: &[u8]| {
        matches!(
            KeyRing::from_secret_bytes(&SCOPE, bytes),
            Err(KeyError::Malformed { .. })
        )
    };
    for len in 0..bytes.len() {
        assert!(malformed(&bytes[..len]), "{len} bytes");
    }
    assert!(malformed(&[bytes.as_slice(), &[0]].concat()), "trailing byte");
    let (key_version, floor_seq, count, first_until, first_key) = (1..5, 69..77, 109, 110..118, 182..214);
    let change = |at: std::ops::Range<usize>, with: &[u8]| {
        let mut changed = bytes.to_vec();
        changed[at].copy_from_slice(with);
        changed
    };
    assert!(
        malformed(&change(key_version.clone(), &[0, 0, 0, 2])),
        "more retired keys than versions"
    );
    assert!(malformed(&change(key_version, &[0; 4])), "version 0");
    assert!(
        malformed(&change(floor_seq, &5_u64.to_be_bytes())),
        "a floor before the last rotation"
    );
    assert!(
        malformed(&change(first_until, &21_u64.to_be_bytes())),
        "rotations out of order"
    );
    assert!(
        malformed(&change(first_key, ring.current().expose_bytes())),
        "current key among the retired"
    );
    assert!(malformed(&change(count..count + 1, &[25])), "too many");
    let newer = change(0..1, &[2]);
    let error = KeyRing::from_secret_bytes(&SCOPE, &newer);
    assert!(matches!(error, Err(KeyError::UnsupportedFormat { found: 2, .. })));
}

#[test]
fn safety_code_tells_key_version_and_floor_apart() {
    let mut rng = VectorRng::new("ring");
    let first = KeyRing::generate(&SCOPE, &mut rng);
    let second = first.rotate(&SCOPE, ending(position(10)), &mut rng).unwrap();
    let raised = second.clone().with_floor(position(11)).unwrap();
    let code = |ring: &KeyRing| ring.safety_code(&SCOPE).to_string();
    let codes = [code(&first), code(&second), code(&raised)];
    assert!(
        codes[0] != codes[1] && codes[1] != codes[2] && codes[0] != codes[2],
        "{codes:?}"
    );
    assert_eq!(code(&first.clone()), codes[0]);
    for scope in OTHER_SCOPES {
        assert_ne!(first.safety_code(&scope), first.safety_code(&SCOPE));
    }
}

#[test]
fn keys_are_redacted_in_debug() {
    let ring = rotated(1, &mut VectorRng::new("ring"));
    let text = format!("{ring:?} {:?}", ring.current().subkeys(&SCOPE));
    assert!(
        text.contains("MasterKey(redacted)") && text.contains("BatchKey(redacted)"),
        "{text}"
    );
    for key in [ring.current().expose_bytes(), ring.blob_id_key().expose_bytes()] {
        let start = format!("{}, {}", key[0], key[1]);
        assert!(!text.contains(&start), "{text}");
    }
}

#[test]
fn a_ring_goes_over_to_a_history_that_left_its_own() {
    // Retired at 10, 20 and 30; the histories part at 20.
    let ring = rotated(3, &mut VectorRng::new("ring"));
    let end = KeyEnd {
        until: position(25),
        snapshot: None,
    };
    let ends = |ring: &KeyRing| -> Vec<_> { ring.retired().iter().map(|retired| retired.end()).collect() };
    let rebased = ring.rebase(position(20), end, 4).unwrap();
    assert_eq!(ends(&rebased), [ending(position(10)), ending(position(20)), end]);
    // The second key was in use on the server, whatever its end.
    let in_use = ring.rebase(position(20), end, 2).unwrap();
    assert_eq!(ends(&in_use), [ending(position(10)), end, end]);
    assert_eq!(rebased.floor(), position(25));
    assert_eq!(
        (rebased.key_id(), rebased.key_version()),
        (ring.key_id(), ring.key_version())
    );
    let read = KeyRing::from_secret_bytes(&SCOPE, &rebased.to_secret_bytes()).unwrap();
    assert_eq!(read, rebased);
    // From the very start, every key ends at the newest position of the other history.
    let rebased = ring.rebase(start(), ending(position(5)), 4).unwrap();
    assert_eq!(ends(&rebased), [ending(position(5)); 3]);
    assert_eq!(
        ring.rebase(position(20), ending(position(19)), 4),
        Err(KeyError::PositionBehindFloor)
    );
}
