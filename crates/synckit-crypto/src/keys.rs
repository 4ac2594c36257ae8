//! The master key of a stream, its subkeys, and the account key.

use std::fmt;

use rand::{CryptoRng, RngCore};
use subtle::ConstantTimeEq as _;
use synckit_protocol::{AppId, KeyId, UserId};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{OwnerSigningKey, derive::hkdf};

/// The stream that keys and ciphertexts belong to: one account in one app.
///
/// # Examples
/// ```
/// use synckit_crypto::{MasterKey, StreamScope};
/// use synckit_protocol::{AppId, UserId};
///
/// let notes = StreamScope { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// let tasks = StreamScope { app_id: AppId::from_bytes([3; 16]), ..notes };
/// // The same key in another stream has other subkeys and another id.
/// let key = MasterKey::from_bytes([4; 32]);
/// assert_ne!(key.key_id(&notes), key.key_id(&tasks));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamScope {
    /// The app.
    pub app_id: AppId,
    /// The account.
    pub user_id: UserId,
}

impl StreamScope {
    /// `app_id || user_id`.
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let (app, user) = bytes.split_at_mut(16);
        app.copy_from_slice(self.app_id.as_bytes());
        user.copy_from_slice(self.user_id.as_bytes());
        bytes
    }
}

/// A type for a secret of 32 bytes: erased when dropped, redacted in `Debug`, compared in constant time.
macro_rules! secret_key {
    ($(#[doc = $doc:literal])* $name:ident) => {
        $(#[doc = $doc])*
        ///
        /// Erased when dropped, redacted in `Debug`, compared in constant time.
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps the 32 raw bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 raw bytes. The name makes every place that reads them easy to find.
            pub const fn expose_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}

        impl From<Zeroizing<[u8; 32]>> for $name {
            fn from(bytes: Zeroizing<[u8; 32]>) -> Self {
                Self(*bytes)
            }
        }
    };
}

secret_key!(
    /// The key of an account, wrapped by the account vault. It wraps the envelopes of every app, and no device stores
    /// it.
    AccountKey
);
secret_key!(
    /// The key of a stream: everything in the stream is sealed under subkeys of it.
    MasterKey
);
secret_key!(
    /// Seals the batches of a stream: subkey `synckit/1 batch`.
    BatchKey
);
secret_key!(
    /// Seals the blobs of a stream: subkey `synckit/1 blob`.
    BlobKey
);
secret_key!(
    /// Seals the snapshots of a stream: subkey `synckit/1 snapshot`.
    SnapshotKey
);
secret_key!(
    /// Makes the id of a file on the wire from its hash. Random, and kept through every rotation of the master key, so
    /// that the SDK recognises a stored file even after a rotation.
    BlobIdKey
);
/// Authenticates the envelope as a whole: subkey `synckit/1 envelope mac`.
pub(crate) struct EnvelopeMacKey(pub(crate) Zeroizing<[u8; 32]>);

/// Seals the retired keys inside an envelope: subkey `synckit/1 envelope history`.
pub(crate) struct HistoryKey(pub(crate) Zeroizing<[u8; 32]>);

impl AccountKey {
    /// Draws a new account key.
    pub fn generate(rng: &mut (impl CryptoRng + RngCore)) -> Self {
        Self(random_bytes(rng))
    }
}

impl BlobIdKey {
    pub(crate) fn generate(rng: &mut (impl CryptoRng + RngCore)) -> Self {
        Self(random_bytes(rng))
    }
}

impl MasterKey {
    /// Draws a new master key.
    pub fn generate(rng: &mut (impl CryptoRng + RngCore)) -> Self {
        Self(random_bytes(rng))
    }

    /// The public id of this key in a stream: the first 16 bytes of its subkey `synckit/1 key id`.
    pub fn key_id(&self, scope: &StreamScope) -> KeyId {
        KeyId::from_bytes(*self.subkey::<16>(scope, b"synckit/1 key id"))
    }

    /// Derives the keys that a device needs to seal and open.
    pub fn subkeys(&self, scope: &StreamScope) -> StreamKeys {
        StreamKeys {
            key_id: self.key_id(scope),
            batch: self.subkey(scope, b"synckit/1 batch").into(),
            blob: self.subkey(scope, b"synckit/1 blob").into(),
            snapshot: self.subkey(scope, b"synckit/1 snapshot").into(),
        }
    }

    /// The key that proves to the server that its holder has this master key: Ed25519, with the subkey `synckit/1
    /// owner` as its seed.
    pub fn owner_signing_key(&self, scope: &StreamScope) -> OwnerSigningKey {
        OwnerSigningKey::from_seed(&self.subkey(scope, b"synckit/1 owner"))
    }

    pub(crate) fn envelope_mac_key(&self, scope: &StreamScope) -> EnvelopeMacKey {
        EnvelopeMacKey(self.subkey(scope, b"synckit/1 envelope mac"))
    }

    pub(crate) fn history_key(&self, scope: &StreamScope) -> HistoryKey {
        HistoryKey(self.subkey(scope, b"synckit/1 envelope history"))
    }

    /// HKDF-SHA256 with salt `app_id || user_id`: the same master key in another stream has other subkeys.
    ///
    /// A shorter output is a prefix of a longer one, so no two subkeys may share a label.
    fn subkey<const N: usize>(&self, scope: &StreamScope, label: &[u8]) -> Zeroizing<[u8; N]> {
        hkdf(&scope.to_bytes(), &self.0, &[label])
    }
}

/// The subkeys of a master key in one stream.
#[derive(Debug, Clone)]
pub struct StreamKeys {
    /// The public id of the master key.
    pub key_id: KeyId,
    /// For batches.
    pub batch: BatchKey,
    /// For blobs.
    pub blob: BlobKey,
    /// For snapshots.
    pub snapshot: SnapshotKey,
}

pub(crate) fn random_bytes<const N: usize>(rng: &mut (impl CryptoRng + RngCore)) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}
