//! The log chain: each position of a stream has a hash of everything before it, like a commit in git.
//!
//! The server computes the chain when it appends, the client when it reads; a different head means a different history.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use sha2::{Digest as _, Sha256};

use crate::{AppId, BatchId, DeviceId, KeyId, UserId, bytes::fixed_bytes};

fixed_bytes!(
    /// The hash of a whole history up to one position.
    Head, 32
);
fixed_bytes!(
    /// SHA-256 of a sealed batch, as stored; or the hash of a sealed blob, which [`crate::SealedHasher`] computes.
    SealedHash, 32
);

impl SealedHash {
    /// Hashes a sealed batch, a part of a sealed blob, or a sealed blob of at most
    /// [`crate::limits::UPLOAD_WHOLE_BYTES_MAX`] bytes.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Position {
    /// The number of entries before this place. Sequences start at 1 and have no gaps.
    pub seq: u64,
    /// The hash of the history up to here.
    pub head: Head,
}

impl<'de> Deserialize<'de> for Position {
    /// From an object only. A derived implementation also takes an array of the fields in JSON, and not in CBOR.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            seq: u64,
            head: Head,
        }

        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Position;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a position")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Position, A::Error> {
                let Fields { seq, head } = Fields::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Position { seq, head })
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl Position {
    /// The start of a stream: SHA-256("synckit/1 stream" || 0 || app_id || user_id).
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

    /// The place after a batch that is appended here.
    ///
    /// `head(n) = SHA-256("synckit/1 log" || 0 || parent_head || first_seq (u64 BE) || count (u32 BE) || batch_id ||
    /// device_id || key_id || SHA-256(sealed))`, with `first_seq = parent_seq + 1`.
    ///
    /// Returns `None` if the sequence would pass `u64::MAX` or the batch claims no entries, which only a lying server
    /// causes.
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

/// The digest of a batch for the chain: enough to hash forward without the contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchDigest {
    /// The batch.
    pub batch_id: BatchId,
    /// The device that pushed it.
    pub device_id: DeviceId,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// The number of entries.
    pub count: u32,
    /// SHA-256 of the sealed bytes.
    pub sealed_hash: SealedHash,
}
