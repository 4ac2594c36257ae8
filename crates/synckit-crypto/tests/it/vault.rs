//! The account vault.

use synckit_crypto::{AccountKey, KeyError, RecoveryCode, Vault};
use synckit_login::ExportKey;
use synckit_protocol::{UserId, limits::VAULT_BYTES_MAX};

use crate::{fixtures::export_key, rng::VectorRng};

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
fn new_password_keeps_the_recovery_code_and_the_generation() {
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
fn next_generation_keeps_nothing_of_the_old_slots() {
    let mut rng = VectorRng::new("vault");
    let (vault, _, code) = vault_with_recovery(&mut rng);
    let new_key = AccountKey::generate(&mut rng);
    let next = vault
        .next_generation(&USER, &other_export_key(), &new_key, &mut rng)
        .unwrap();
    assert_eq!((next.generation(), next.has_recovery()), (2, false));
    assert_eq!(next.open_with_password(&USER, &other_export_key()).unwrap(), new_key);
    assert_eq!(next.open_with_password(&USER, &export_key()), Err(KeyError::WrongKey));
    assert_eq!(next.open_with_recovery(&USER, &code), Err(KeyError::NoRecoverySlot));
    let last = Vault::of_generation(u32::MAX, &USER, &export_key(), &new_key, &mut rng);
    let error = last.next_generation(&USER, &export_key(), &new_key, &mut rng);
    assert_eq!(error, Err(KeyError::GenerationLimit));
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
