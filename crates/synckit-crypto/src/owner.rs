//! The owner key, which proves to the server that a device holds the master key.
//!
//! A token of a stream gives access to its envelope and its snapshots on the server, without any key. So the two writes
//! that could cost the user data are signed (RFC 8032, Ed25519), by a key that only holders of the current master key
//! can derive.
//!
//! Devices deliberately believe nothing because of such a signature. Devices verify seals; the server, which cannot,
//! verifies signatures.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use synckit_protocol::{EnvelopeClaim, OwnerKey, OwnerSignature, SnapshotClaim};

use crate::{KeyRing, MasterKey, StreamScope};

/// The secret half of an owner key: Ed25519, with the subkey `synckit/1 owner` of a master key as its seed.
///
/// Erased when dropped, redacted in `Debug`.
///
/// # Examples
/// ```
/// use synckit_crypto::{MasterKey, StreamScope};
/// use synckit_protocol::{AppId, UserId};
///
/// let scope = StreamScope { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// let owner = MasterKey::from_bytes([4; 32]).owner_signing_key(&scope);
/// assert_eq!(format!("{owner:?}"), "OwnerSigningKey(redacted)");
/// ```
#[derive(Clone)]
pub struct OwnerSigningKey(SigningKey);

impl OwnerSigningKey {
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half, which the server keeps beside the envelope.
    pub fn public(&self) -> OwnerKey {
        OwnerKey::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs a write of an envelope.
    pub fn sign_envelope(&self, claim: &EnvelopeClaim<'_>) -> OwnerSignature {
        self.sign(&claim.message())
    }

    /// Signs the completion of a snapshot.
    pub fn sign_snapshot(&self, claim: &SnapshotClaim<'_>) -> OwnerSignature {
        self.sign(&claim.message())
    }

    /// Private, so that only the two messages are ever signed.
    fn sign(&self, message: &[u8]) -> OwnerSignature {
        OwnerSignature::from_bytes(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for OwnerSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerSigningKey(redacted)")
    }
}

impl KeyRing {
    /// The owner key of the current master key, or of a retired one, whose public half is `owner`: it signs if the
    /// server names that one. `None` if the ring does not contain it.
    pub fn owner_signing_key(&self, scope: &StreamScope, owner: &OwnerKey) -> Option<OwnerSigningKey> {
        let retired = self.retired().iter().rev().map(|retired| retired.key());
        std::iter::once(self.current())
            .chain(retired)
            .map(|key: &MasterKey| key.owner_signing_key(scope))
            .find(|key| key.public() == *owner)
    }
}
