//! The parts in which a large sealed blob is uploaded, and the hash of a sealed blob.
//!
//! The hash of a blob that is uploaded in parts is the hash of the hashes of its parts: an object store can compare no other.

use sha2::{Digest as _, Sha256};

use crate::{
    SealedHash,
    limits::{UPLOAD_PART_BYTES, UPLOAD_WHOLE_BYTES_MAX},
};

/// The parts of a sealed blob. They are numbered from 1.
///
/// # Examples
/// ```
/// use synckit_protocol::{Parts, limits::UPLOAD_PART_BYTES};
///
/// assert_eq!(Parts::of(1_000_000), None); // uploaded as a whole
/// let parts = Parts::of(9 * UPLOAD_PART_BYTES + 1).expect("a blob of more than 64 MiB");
/// assert_eq!(parts.count(), 10);
/// assert_eq!(parts.size_of(9), Some(UPLOAD_PART_BYTES));
/// assert_eq!(parts.size_of(10), Some(1));
/// assert_eq!((parts.size_of(0), parts.size_of(11)), (None, None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    size: u64,
}

impl Parts {
    /// The parts of a sealed blob of this size; `None` if it is uploaded as a whole.
    pub const fn of(size: u64) -> Option<Self> {
        if size > UPLOAD_WHOLE_BYTES_MAX {
            Some(Self { size })
        } else {
            None
        }
    }

    /// How many there are.
    pub const fn count(self) -> u64 {
        self.size.div_ceil(UPLOAD_PART_BYTES)
    }

    /// The size of a part; `None` if there is no part of this number.
    pub fn size_of(self, number: u32) -> Option<u64> {
        let before = u64::from(number.checked_sub(1)?) * UPLOAD_PART_BYTES;
        let left = self.size.checked_sub(before).filter(|left| *left > 0)?;
        Some(left.min(UPLOAD_PART_BYTES))
    }
}

/// Hashes a sealed blob, piece by piece: SHA-256 of its bytes, or of the SHA-256 of each of its parts if it has parts.
///
/// # Examples
/// ```
/// use synckit_protocol::{SealedHash, SealedHasher};
///
/// let mut hasher = SealedHasher::new(6);
/// hasher.update(b"sea");
/// hasher.update(b"led");
/// assert_eq!(hasher.finish(), SealedHash::of(b"sealed"));
/// ```
#[derive(Debug, Clone)]
pub struct SealedHasher {
    /// Of the whole blob, or of the part that has begun.
    current: Sha256,
    of_parts: Option<OfParts>,
}

#[derive(Debug, Clone)]
struct OfParts {
    hashes: Sha256,
    /// Bytes that the part which has begun still lacks.
    lacking: u64,
    is_empty: bool,
}

impl SealedHasher {
    /// For a sealed blob of this size.
    pub fn new(size: u64) -> Self {
        let of_parts = || OfParts {
            hashes: Sha256::new(),
            lacking: UPLOAD_PART_BYTES,
            is_empty: true,
        };
        Self {
            current: Sha256::new(),
            of_parts: Parts::of(size).map(|_| of_parts()),
        }
    }

    /// Hashes the next piece.
    pub fn update(&mut self, mut piece: &[u8]) {
        let Some(of_parts) = &mut self.of_parts else {
            self.current.update(piece);
            return;
        };
        while !piece.is_empty() {
            let length = usize::try_from(of_parts.lacking).map_or(piece.len(), |lacking| lacking.min(piece.len()));
            let (now, later) = piece.split_at(length);
            self.current.update(now);
            of_parts.is_empty = false;
            of_parts.lacking -= length as u64;
            if of_parts.lacking == 0 {
                of_parts.hashes.update(self.current.finalize_reset());
                (of_parts.lacking, of_parts.is_empty) = (UPLOAD_PART_BYTES, true);
            }
            piece = later;
        }
    }

    /// The hash.
    pub fn finish(self) -> SealedHash {
        let hash = match self.of_parts {
            None => self.current.finalize(),
            Some(of_parts) if of_parts.is_empty => of_parts.hashes.finalize(),
            Some(of_parts) => of_parts.hashes.chain_update(self.current.finalize()).finalize(),
        };
        SealedHash::from_bytes(hash.into())
    }

    /// The hash of a sealed blob from those of its parts, in their order.
    pub fn of_parts(hashes: impl IntoIterator<Item = SealedHash>) -> SealedHash {
        let mut of_parts = Sha256::new();
        for hash in hashes {
            of_parts.update(hash.as_bytes());
        }
        SealedHash::from_bytes(of_parts.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{BLOB_SEALED_BYTES_MAX, UPLOAD_PARTS_MAX};

    #[test]
    fn parts_cover_a_blob_exactly() {
        for size in [
            UPLOAD_WHOLE_BYTES_MAX + 1,
            9 * UPLOAD_PART_BYTES - 1,
            9 * UPLOAD_PART_BYTES,
            9 * UPLOAD_PART_BYTES + 1,
            BLOB_SEALED_BYTES_MAX,
        ] {
            let parts = Parts::of(size).unwrap();
            let sizes: Vec<u64> = (1..=UPLOAD_PARTS_MAX + 1)
                .map_while(|number| parts.size_of(number))
                .collect();
            assert_eq!((sizes.len() as u64, sizes.iter().sum()), (parts.count(), size));
            assert!(sizes.len() <= UPLOAD_PARTS_MAX as usize);
        }
        assert_eq!(Parts::of(UPLOAD_WHOLE_BYTES_MAX), None);
        assert_eq!(Parts::of(u64::MAX).unwrap().size_of(u32::MAX), Some(UPLOAD_PART_BYTES));
    }

    #[test]
    fn a_hash_of_parts_is_that_of_their_hashes() {
        let part = vec![7; UPLOAD_PART_BYTES as usize];
        for (whole_parts, rest) in [(8_u64, 1_usize), (9, 0), (8, 100_000)] {
            let mut hasher = SealedHasher::new(whole_parts * UPLOAD_PART_BYTES + rest as u64);
            // Pieces that end at no border of a part.
            let bytes: Vec<u8> = std::iter::repeat_n(7, whole_parts as usize * part.len() + rest).collect();
            bytes.chunks(3_000_001).for_each(|piece| hasher.update(piece));
            let last = (rest > 0).then(|| SealedHash::of(&part[..rest]));
            let hashes = std::iter::repeat_n(SealedHash::of(&part), whole_parts as usize).chain(last);
            assert_eq!(hasher.finish(), SealedHasher::of_parts(hashes));
        }
    }
}
