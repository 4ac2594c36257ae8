//! The primitives, called as the protocol's text says and not as the library does.

use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce, aead::Aead as _, aead::Payload};
use ed25519_dalek::{Signer as _, SigningKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

pub(crate) fn hkdf(salt: &[u8], key: &[u8], info: &[&[u8]], len: usize) -> Vec<u8> {
    let mut output = vec![0; len];
    Hkdf::<Sha256>::new(Some(salt), key)
        .expand(&info.concat(), &mut output)
        .unwrap();
    output
}

pub(crate) fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(key).unwrap();
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

pub(crate) fn sha256(message: &[u8]) -> Vec<u8> {
    Sha256::digest(message).to_vec()
}

/// `nonce || ciphertext || tag`.
pub(crate) fn seal(key: &[u8], nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let payload = Payload { msg: plaintext, aad };
    let sealed = XChaCha20Poly1305::new_from_slice(key)
        .unwrap()
        .encrypt(XNonce::from_slice(nonce), payload)
        .unwrap();
    [nonce, &sealed].concat()
}

pub(crate) fn ed25519_public(seed: &[u8]) -> Vec<u8> {
    ed25519(seed).verifying_key().to_bytes().to_vec()
}

pub(crate) fn ed25519_sign(seed: &[u8], message: &[u8]) -> Vec<u8> {
    ed25519(seed).sign(message).to_bytes().to_vec()
}

fn ed25519(seed: &[u8]) -> SigningKey {
    SigningKey::from_bytes(seed.try_into().unwrap())
}
