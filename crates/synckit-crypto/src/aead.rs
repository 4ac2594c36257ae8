//! XChaCha20-Poly1305 over whole buffers: `nonce (24) || ciphertext || tag (16)`.

use chacha20poly1305::{AeadInPlace as _, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use rand::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use crate::OpenError;

pub(crate) const NONCE_BYTES: usize = 24;
pub(crate) const TAG_BYTES: usize = 16;
/// The growth of a plaintext by sealing.
pub(crate) const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Seals under a fresh random nonce. 24 bytes are enough for random nonces during the whole life of a key.
#[expect(
    clippy::expect_used,
    reason = "fails only above 256 GiB, and every caller seals a bounded buffer"
)]
pub(crate) fn seal(key: &[u8; 32], aad: &[u8], plaintext: &[u8], rng: &mut (impl CryptoRng + RngCore)) -> Vec<u8> {
    let mut nonce = [0; NONCE_BYTES];
    rng.fill_bytes(&mut nonce);
    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plaintext);
    let (_, body) = sealed.split_at_mut(NONCE_BYTES);
    let tag = XChaCha20Poly1305::new(key.into())
        .encrypt_in_place_detached(XNonce::from_slice(&nonce), aad, body)
        .expect("the buffer is bounded");
    sealed.extend_from_slice(&tag);
    sealed
}

/// Opens the output of [`seal`]. The plaintext is erased when dropped.
pub(crate) fn open(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (nonce, rest) = sealed.split_at_checked(NONCE_BYTES).ok_or(OpenError::Authentication)?;
    let split = rest.len().checked_sub(TAG_BYTES).ok_or(OpenError::Authentication)?;
    let (ciphertext, tag) = rest.split_at_checked(split).ok_or(OpenError::Authentication)?;
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    XChaCha20Poly1305::new(key.into())
        .decrypt_in_place_detached(XNonce::from_slice(nonce), aad, &mut plaintext, Tag::from_slice(tag))
        .map_err(|_| OpenError::Authentication)?;
    Ok(plaintext)
}
