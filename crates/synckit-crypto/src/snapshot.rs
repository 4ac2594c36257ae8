//! Snapshots: the folded state of a stream at a position, so that the log can be compacted by a server that cannot read
//! it.
//!
//! ```text
//! part     = sealed plaintext in the codec of a batch, up to 4 MiB
//!            aad = "synckit/1 snapshot" || 0 || app_id || user_id || key_id || seq (u64 BE) || head (32) || snapshot_id
//!                  || index (u32 BE) || total (u32 BE)
//! manifest = sealed (format (1 byte, 1) || rows (u64 BE) || total (u32 BE) || total times (SHA-256 of the sealed part (32)
//!            || rows of the part (u32 BE)))
//!            aad = "synckit/1 snapshot manifest" || 0 || app_id || user_id || key_id || seq (u64 BE) || head (32) || snapshot_id
//! ```
//!
//! A snapshot holds the last entry of every row ever written, deletions included. The manifest is read first: it lists
//! the parts, so that parts of two attempts under one id cannot be mixed.

use std::fmt;

use rand::{CryptoRng, RngCore};
use synckit_protocol::{
    KeyId, Position, SealedHash, SnapshotId,
    limits::{BATCH_PLAINTEXT_BYTES_MAX, SNAPSHOT_PART_ROWS_MAX, SNAPSHOT_PARTS_MAX},
};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    OpenError, SnapshotKey, StreamScope, aead,
    batch::{ChangeEntry, EncodeError, EncodeErrorKind, decode_body, encode_prefix, entry_len_max, open_framed},
    reader::{FORMAT, read_format},
};

/// Rows in one part.
pub const PART_ROWS_MAX: u32 = SNAPSHOT_PART_ROWS_MAX;
/// Parts of one snapshot: 64 GiB of rows.
pub const PARTS_MAX: u32 = SNAPSHOT_PARTS_MAX;

/// Bytes of rows in one part, as counted by [`PartBody::row_len_max`]: the plaintext without the frame and the heads of
/// the body. A single row may exceed it.
pub const PART_ROW_BYTES_MAX: usize = BATCH_PLAINTEXT_BYTES_MAX - 32;

/// The place that a snapshot is sealed for.
///
/// # Examples
/// ```
/// use rand::rngs::OsRng;
/// use synckit_crypto::{KeyRing, StreamScope, snapshot::{Manifest, PartBody, PartDigest, SnapshotContext}};
/// # use synckit_crypto::batch::{ChangeEntry, ChangeOp, Timestamp};
/// use synckit_protocol::{AppId, Head, Position, SnapshotId, UserId};
///
/// # let change = ChangeEntry {
/// #     table: "notes".into(), op: ChangeOp::Delete, row_id: "1".into(), timestamp: Timestamp::default(), data: None,
/// # };
/// let scope = StreamScope { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// let keys = KeyRing::generate(&scope, &mut OsRng).current().subkeys(&scope);
/// let place = SnapshotContext {
///     scope,
///     snapshot_id: SnapshotId::from_bytes([5; 16]),
///     position: Position { seq: 75, head: Head::from_bytes([9; 32]) },
/// };
/// // A snapshot of one part: seal it, then the manifest that names it.
/// let (_, body) = PartBody::encode_prefix(&[change.clone()])?;
/// let part = keys.snapshot.seal_part(&keys.key_id, &place, 0, 1, &body, &mut OsRng);
/// let manifest = Manifest::new(vec![PartDigest::of(&body, &part)]).ok_or("too many parts")?;
/// let sealed = keys.snapshot.seal_manifest(&keys.key_id, &place, &manifest, &mut OsRng);
/// // Another device reads the manifest first.
/// let manifest = keys.snapshot.open_manifest(&keys.key_id, &place, &sealed)?;
/// assert_eq!(keys.snapshot.open_part(&keys.key_id, &place, &manifest, 0, &part)?, [change]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotContext {
    /// The stream.
    pub scope: StreamScope,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The position of the snapshot.
    pub position: Position,
}

/// The encoded rows of one part, framed and padded like a batch. Erased when dropped, redacted in `Debug`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PartBody {
    plaintext: Vec<u8>,
    rows: u32,
}

/// One part, as its manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartDigest {
    /// SHA-256 of the sealed part.
    pub sealed_hash: SealedHash,
    /// The number of rows.
    pub rows: u32,
}

/// The contents of a snapshot: its parts in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    parts: Vec<PartDigest>,
}

impl PartBody {
    /// Encodes as many of `rows`, from the first, as fit one part. Returns their number, at least 1, and the body.
    ///
    /// # Errors
    /// [`EncodeError`], as for a batch.
    pub fn encode_prefix(rows: &[ChangeEntry]) -> Result<(usize, Self), EncodeError> {
        let (taken, plaintext) = encode_prefix(rows, PART_ROWS_MAX)?;
        // At most PART_ROWS_MAX, which is a u32.
        let rows = u32::try_from(taken).unwrap_or(u32::MAX);
        Ok((taken, Self { plaintext, rows }))
    }

    /// The most bytes that a row can add to a part. Rows whose sum is at most [`PART_ROW_BYTES_MAX`] fit one part, so
    /// the parts and their number can be planned before the first of them is sealed.
    ///
    /// # Errors
    /// [`EncodeErrorKind`], as for a batch.
    pub fn row_len_max(row: &ChangeEntry) -> Result<usize, EncodeErrorKind> {
        entry_len_max(row)
    }

    /// Decodes the plaintext of a part.
    ///
    /// # Errors
    /// [`OpenError::Malformed`].
    pub fn decode(plaintext: &[u8]) -> Result<Vec<ChangeEntry>, OpenError> {
        decode_body(open_framed(plaintext)?, PART_ROWS_MAX)
    }

    /// The number of rows.
    pub const fn rows(&self) -> u32 {
        self.rows
    }

    /// The plaintext, to be sealed. Secret.
    pub fn plaintext(&self) -> &[u8] {
        &self.plaintext
    }
}

impl fmt::Debug for PartBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartBody")
            .field("rows", &self.rows)
            .field("plaintext_len", &self.plaintext.len())
            .finish_non_exhaustive()
    }
}

impl PartDigest {
    /// The digest of a part that was just sealed.
    pub fn of(body: &PartBody, sealed: &[u8]) -> Self {
        Self {
            sealed_hash: SealedHash::of(sealed),
            rows: body.rows,
        }
    }
}

impl Manifest {
    /// Builds a manifest. `None` if it has more than [`PARTS_MAX`] parts, or an empty one.
    ///
    /// A stream without rows has a manifest without parts.
    pub fn new(parts: Vec<PartDigest>) -> Option<Self> {
        let fits = parts.len() <= PARTS_MAX as usize;
        let rows = parts.iter().all(|part| (1..=PART_ROWS_MAX).contains(&part.rows));
        (fits && rows).then_some(Self { parts })
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[PartDigest] {
        &self.parts
    }

    /// The number of parts: `total` in the AAD of each.
    pub fn total(&self) -> u32 {
        // At most PARTS_MAX, which is a u32.
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX)
    }

    /// The number of rows in the snapshot, deletions included.
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.rows)).sum()
    }

    /// The plaintext of the manifest.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(FORMAT);
        out.extend_from_slice(&self.rows().to_be_bytes());
        out.extend_from_slice(&self.total().to_be_bytes());
        for part in &self.parts {
            out.extend_from_slice(part.sealed_hash.as_bytes());
            out.extend_from_slice(&part.rows.to_be_bytes());
        }
        out
    }

    /// Reads the output of [`Self::encode`].
    ///
    /// # Errors
    /// [`OpenError::Malformed`].
    pub fn decode(plaintext: &[u8]) -> Result<Self, OpenError> {
        const WHAT: &str = "snapshot manifest";
        read_format(WHAT, plaintext, |reader| {
            let rows = reader.u64()?;
            let total = reader.u32()?;
            let mut parts = Vec::new();
            for _ in 0..total {
                let sealed_hash = SealedHash::from_bytes(reader.array()?);
                let rows = reader.u32()?;
                parts.push(PartDigest { sealed_hash, rows });
            }
            Self::new(parts).filter(|manifest| manifest.rows() == rows)
        })
        .map_err(|_| OpenError::Malformed {
            reason: "not a snapshot manifest",
        })
    }
}

impl SnapshotContext {
    fn aad(&self, label: &[u8], key_id: &KeyId) -> Vec<u8> {
        let parts: [&[u8]; 6] = [
            label,
            &self.scope.to_bytes(),
            key_id.as_bytes(),
            &self.position.seq.to_be_bytes(),
            self.position.head.as_bytes(),
            self.snapshot_id.as_bytes(),
        ];
        parts.concat()
    }

    fn part_aad(&self, key_id: &KeyId, index: u32, total: u32) -> Vec<u8> {
        let mut aad = self.aad(b"synckit/1 snapshot\0", key_id);
        aad.extend_from_slice(&index.to_be_bytes());
        aad.extend_from_slice(&total.to_be_bytes());
        aad
    }

    fn manifest_aad(&self, key_id: &KeyId) -> Vec<u8> {
        self.aad(b"synckit/1 snapshot manifest\0", key_id)
    }
}

impl SnapshotKey {
    /// Seals part `index` (from 0) of `total`.
    pub fn seal_part(
        &self,
        key_id: &KeyId,
        context: &SnapshotContext,
        index: u32,
        total: u32,
        body: &PartBody,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Vec<u8> {
        aead::seal(
            self.expose_bytes(),
            &context.part_aad(key_id, index, total),
            body.plaintext(),
            rng,
        )
    }

    /// Opens part `index` (from 0) of the snapshot that `manifest` describes.
    ///
    /// # Errors
    /// [`OpenError`]: this is not the part in the manifest.
    pub fn open_part(
        &self,
        key_id: &KeyId,
        context: &SnapshotContext,
        manifest: &Manifest,
        index: u32,
        sealed: &[u8],
    ) -> Result<Vec<ChangeEntry>, OpenError> {
        let digest = manifest.parts.get(index as usize).ok_or(OpenError::Authentication)?;
        if SealedHash::of(sealed) != digest.sealed_hash {
            return Err(OpenError::Authentication);
        }
        let aad = context.part_aad(key_id, index, manifest.total());
        let rows = PartBody::decode(&aead::open(self.expose_bytes(), &aad, sealed)?)?;
        if rows.len() == digest.rows as usize {
            Ok(rows)
        } else {
            Err(OpenError::Malformed {
                reason: "not as many rows as the manifest says",
            })
        }
    }

    /// Seals a manifest.
    pub fn seal_manifest(
        &self,
        key_id: &KeyId,
        context: &SnapshotContext,
        manifest: &Manifest,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Vec<u8> {
        aead::seal(
            self.expose_bytes(),
            &context.manifest_aad(key_id),
            &manifest.encode(),
            rng,
        )
    }

    /// Opens a manifest.
    ///
    /// # Errors
    /// [`OpenError`]: no honest device sealed these bytes for this place.
    pub fn open_manifest(
        &self,
        key_id: &KeyId,
        context: &SnapshotContext,
        sealed: &[u8],
    ) -> Result<Manifest, OpenError> {
        Manifest::decode(&aead::open(self.expose_bytes(), &context.manifest_aad(key_id), sealed)?)
    }
}
