//! The envelope of a stream.

use synckit_crypto::{AccountKey, Envelope, KeyError, KeyRing, MasterKey, VaultEdition};
use synckit_protocol::limits::{ENVELOPE_BYTES_MAX, RETIRED_KEYS_MAX};

use crate::{
    fixtures::{OTHER_SCOPES, SCOPE, edition, ending, position},
    rng::VectorRng,
};

fn sealed(rotations: u64) -> (Envelope, AccountKey, KeyRing) {
    let mut rng = VectorRng::new("envelope");
    let account_key = AccountKey::generate(&mut rng);
    let mut ring = KeyRing::generate(&SCOPE, &mut rng);
    for round in 1..=rotations {
        ring = ring.rotate(&SCOPE, ending(position(round)), &mut rng).unwrap();
    }
    let ring = ring.with_floor(position(200)).unwrap();
    let envelope = Envelope::seal(&SCOPE, &account_key, edition(3), 7, &ring, &mut rng).unwrap();
    (envelope, account_key, ring)
}

#[test]
fn envelope_gives_back_the_ring_after_storage() {
    for rotations in [0, 1, RETIRED_KEYS_MAX as u64] {
        let (envelope, account_key, ring) = sealed(rotations);
        let bytes = envelope.encode();
        assert!(bytes.len() <= ENVELOPE_BYTES_MAX, "{} bytes", bytes.len());
        let stored = Envelope::decode(&bytes).unwrap();
        assert_eq!(stored, envelope);
        assert_eq!((stored.version(), stored.vault_edition()), (7, edition(3)));
        assert_eq!(stored.vault_generation(), edition(3).generation);
        assert_eq!(
            (stored.key_id(), stored.key_version()),
            (ring.key_id(), ring.key_version())
        );
        assert_eq!(stored.floor(), position(200));
        assert_eq!(stored.open(&SCOPE, &account_key).unwrap(), ring);
    }
}

#[test]
fn wrong_account_key_and_other_streams_look_the_same() {
    let (envelope, account_key, _) = sealed(1);
    let stranger = AccountKey::generate(&mut VectorRng::new("stranger"));
    assert_eq!(envelope.open(&SCOPE, &stranger), Err(KeyError::WrongKey));
    for scope in OTHER_SCOPES {
        assert_eq!(envelope.open(&scope, &account_key), Err(KeyError::WrongKey));
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let (envelope, account_key, ring) = sealed(2);
    let bytes = envelope.encode();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let Ok(decoded) = Envelope::decode(&changed) else {
            continue;
        };
        assert!(decoded.open(&SCOPE, &account_key).is_err(), "bit {bit}");
        assert!(decoded.verify_mac(&SCOPE, ring.current()).is_err(), "bit {bit}");
    }
}

#[test]
fn master_key_verifies_an_envelope_without_password() {
    let (envelope, _, ring) = sealed(1);
    envelope.verify_mac(&SCOPE, ring.current()).unwrap();
    assert_eq!(
        envelope.verify_mac(&SCOPE, ring.retired()[0].key()),
        Err(KeyError::WrongKey)
    );
    assert_eq!(
        envelope.verify_mac(&SCOPE, &MasterKey::from_bytes([0; 32])),
        Err(KeyError::WrongKey)
    );
    assert_eq!(
        envelope.verify_mac(&OTHER_SCOPES[0], ring.current()),
        Err(KeyError::WrongKey)
    );
}

#[test]
fn ring_is_sealed_again_under_a_new_account_key() {
    let mut rng = VectorRng::new("reseal");
    let (old, _, ring) = sealed(1);
    let new_key = AccountKey::generate(&mut rng);
    let new = Envelope::seal(&SCOPE, &new_key, edition(4), old.version() + 1, &ring, &mut rng).unwrap();
    assert_eq!(new.open(&SCOPE, &new_key).unwrap(), ring);
    assert_eq!(old.open(&SCOPE, &new_key), Err(KeyError::WrongKey));
}

#[test]
fn versions_count_from_one() {
    let mut rng = VectorRng::new("versions");
    let (envelope, account_key, ring) = sealed(0);
    let bytes = envelope.encode();
    for (number, place) in [
        ("generation", 1..5),
        ("count", 5..9),
        ("version", 9..17),
        ("key version", 17..21),
    ] {
        let mut zero = bytes.clone();
        zero[place].fill(0);
        let decoded = Envelope::decode(&zero);
        assert!(matches!(decoded, Err(KeyError::Malformed { .. })), "{number}");
    }
    for (generation, count, version) in [(0, 1, 1), (1, 0, 1), (1, 1, 0)] {
        let edition = VaultEdition { generation, count };
        let error = Envelope::seal(&SCOPE, &account_key, edition, version, &ring, &mut rng);
        assert!(matches!(error, Err(KeyError::Malformed { .. })));
    }
}

#[test]
fn malformed_and_newer_envelopes_are_told_apart() {
    let (envelope, ..) = sealed(2);
    let bytes = envelope.encode();
    for len in 0..bytes.len() {
        assert!(
            matches!(Envelope::decode(&bytes[..len]), Err(KeyError::Malformed { .. })),
            "{len} bytes"
        );
    }
    assert!(Envelope::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    // A sealed history of no keys would be a second form of none.
    let (fresh, ..) = sealed(0);
    let fresh = fresh.encode();
    let (before, mac) = fresh.split_at(fresh.len() - 32);
    let before = before.strip_suffix(&[0, 0]).unwrap();
    for (history_len, is_malformed) in [(1, true), (40, true), (41, false)] {
        let with_history = [before, &[0, history_len], &vec![7; history_len.into()], mac].concat();
        let decoded = Envelope::decode(&with_history);
        assert_eq!(
            matches!(decoded, Err(KeyError::Malformed { .. })),
            is_malformed,
            "{history_len}"
        );
    }
    let mut newer = bytes;
    newer[0] = 2;
    assert!(matches!(
        Envelope::decode(&newer),
        Err(KeyError::UnsupportedFormat { found: 2, .. })
    ));
}

#[test]
fn holder_of_the_current_key_reads_the_ring() {
    let mut rng = VectorRng::new("envelope");
    let account_key = AccountKey::generate(&mut rng);
    let first = KeyRing::generate(&SCOPE, &mut rng);
    let held = first.rotate(&SCOPE, ending(position(5)), &mut rng).unwrap();
    let rebased = held.rebase(position(3), ending(position(4)), 2).unwrap();
    let envelope = Envelope::seal(&SCOPE, &account_key, edition(1), 2, &rebased, &mut rng).unwrap();
    assert_eq!(envelope.open_as_holder(&SCOPE, &held).unwrap(), rebased);
    // An older key of the same stream, another stream, and a changed byte do not.
    assert_eq!(envelope.open_as_holder(&SCOPE, &first), Err(KeyError::WrongKey));
    for scope in OTHER_SCOPES {
        assert_eq!(envelope.open_as_holder(&scope, &held), Err(KeyError::WrongKey));
    }
    let mut bytes = envelope.encode();
    bytes[60] ^= 1;
    let changed = Envelope::decode(&bytes).unwrap();
    assert_eq!(changed.open_as_holder(&SCOPE, &held), Err(KeyError::WrongKey));
}
