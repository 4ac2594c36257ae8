//! The log chain: every position of a stream carries a hash of everything before it, like a commit in git.
//!
//! The server computes it when it appends, the client when it reads; a head that differs means another history.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{AppId, BatchId, DeviceId, KeyId, UserId, bytes::fixed_bytes};

fixed_bytes!(
    /// The hash of a whole history up to one position.
    Head, 32
);
fixed_bytes!(
    /// SHA-256 of a sealed batch, as it is stored.
    SealedHash, 32
);

impl SealedHash {
    /// Hashes a sealed batch.
    ///
    /// # Examples
    /// ```
    /// use synckit_protocol::SealedHash;
    ///
    /// assert_eq!(SealedHash::of(b"").to_string(), "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
    /// ```
    pub fn of(sealed: &[u8]) -> Self {
        Self(Sha256::digest(sealed).into())
    }
}

/// A place in a stream: after entry `seq`, with the history that `head` commits to.
///
/// # Examples
/// ```
/// use synckit_protocol::{Head, Position};
///
/// let position = Position { seq: 6, head: Head::from_bytes([0; 32]) };
/// let json = serde_json::to_string(&position)?;
/// assert_eq!(json, r#"{"seq":6,"head":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#);
/// assert_eq!(serde_json::from_str::<Position>(&json)?, position);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Position {
    /// How many entries come before this place. Sequences start at 1 and have no gaps.
    pub seq: u64,
    /// The hash of the history up to here.
    pub head: Head,
}

impl Position {
    /// The start of a stream: SHA-256("synckit/1 stream" || 0 || app_id || user_id).
    ///
    /// # Examples
    /// ```
    /// use synckit_protocol::{AppId, Position, UserId};
    ///
    /// let (app, user) = (AppId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
    /// let start = Position::start_of(app, user);
    /// assert_eq!(start.seq, 0);
    /// // Another account's stream begins at another place, so no batch of the one fits the other.
    /// assert_ne!(start, Position::start_of(app, UserId::from_bytes([3; 16])));
    /// ```
    pub fn start_of(app_id: AppId, user_id: UserId) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"synckit/1 stream\0");
        hash.update(app_id.as_bytes());
        hash.update(user_id.as_bytes());
        Self {
            seq: 0,
            head: Head(hash.finalize().into()),
        }
    }

    /// The place after a batch that was appended here.
    ///
    /// `head(n) = SHA-256("synckit/1 log" || 0 || parent_head || first_seq (u64 BE) || count (u32 BE) || batch_id ||
    /// device_id || key_id || SHA-256(sealed))`, with `first_seq = parent_seq + 1`.
    ///
    /// Returns `None` if the sequence would pass `u64::MAX` or the batch claims no entries, which only a lying server
    /// can bring about.
    ///
    /// # Examples
    /// ```
    /// use synckit_protocol::{AppId, BatchDigest, BatchId, DeviceId, KeyId, Position, SealedHash, UserId};
    ///
    /// let start = Position::start_of(AppId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
    /// let batch = BatchDigest {
    ///     batch_id: BatchId::from_bytes([3; 16]),
    ///     device_id: DeviceId::from_bytes([4; 16]),
    ///     key_id: KeyId::from_bytes([5; 16]),
    ///     count: 20,
    ///     sealed_hash: SealedHash::of(b"the sealed bytes"),
    /// };
    /// let after = start.advance(&batch).ok_or("no such batch")?;
    /// assert_eq!(after.seq, 20);
    /// // Any other byte of the batch would have led to another head.
    /// let changed = BatchDigest { sealed_hash: SealedHash::of(b"the sealed bits"), ..batch };
    /// assert_ne!(start.advance(&changed), Some(after));
    /// assert_eq!(start.advance(&BatchDigest { count: 0, ..batch }), None);
    /// # Ok::<(), &str>(())
    /// ```
    #[must_use]
    pub fn advance(self, batch: &BatchDigest) -> Option<Self> {
        if batch.count == 0 {
            return None;
        }
        let seq = self.seq.checked_add(u64::from(batch.count))?;
        let mut hash = Sha256::new();
        hash.update(b"synckit/1 log\0");
        hash.update(self.head.as_bytes());
        hash.update((self.seq + 1).to_be_bytes());
        hash.update(batch.count.to_be_bytes());
        hash.update(batch.batch_id.as_bytes());
        hash.update(batch.device_id.as_bytes());
        hash.update(batch.key_id.as_bytes());
        hash.update(batch.sealed_hash.as_bytes());
        Some(Self {
            seq,
            head: Head(hash.finalize().into()),
        })
    }
}

/// What the chain needs of a batch: enough to hash forward without its contents.
///
/// # Examples
/// ```
/// use synckit_protocol::{BatchDigest, BatchId, DeviceId, KeyId, SealedHash};
///
/// // What a batch adds to the chain can be checked without the batch itself.
/// let sealed = b"what the device sealed";
/// let digest = BatchDigest {
///     batch_id: BatchId::from_bytes([3; 16]),
///     device_id: DeviceId::from_bytes([4; 16]),
///     key_id: KeyId::from_bytes([5; 16]),
///     count: 20,
///     sealed_hash: SealedHash::of(sealed),
/// };
/// let read: BatchDigest = serde_json::from_str(&serde_json::to_string(&digest)?)?;
/// assert_eq!(read.sealed_hash, SealedHash::of(sealed));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchDigest {
    /// The batch.
    pub batch_id: BatchId,
    /// The device that pushed it.
    pub device_id: DeviceId,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// How many entries it holds.
    pub count: u32,
    /// SHA-256 of the sealed bytes.
    pub sealed_hash: SealedHash,
}
