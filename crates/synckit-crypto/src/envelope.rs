//! The envelope: the key ring of one stream, wrapped under the account key, as stored on the server.
//!
//! ```text
//! envelope = header (73) || salt (32) || commitment (32) || wrapped (104) || history length (u16 BE) || history || mac (32)
//! header   = format (1 byte, 1) || vault_generation (u32 BE) || vault_count (u32 BE) || version (u64 BE)
//!            || key_version (u32 BE) || key_id (16) || floor_seq (u64 BE) || floor_head (32)
//! wrapped  = nonce (24) || sealed (master key (32) || blob id key (32)) || tag (16)
//! history  = nothing, or nonce (24) || sealed (n times (until_seq (u64 BE) || until_head (32) || snapshot (32)
//!            || master key (32))) || tag
//! ```
//!
//! `wrapped` is sealed under HKDF(account key, salt, "synckit/1 kek" || app_id || user_id), `history` under the subkey
//! "synckit/1 envelope history" of the current master key. The key of the MAC is its subkey "synckit/1 envelope mac".
//! The AADs are `"synckit/1 envelope" || 0 || app_id || user_id || header` and
//! `"synckit/1 envelope history" || 0 || app_id || user_id || header`.

use std::fmt;

use rand::{CryptoRng, RngCore};
use subtle::ConstantTimeEq as _;
use synckit_protocol::{KeyId, Position};
use zeroize::Zeroizing;

use crate::{
    AccountKey, BlobIdKey, KeyError, KeyRing, MasterKey, StreamScope, VaultEdition,
    aead::{self, OVERHEAD_BYTES},
    derive::{WrappingKey, hmac},
    keys::random_bytes,
    reader::{FORMAT, Reader, put_position, read_format},
    ring::RETIRED_BYTES,
};

const WHAT: &str = "key envelope";
const WRAPPED_BYTES: usize = 64 + OVERHEAD_BYTES;

/// The envelope of a stream: public bytes, from which only the account key opens a key ring.
///
/// # Examples
/// ```
/// use rand::rngs::OsRng;
/// use synckit_crypto::{AccountKey, Envelope, KeyError, KeyRing, StreamScope, VaultEdition};
/// use synckit_protocol::{AppId, UserId};
///
/// let scope = StreamScope { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// let (account_key, ring) = (AccountKey::generate(&mut OsRng), KeyRing::generate(&scope, &mut OsRng));
/// let edition = VaultEdition { generation: 1, count: 1 }; // of the vault that holds the account key
/// let stored = Envelope::seal(&scope, &account_key, edition, 1, &ring, &mut OsRng)?.encode();
/// // On the second device.
/// assert_eq!(Envelope::decode(&stored)?.open(&scope, &account_key)?, ring);
/// # Ok::<(), KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    header: Header,
    salt: [u8; 32],
    commitment: [u8; 32],
    wrapped: [u8; WRAPPED_BYTES],
    history: Vec<u8>,
    mac: [u8; 32],
}

/// The unencrypted fields of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    vault_edition: VaultEdition,
    version: u64,
    key_version: u32,
    key_id: KeyId,
    floor: Position,
}

impl Envelope {
    /// Wraps a key ring under an account key.
    ///
    /// `vault_edition` is the edition of the vault that holds the account key: a device that opens the envelope then
    /// recognises older vaults. `version` is the version that the server will give the envelope: that of the replaced
    /// one, plus 1.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] if one of them is 0: all count from 1.
    pub fn seal(
        scope: &StreamScope,
        account_key: &AccountKey,
        vault_edition: VaultEdition,
        version: u64,
        ring: &KeyRing,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<Self, KeyError> {
        if vault_edition.generation == 0 || vault_edition.count == 0 || version == 0 {
            return Err(KeyError::Malformed { what: WHAT });
        }
        let header = Header {
            vault_edition,
            version,
            key_version: ring.key_version(),
            key_id: ring.key_id(),
            floor: ring.floor(),
        };
        let salt = random_bytes(rng);
        let wrapping = wrapping_key(scope, account_key, &salt);
        let mut keys = Zeroizing::new(Vec::with_capacity(64));
        keys.extend_from_slice(ring.current().expose_bytes());
        keys.extend_from_slice(ring.blob_id_key().expose_bytes());
        let mut wrapped = [0; WRAPPED_BYTES];
        wrapped.copy_from_slice(&aead::seal(&wrapping.key, &header.wrap_aad(scope), &keys, rng));
        let history = if ring.retired().is_empty() {
            Vec::new()
        } else {
            let mut retired = Zeroizing::new(Vec::with_capacity(ring.retired().len() * RETIRED_BYTES));
            ring.put_retired(&mut retired);
            let key = ring.current().history_key(scope);
            aead::seal(&key.0, &header.history_aad(scope), &retired, rng)
        };
        let mut envelope = Self {
            header,
            salt,
            commitment: *wrapping.commitment(),
            wrapped,
            history,
            mac: [0; 32],
        };
        envelope.mac = envelope.mac_under(scope, ring.current());
        Ok(envelope)
    }

    /// Unwraps the key ring.
    ///
    /// Afterwards everything in the envelope is authentic, including its unencrypted fields.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`]: another account key (the account's password was reset, if the generations differ),
    /// another stream, or changed bytes.
    pub fn open(&self, scope: &StreamScope, account_key: &AccountKey) -> Result<KeyRing, KeyError> {
        let wrapping = wrapping_key(scope, account_key, &self.salt);
        if !wrapping.matches(&self.commitment) {
            return Err(KeyError::WrongKey);
        }
        let keys =
            aead::open(&wrapping.key, &self.header.wrap_aad(scope), &self.wrapped).map_err(|_| KeyError::WrongKey)?;
        let mut reader = Reader::new(&keys);
        let (Some(current), Some(blob_id_key)) = (reader.array(), reader.array()) else {
            return Err(KeyError::WrongKey);
        };
        let (current, blob_id_key) = (MasterKey::from_bytes(current), BlobIdKey::from_bytes(blob_id_key));
        self.key_ring(scope, current, blob_id_key)
    }

    /// The key ring, for a device that already holds the current key: the ends of retired keys, and the floor, come
    /// from the envelope. Needs no account key, hence no password.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`]: the envelope's current key is not that of `held`, or its bytes were changed.
    pub fn open_as_holder(&self, scope: &StreamScope, held: &KeyRing) -> Result<KeyRing, KeyError> {
        // The blob id key of a stream never changes, so the held one is the envelope's.
        self.key_ring(scope, held.current().clone(), held.blob_id_key().clone())
    }

    fn key_ring(&self, scope: &StreamScope, current: MasterKey, blob_id_key: BlobIdKey) -> Result<KeyRing, KeyError> {
        self.verify_mac(scope, &current)?;
        let retired = if self.history.is_empty() {
            Zeroizing::new(Vec::new())
        } else {
            let key = current.history_key(scope);
            aead::open(&key.0, &self.header.history_aad(scope), &self.history).map_err(|_| KeyError::WrongKey)?
        };
        let Header { key_version, floor, .. } = self.header;
        KeyRing::from_parts(scope, key_version, current, blob_id_key, &retired, floor)
            .ok_or(KeyError::Malformed { what: WHAT })
    }

    /// Checks that a holder of `master_key` wrote the envelope, and that this is its current key.
    ///
    /// For a device with the key in its keychain, to believe the floor without asking for the password.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`].
    pub fn verify_mac(&self, scope: &StreamScope, master_key: &MasterKey) -> Result<(), KeyError> {
        let same_key = master_key.key_id(scope) == self.header.key_id;
        let same_mac = bool::from(self.mac_under(scope, master_key).ct_eq(&self.mac));
        if same_key && same_mac {
            Ok(())
        } else {
            Err(KeyError::WrongKey)
        }
    }

    /// The version of the envelope. Unauthenticated until [`Self::open`] or [`Self::verify_mac`].
    pub const fn version(&self) -> u64 {
        self.header.version
    }

    /// The id of the current master key. Unauthenticated until [`Self::open`] or [`Self::verify_mac`].
    pub const fn key_id(&self) -> KeyId {
        self.header.key_id
    }

    /// The version of the current master key. Unauthenticated until [`Self::open`] or [`Self::verify_mac`].
    pub const fn key_version(&self) -> u32 {
        self.header.key_version
    }

    /// The generation of the vault whose account key wraps this envelope. Unauthenticated until [`Self::open`] or
    /// [`Self::verify_mac`].
    pub const fn vault_generation(&self) -> u32 {
        self.header.vault_edition.generation
    }

    /// The edition of that vault when the envelope was sealed: a vault with an older edition was rolled back.
    /// Unauthenticated until [`Self::open`] or [`Self::verify_mac`].
    pub const fn vault_edition(&self) -> VaultEdition {
        self.header.vault_edition
    }

    /// The newest position that its writer knew. Unauthenticated until [`Self::open`] or [`Self::verify_mac`].
    pub const fn floor(&self) -> Position {
        self.header.floor
    }

    /// The bytes to store, at most [`synckit_protocol::limits::ENVELOPE_BYTES_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.encode_unauthenticated();
        out.extend_from_slice(&self.mac);
        out
    }

    /// Reads the output of [`Self::encode`]. Nothing is authentic until the envelope was opened.
    ///
    /// # Errors
    /// [`KeyError::UnsupportedFormat`], [`KeyError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        read_format(WHAT, bytes, |reader| {
            let header = Header {
                vault_edition: VaultEdition {
                    generation: reader.u32()?,
                    count: reader.u32()?,
                },
                version: reader.u64()?,
                key_version: reader.u32()?,
                key_id: KeyId::from_bytes(reader.array()?),
                floor: reader.position()?,
            };
            let salt = reader.array()?;
            let commitment = reader.array()?;
            let wrapped = reader.array()?;
            let history_len = usize::from(reader.u16()?);
            let history = reader.bytes(history_len)?.to_vec();
            let mac = reader.array()?;
            // All four count from 1.
            let VaultEdition { generation, count } = header.vault_edition;
            let counts = generation > 0 && count > 0 && header.version > 0 && header.key_version > 0;
            // A sealed history without keys would be a second encoding of no history. The ring checks the keys
            // themselves.
            let whole = history_len == 0 || history_len > OVERHEAD_BYTES;
            (counts && whole).then_some(Self {
                header,
                salt,
                commitment,
                wrapped,
                history,
                mac,
            })
        })
    }

    fn encode_unauthenticated(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.header.put(&mut out);
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.commitment);
        out.extend_from_slice(&self.wrapped);
        // At most 2536 bytes after `seal`, by the ring's invariant; after `decode`, within a u16.
        out.extend_from_slice(&u16::try_from(self.history.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(&self.history);
        out
    }

    fn mac_under(&self, scope: &StreamScope, master_key: &MasterKey) -> [u8; 32] {
        let key = master_key.envelope_mac_key(scope);
        hmac(key.0.as_slice(), &[&self.encode_unauthenticated()])
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl Header {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        out.extend_from_slice(&self.vault_edition.generation.to_be_bytes());
        out.extend_from_slice(&self.vault_edition.count.to_be_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.key_version.to_be_bytes());
        out.extend_from_slice(self.key_id.as_bytes());
        put_position(out, &self.floor);
    }

    fn wrap_aad(&self, scope: &StreamScope) -> Vec<u8> {
        self.aad(b"synckit/1 envelope\0", scope)
    }

    fn history_aad(&self, scope: &StreamScope) -> Vec<u8> {
        self.aad(b"synckit/1 envelope history\0", scope)
    }

    fn aad(&self, label: &[u8], scope: &StreamScope) -> Vec<u8> {
        let mut aad = label.to_vec();
        aad.extend_from_slice(&scope.to_bytes());
        self.put(&mut aad);
        aad
    }
}

fn wrapping_key(scope: &StreamScope, account_key: &AccountKey, salt: &[u8; 32]) -> WrappingKey {
    WrappingKey::derive(salt, account_key.expose_bytes(), &[b"synckit/1 kek", &scope.to_bytes()])
}
