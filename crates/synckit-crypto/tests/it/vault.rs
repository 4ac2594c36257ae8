//! The account vault.

use synckit_crypto::{AccountKey, KeyError, RecoveryCode, Vault, VaultEdition};
use synckit_login::ExportKey;
use synckit_protocol::{UserId, limits::VAULT_BYTES_MAX};

use crate::{fixtures::export_key, rng::VectorRng, vectors::by_hand};

const USER: UserId = UserId::from_bytes([0xb2; 16]);
const OTHER_USER: UserId = UserId::from_bytes([0xb3; 16]);

fn other_export_key() -> ExportKey {
    ExportKey::from_bytes([9; 64])
}

fn vault_with_recovery(rng: &mut VectorRng) -> (Vault, AccountKey, RecoveryCode) {
    let account_key = AccountKey::generate(rng);
    let code = RecoveryCode::generate(rng);
    let vault = Vault::create(&USER, &export_key(), &account_key, rng);
    let vault = vault.with_recovery(&USER, &code, &account_key, rng).unwrap();
    (vault, account_key, code)
}

#[test]
fn password_opens_the_vault_after_storage() {
    let mut rng = VectorRng::new("vault");
    let account_key = AccountKey::generate(&mut rng);
    let vault = Vault::create(&USER, &export_key(), &account_key, &mut rng);
    let bytes = vault.encode();
    assert!(bytes.len() <= VAULT_BYTES_MAX);
    let stored = Vault::decode(&bytes).unwrap();
    assert_eq!(stored, vault);
    assert_eq!((stored.generation(), stored.has_recovery()), (1, false));
    assert_eq!(stored.open_with_password(&USER, &export_key()).unwrap(), account_key);
    let code = RecoveryCode::generate(&mut rng);
    assert_eq!(stored.open_with_recovery(&USER, &code), Err(KeyError::NoRecoverySlot));
}

#[test]
fn first_vault_may_have_a_recovery_code() {
    let mut rng = VectorRng::new("vault");
    let (account_key, code) = (AccountKey::generate(&mut rng), RecoveryCode::generate(&mut rng));
    for generation in [1, 7] {
        let vault = Vault::of_generation_with_recovery(generation, &USER, &export_key(), &code, &account_key, &mut rng);
        let stored = Vault::decode(&vault.encode()).unwrap();
        assert_eq!(stored.edition(), VaultEdition { generation, count: 1 });
        assert_eq!(stored.open_with_password(&USER, &export_key()).unwrap(), account_key);
        assert_eq!(stored.open_with_recovery(&USER, &code).unwrap(), account_key);
        assert_eq!(stored.open_with_recovery(&OTHER_USER, &code), Err(KeyError::WrongKey));
    }
}

#[test]
fn recovery_code_opens_the_vault_until_it_is_replaced() {
    let mut rng = VectorRng::new("vault");
    let (vault, account_key, code) = vault_with_recovery(&mut rng);
    assert!(vault.has_recovery());
    assert_eq!(vault.open_with_recovery(&USER, &code).unwrap(), account_key);
    assert_eq!(vault.open_with_password(&USER, &export_key()).unwrap(), account_key);
    let new_code = RecoveryCode::generate(&mut rng);
    let replaced = vault.with_recovery(&USER, &new_code, &account_key, &mut rng).unwrap();
    assert_eq!(replaced.open_with_recovery(&USER, &code), Err(KeyError::WrongKey));
    assert_eq!(replaced.open_with_recovery(&USER, &new_code).unwrap(), account_key);
}

#[test]
fn new_password_keeps_recovery_code_and_generation() {
    let mut rng = VectorRng::new("vault");
    let (vault, account_key, code) = vault_with_recovery(&mut rng);
    let changed = vault
        .with_password(&USER, &other_export_key(), &account_key, &mut rng)
        .unwrap();
    assert_eq!(changed.generation(), vault.generation());
    assert_eq!(
        changed.open_with_password(&USER, &export_key()),
        Err(KeyError::WrongKey)
    );
    assert_eq!(
        changed.open_with_password(&USER, &other_export_key()).unwrap(),
        account_key
    );
    assert_eq!(changed.open_with_recovery(&USER, &code).unwrap(), account_key);
}

#[test]
fn every_replacement_is_a_newer_edition() {
    let mut rng = VectorRng::new("vault");
    let (account_key, code) = (AccountKey::generate(&mut rng), RecoveryCode::generate(&mut rng));
    let first = Vault::create(&USER, &export_key(), &account_key, &mut rng);
    let second = first.with_recovery(&USER, &code, &account_key, &mut rng).unwrap();
    let third = second
        .with_password(&USER, &other_export_key(), &account_key, &mut rng)
        .unwrap();
    let reset = Vault::of_generation(2, &USER, &export_key(), &account_key, &mut rng);
    let edition = |generation, count| VaultEdition { generation, count };
    let editions = [&first, &second, &third, &reset].map(|vault| Vault::decode(&vault.encode()).unwrap().edition());
    assert_eq!(editions, [edition(1, 1), edition(1, 2), edition(1, 3), edition(2, 1)]);
    assert!(editions.is_sorted());
}

#[test]
fn last_edition_of_a_generation_is_not_replaced() {
    let mut rng = VectorRng::new("vault");
    let account_key = AccountKey::generate(&mut rng);
    let last = assembled(&account_key, 1, u32::MAX, &[(1, password_slot(&account_key, 1))]);
    let last = Vault::decode(&last).unwrap();
    assert_eq!(last.open_with_password(&USER, &export_key()).unwrap(), account_key);
    let error = last.with_password(&USER, &export_key(), &account_key, &mut rng);
    assert_eq!(error, Err(KeyError::VaultLimit));
}

#[test]
fn slots_of_unknown_kinds_are_kept() {
    let mut rng = VectorRng::new("vault");
    let account_key = AccountKey::generate(&mut rng);
    let code = RecoveryCode::generate(&mut rng);
    let passkeys = [(3, vec![7; 400]), (3, vec![8; 1]), (200, Vec::new())];
    let slots = [vec![(1, password_slot(&account_key, 1))], passkeys.to_vec()].concat();
    let bytes = assembled(&account_key, 1, 5, &slots);
    let vault = Vault::decode(&bytes).unwrap();
    assert_eq!(vault.encode(), bytes);
    // Neither a new recovery code nor a new password costs the user a passkey.
    let next = vault.with_recovery(&USER, &code, &account_key, &mut rng).unwrap();
    let next = next
        .with_password(&USER, &other_export_key(), &account_key, &mut rng)
        .unwrap();
    let bytes = next.encode();
    let tail: Vec<u8> = passkeys.iter().flat_map(|slot| encoded(slot.0, &slot.1)).collect();
    assert!(bytes[..bytes.len() - 32].ends_with(&tail));
    let read = Vault::decode(&bytes).unwrap();
    assert_eq!(
        read.open_with_password(&USER, &other_export_key()).unwrap(),
        account_key
    );
    assert_eq!(read.open_with_recovery(&USER, &code).unwrap(), account_key);
}

#[test]
fn fullest_vault_stays_within_its_limit() {
    let mut rng = VectorRng::new("vault");
    let account_key = AccountKey::generate(&mut rng);
    let code = RecoveryCode::generate(&mut rng);
    let mut slots = vec![(1, password_slot(&account_key, 1))];
    slots.extend(vec![(255, vec![0; 400]); 8]);
    let vault = Vault::decode(&assembled(&account_key, 1, 1, &slots)).unwrap();
    let fullest = vault.with_recovery(&USER, &code, &account_key, &mut rng).unwrap();
    assert!(fullest.encode().len() <= VAULT_BYTES_MAX);
    assert_eq!(Vault::decode(&fullest.encode()).unwrap(), fullest);
}

#[test]
fn slots_in_another_form_are_malformed() {
    let account_key = AccountKey::from_bytes([3; 32]);
    let password = || (1, password_slot(&account_key, 1));
    let recovery = || (2, vec![0; 136]);
    let other = |kind, len| (kind, vec![0; len]);
    let decoded = |slots: &[(u8, Vec<u8>)]| Vault::decode(&assembled(&account_key, 1, 1, slots));
    assert!(decoded(&[password(), recovery(), other(3, 1), other(3, 1), other(4, 400)]).is_ok());
    for slots in [
        vec![],
        vec![recovery()],
        vec![password(), password()],
        vec![password(), recovery(), recovery()],
        vec![recovery(), password()],
        vec![password(), other(3, 1), recovery()],
        vec![password(), other(4, 1), other(3, 1)],
        vec![other(0, 1), password()],
        vec![password(), other(3, 401)],
        vec![password(), other(2, 135)],
        vec![password(), other(2, 137)],
        vec![other(1, 135)],
        vec![other(1, 137)],
        [vec![password()], vec![other(3, 0); 9]].concat(),
    ] {
        let kinds: Vec<_> = slots.iter().map(|(kind, contents)| (kind, contents.len())).collect();
        let error = decoded(&slots);
        assert!(matches!(error, Err(KeyError::Malformed { .. })), "{kinds:?}");
    }
    for (generation, count) in [(0, 1), (1, 0)] {
        let error = Vault::decode(&assembled(&account_key, generation, count, &[password()]));
        assert!(matches!(error, Err(KeyError::Malformed { .. })), "{generation} {count}");
    }
}

/// A slot that the primitives seal, as the document describes it, under the export key of the tests.
fn password_slot(account_key: &AccountKey, generation: u32) -> Vec<u8> {
    let salt = [0x51; 32];
    let info = [b"synckit/1 vault password".as_slice(), USER.as_bytes()];
    let keys = by_hand::hkdf(&salt, export_key().as_bytes(), &info, 64);
    let aad = [
        b"synckit/1 vault\0".as_slice(),
        USER.as_bytes(),
        &generation.to_be_bytes(),
        &[1],
    ]
    .concat();
    let wrapped = by_hand::seal(&keys[..32], &[0x4e; 24], &aad, account_key.expose_bytes());
    [&salt, &keys[32..], &wrapped].concat()
}

fn encoded(kind: u8, contents: &[u8]) -> Vec<u8> {
    let len = u16::try_from(contents.len()).unwrap().to_be_bytes();
    [&[kind], len.as_slice(), contents].concat()
}

/// A vault of the given slots, with a right MAC.
fn assembled(account_key: &AccountKey, generation: u32, count: u32, slots: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = [[1].as_slice(), &generation.to_be_bytes(), &count.to_be_bytes()].concat();
    bytes.push(u8::try_from(slots.len()).unwrap());
    bytes.extend(slots.iter().flat_map(|(kind, contents)| encoded(*kind, contents)));
    let info = [b"synckit/1 vault mac".as_slice()];
    let mac_key = by_hand::hkdf(USER.as_bytes(), account_key.expose_bytes(), &info, 32);
    let mac = by_hand::hmac(&mac_key, &bytes);
    [bytes, mac].concat()
}

#[test]
fn slot_is_never_written_for_another_account_key() {
    let mut rng = VectorRng::new("vault");
    let (vault, _, code) = vault_with_recovery(&mut rng);
    let stranger = AccountKey::generate(&mut rng);
    assert_eq!(
        vault.with_recovery(&USER, &code, &stranger, &mut rng),
        Err(KeyError::WrongKey)
    );
    assert_eq!(
        vault.with_password(&USER, &export_key(), &stranger, &mut rng),
        Err(KeyError::WrongKey)
    );
}

#[test]
fn vault_of_another_account_does_not_open() {
    let mut rng = VectorRng::new("vault");
    let (vault, _, code) = vault_with_recovery(&mut rng);
    assert_eq!(
        vault.open_with_password(&OTHER_USER, &export_key()),
        Err(KeyError::WrongKey)
    );
    assert_eq!(vault.open_with_recovery(&OTHER_USER, &code), Err(KeyError::WrongKey));
}

#[test]
fn every_changed_bit_is_noticed_through_both_slots() {
    let mut rng = VectorRng::new("vault");
    let (vault, _, code) = vault_with_recovery(&mut rng);
    let bytes = vault.encode();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let Ok(decoded) = Vault::decode(&changed) else { continue };
        assert!(decoded.open_with_password(&USER, &export_key()).is_err(), "bit {bit}");
        assert!(decoded.open_with_recovery(&USER, &code).is_err(), "bit {bit}");
    }
}

#[test]
fn slots_of_two_vaults_cannot_be_combined() {
    let mut rng = VectorRng::new("vault");
    let (old, account_key, code) = vault_with_recovery(&mut rng);
    let new_code = RecoveryCode::generate(&mut rng);
    let new = old.with_recovery(&USER, &new_code, &account_key, &mut rng).unwrap();
    // The recovery slot stands between the password slot and the MAC: put the revoked one back.
    let (old, mut mixed) = (old.encode(), new.encode());
    let slot = old.len() - 32 - 136..old.len() - 32;
    mixed[slot.clone()].copy_from_slice(&old[slot]);
    let mixed = Vault::decode(&mixed).unwrap();
    assert_eq!(mixed.open_with_recovery(&USER, &code), Err(KeyError::WrongKey));
    assert_eq!(mixed.open_with_password(&USER, &export_key()), Err(KeyError::WrongKey));
}

#[test]
fn malformed_and_newer_vaults_are_told_apart() {
    let mut rng = VectorRng::new("vault");
    let (vault, ..) = vault_with_recovery(&mut rng);
    let bytes = vault.encode();
    for len in 0..bytes.len() {
        assert!(
            matches!(Vault::decode(&bytes[..len]), Err(KeyError::Malformed { .. })),
            "{len} bytes"
        );
    }
    let trailing = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(Vault::decode(&trailing), Err(KeyError::Malformed { .. })));
    let mut newer = bytes;
    newer[0] = 2;
    let error = Vault::decode(&newer);
    assert!(
        matches!(error, Err(KeyError::UnsupportedFormat { found: 2, .. })),
        "{error:?}"
    );
}
