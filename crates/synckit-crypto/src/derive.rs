//! HKDF-SHA256 (RFC 5869) and HMAC-SHA256 (RFC 2104), in the forms that the formats need.

use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Derives `N` bytes. `info` is the concatenation of its parts.
#[expect(
    clippy::expect_used,
    reason = "HKDF-SHA256 fails only above 8160 bytes of output, which does not compile here"
)]
pub(crate) fn hkdf<const N: usize>(salt: &[u8], key: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * 32) };
    let mut output = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::new(Some(salt), key)
        .expand_multi_info(info, output.as_mut_slice())
        .expect("the length was checked at compile time");
    output
}

/// HMAC-SHA256 of the concatenation of all parts.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A wrapping key, and its commitment, which is stored beside the wrapped data.
///
/// XChaCha20-Poly1305 does not commit to its key: one ciphertext can open under two keys. The commitment is compared
/// first, so a person with write access to the storage cannot test many passwords with one answer (the partitioning
/// oracle attack).
pub(crate) struct WrappingKey {
    pub(crate) key: Zeroizing<[u8; 32]>,
    commitment: [u8; 32],
}

impl WrappingKey {
    /// Derives both halves from 64 bytes of HKDF output.
    pub(crate) fn derive(salt: &[u8; 32], key: &[u8], info: &[&[u8]]) -> Self {
        let output = hkdf::<64>(salt, key, info);
        let (wrapping, committing) = output.split_at(32);
        let mut derived = Self {
            key: Zeroizing::new([0; 32]),
            commitment: [0; 32],
        };
        derived.key.copy_from_slice(wrapping);
        derived.commitment.copy_from_slice(committing);
        derived
    }

    /// The commitment to store.
    pub(crate) const fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Whether a stored commitment is this key's, in constant time.
    pub(crate) fn matches(&self, stored: &[u8; 32]) -> bool {
        self.commitment.ct_eq(stored).into()
    }
}
