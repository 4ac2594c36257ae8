//! The key ring of a stream: the current master key, the retired ones, and the key of blob ids.
//!
//! An envelope carries it, and a device keeps it in its keychain. Its invariants hold as soon as it is created or read:
//! at most 24 retired keys, in the order of their retirement, each valid up to a position that is not before that of
//! its predecessor and not after the floor.
//!
//! A revoked device still knows the retired keys. Batches under a retired key end at its last position. A snapshot
//! replaces all batches before it, so it could insert rows into the past. Therefore the end of a key also fixes, by its
//! hash, the only snapshot that may be sealed under it.

use rand::{CryptoRng, RngCore};
use synckit_protocol::{KeyId, Position, SealedHash, limits::RETIRED_KEYS_MAX};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    BlobIdKey, KeyError, MasterKey, StreamScope,
    reader::{FORMAT, Reader, put_position, read_format},
};

const WHAT: &str = "key ring";
/// One retired key: `until_seq (u64 BE) || until_head (32) || snapshot (32) || master key (32)`.
pub(crate) const RETIRED_BYTES: usize = 8 + 32 + 32 + 32;
/// The hash value that means no snapshot.
const NO_SNAPSHOT: SealedHash = SealedHash::from_bytes([0; 32]);

/// The keys of a stream.
///
/// # Examples
/// ```
/// use rand::rngs::OsRng;
/// use synckit_crypto::{KeyRing, StreamScope};
/// use synckit_protocol::{AppId, UserId};
///
/// let scope = StreamScope { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// let ring = KeyRing::generate(&scope, &mut OsRng);
/// // To the keychain, and back at the next start.
/// let kept = ring.to_secret_bytes();
/// assert_eq!(KeyRing::from_secret_bytes(&scope, &kept)?, ring);
/// # Ok::<(), synckit_crypto::KeyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRing {
    key_version: u32,
    key_id: KeyId,
    current: MasterKey,
    blob_id_key: BlobIdKey,
    retired: Vec<RetiredKey>,
    floor: Position,
}

/// The end of a retired key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyEnd {
    /// The position after the last batch under it.
    pub until: Position,
    /// SHA-256 of the sealed manifest of the newest snapshot at the rotation: the only one that may be sealed under the
    /// key. `None` if the stream had none.
    pub snapshot: Option<SealedHash>,
}

/// A replaced master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredKey {
    key: MasterKey,
    key_id: KeyId,
    key_version: u32,
    end: KeyEnd,
}

/// A key of a ring, and the part of the log that may be sealed under it.
#[derive(Debug, Clone, Copy)]
pub struct RingKey<'r> {
    /// The key.
    pub key: &'r MasterKey,
    /// Its version.
    pub key_version: u32,
    /// The end of the key, or `None` for the current key.
    pub end: Option<KeyEnd>,
}

impl RingKey<'_> {
    /// Whether a batch that ends at `after` may be sealed under this key.
    ///
    /// A revoked device still knows the key that was retired because of it. So all batches that it seals with the
    /// server's help must end before the rotation, or exactly at it.
    pub fn permits(&self, after: Position) -> bool {
        match self.end {
            None => true,
            Some(KeyEnd { until, .. }) => after.seq < until.seq || after == until,
        }
    }

    /// Whether a snapshot of `position`, whose sealed manifest has this hash, may be sealed under this key.
    ///
    /// A snapshot under a retired key could insert any rows into the past. So only one is allowed: the newest one at
    /// the key's retirement.
    pub fn permits_snapshot(&self, position: Position, manifest: SealedHash) -> bool {
        match self.end {
            None => true,
            Some(end) => self.permits(position) && end.snapshot == Some(manifest),
        }
    }
}

impl RetiredKey {
    /// The key.
    pub const fn key(&self) -> &MasterKey {
        &self.key
    }

    /// Its public id.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Its version.
    pub const fn key_version(&self) -> u32 {
        self.key_version
    }

    /// The end of the key.
    pub const fn end(&self) -> KeyEnd {
        self.end
    }
}

impl KeyRing {
    /// The longest [`Self::to_secret_bytes`]: 2606 bytes.
    pub const SECRET_BYTES_MAX: usize = 1 + 4 + 32 + 32 + 40 + 1 + RETIRED_KEYS_MAX * RETIRED_BYTES;

    /// Creates the keys of a new stream: version 1, no retired keys, the floor at the start.
    pub fn generate(scope: &StreamScope, rng: &mut (impl CryptoRng + RngCore)) -> Self {
        let current = MasterKey::generate(rng);
        Self {
            key_version: 1,
            key_id: current.key_id(scope),
            current,
            blob_id_key: BlobIdKey::generate(rng),
            retired: Vec::new(),
            floor: Position::start_of(scope.app_id, scope.user_id),
        }
    }

    /// The version of the current master key, counted from 1.
    pub const fn key_version(&self) -> u32 {
        self.key_version
    }

    /// The public id of the current master key.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The current master key.
    pub const fn current(&self) -> &MasterKey {
        &self.current
    }

    /// The key of blob ids, unchanged by rotations.
    pub const fn blob_id_key(&self) -> &BlobIdKey {
        &self.blob_id_key
    }

    /// The retired master keys, oldest first.
    pub fn retired(&self) -> &[RetiredKey] {
        &self.retired
    }

    /// The newest position that was known when the ring was last written: a server with an older one went back.
    pub const fn floor(&self) -> Position {
        self.floor
    }

    /// The key with this id, current or retired.
    pub fn key_for(&self, key_id: &KeyId) -> Option<RingKey<'_>> {
        if *key_id == self.key_id {
            return Some(RingKey {
                key: &self.current,
                key_version: self.key_version,
                end: None,
            });
        }
        let retired = self.retired.iter().find(|retired| retired.key_id == *key_id)?;
        Some(RingKey {
            key: &retired.key,
            key_version: retired.key_version,
            end: Some(retired.end),
        })
    }

    /// A ring with a new master key. The present one is retired and ends at `end`: no other snapshot, and no batch
    /// after that position, may be sealed under it.
    ///
    /// `end` is the newest position and the newest snapshot of the stream, which the server must confirm in the same
    /// transaction.
    ///
    /// # Errors
    /// [`KeyError::RotationLimit`], [`KeyError::PositionBehindFloor`].
    pub fn rotate(
        &self,
        scope: &StreamScope,
        end: KeyEnd,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<Self, KeyError> {
        if self.retired.len() >= RETIRED_KEYS_MAX {
            return Err(KeyError::RotationLimit);
        }
        let key_version = self.key_version.checked_add(1).ok_or(KeyError::RotationLimit)?;
        let mut retired = self.retired.clone();
        retired.push(RetiredKey {
            key: self.current.clone(),
            key_id: self.key_id,
            key_version: self.key_version,
            end,
        });
        let current = MasterKey::generate(rng);
        let rotated = Self {
            key_version,
            key_id: current.key_id(scope),
            current,
            blob_id_key: self.blob_id_key.clone(),
            retired,
            floor: self.floor,
        };
        rotated.with_floor(end.until)
    }

    /// The same ring with a newer floor.
    ///
    /// # Errors
    /// [`KeyError::PositionBehindFloor`] if `floor` lies before the present one, or at the same sequence with another
    /// head: a floor never sinks.
    pub fn with_floor(self, floor: Position) -> Result<Self, KeyError> {
        if follows(self.floor, floor) {
            Ok(Self { floor, ..self })
        } else {
            Err(KeyError::PositionBehindFloor)
        }
    }

    /// The ring for a stream whose server was restored from a backup. The server's history branches off from this
    /// ring's after `common`, and its newest position is that of `end`. Keys that were retired after `common`, in the
    /// lost history, end there instead, because the server accepted batches and snapshots under them up to there. The
    /// same applies to keys in use on the server, whose versions start at `in_use`. The position of `end` becomes the
    /// floor.
    ///
    /// Only this lowers a floor: by the user's decision, never because a server says so.
    ///
    /// # Errors
    /// [`KeyError::PositionBehindFloor`] if `end` does not follow `common`.
    pub fn rebase(&self, common: Position, end: KeyEnd, in_use: u32) -> Result<Self, KeyError> {
        if !follows(common, end.until) {
            return Err(KeyError::PositionBehindFloor);
        }
        let mut rebased = self.clone();
        rebased.floor = end.until;
        for retired in &mut rebased.retired {
            if !follows(retired.end.until, common) || retired.key_version >= in_use {
                retired.end = end;
            }
        }
        Ok(rebased)
    }

    /// The ring in at most [`Self::SECRET_BYTES_MAX`] bytes, for the keychain. Secret.
    ///
    /// `format (1 byte, 1) || key_version (u32 BE) || master key (32) || blob id key (32) || floor_seq (u64 BE) ||
    /// floor_head (32) || count (1 byte) || count times (until_seq (u64 BE) || until_head (32) || snapshot (32) || master
    /// key (32))`. The retired keys carry the versions right below the current one, oldest first; `snapshot` is the hash
    /// of a manifest, or zeros.
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(Self::SECRET_BYTES_MAX));
        out.push(FORMAT);
        out.extend_from_slice(&self.key_version.to_be_bytes());
        out.extend_from_slice(self.current.expose_bytes());
        out.extend_from_slice(self.blob_id_key.expose_bytes());
        put_position(&mut out, &self.floor);
        // RETIRED_KEYS_MAX fits a byte, and the invariant keeps the count below it.
        out.push(u8::try_from(self.retired.len()).unwrap_or(u8::MAX));
        self.put_retired(&mut out);
        out
    }

    /// Reads the output of [`Self::to_secret_bytes`] for the same stream.
    ///
    /// # Errors
    /// [`KeyError::UnsupportedFormat`], [`KeyError::Malformed`].
    pub fn from_secret_bytes(scope: &StreamScope, bytes: &[u8]) -> Result<Self, KeyError> {
        read_format(WHAT, bytes, |reader| {
            let key_version = reader.u32()?;
            let current = MasterKey::from_bytes(reader.array()?);
            let blob_id_key = BlobIdKey::from_bytes(reader.array()?);
            let floor = reader.position()?;
            let count = usize::from(reader.u8()?);
            let retired = reader.bytes(count * RETIRED_BYTES)?;
            Self::from_parts(scope, key_version, current, blob_id_key, retired, floor)
        })
    }

    /// Builds a ring and checks its invariants. `retired` is the output of [`Self::put_retired`].
    pub(crate) fn from_parts(
        scope: &StreamScope,
        key_version: u32,
        current: MasterKey,
        blob_id_key: BlobIdKey,
        retired: &[u8],
        floor: Position,
    ) -> Option<Self> {
        let count = retired.len() / RETIRED_BYTES;
        if count > RETIRED_KEYS_MAX || !retired.len().is_multiple_of(RETIRED_BYTES) {
            return None;
        }
        // Versions count from 1 and have no gaps, so the current one determines the oldest.
        let oldest = key_version
            .checked_sub(u32::try_from(count).ok()?)
            .filter(|oldest| *oldest >= 1)?;
        let key_id = current.key_id(scope);
        let mut ring = Self {
            key_version,
            key_id,
            current,
            blob_id_key,
            retired: Vec::with_capacity(count),
            floor,
        };
        let mut reader = Reader::new(retired);
        let mut previous = Position::start_of(scope.app_id, scope.user_id);
        for version in oldest..key_version {
            let until = reader.position()?;
            let snapshot = Some(SealedHash::from_bytes(reader.array()?)).filter(|hash| *hash != NO_SNAPSHOT);
            let mut bytes = reader.array()?;
            let key = MasterKey::from_bytes(bytes);
            bytes.zeroize();
            let key_id = key.key_id(scope);
            // A key that occurs twice would be both retired and current.
            if ring.key_for(&key_id).is_some() || !follows(previous, until) {
                return None;
            }
            ring.retired.push(RetiredKey {
                key,
                key_id,
                key_version: version,
                end: KeyEnd { until, snapshot },
            });
            previous = until;
        }
        follows(previous, floor).then_some(ring)
    }

    /// Appends the retired keys, oldest first.
    pub(crate) fn put_retired(&self, out: &mut Vec<u8>) {
        for retired in &self.retired {
            put_position(out, &retired.end.until);
            out.extend_from_slice(retired.end.snapshot.unwrap_or(NO_SNAPSHOT).as_bytes());
            out.extend_from_slice(retired.key.expose_bytes());
        }
    }
}

/// Whether `later` is `earlier` or comes after it, as far as sequences show.
fn follows(earlier: Position, later: Position) -> bool {
    later.seq > earlier.seq || later == earlier
}
