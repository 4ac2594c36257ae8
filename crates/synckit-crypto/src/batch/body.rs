//! The plaintext of a batch: the encoded body in its frame, padded.

use std::fmt;

use synckit_protocol::limits::{BATCH_ENTRIES_MAX, BATCH_PLAINTEXT_BYTES_MAX};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{ChangeEntry, EncodeError, EncodeErrorKind, decode_body, encode_prefix};
use crate::{OpenError, padded_len};

/// The only method: an uncompressed body.
const METHOD_PLAIN: u8 = 0;
/// Method and body length.
pub(crate) const FRAME_BYTES: usize = 5;

/// The encoded body of a batch, framed and padded, ready to be sealed.
///
/// The sender keeps it until the batch is acknowledged, so that a lost race for a place in the log costs only another
/// sealing. Erased when dropped, redacted in `Debug`.
///
/// # Examples
/// ```
/// use synckit_crypto::batch::{BatchBody, ChangeEntry, ChangeOp, Timestamp};
///
/// # let change = ChangeEntry {
/// #     table: "notes".into(), op: ChangeOp::Delete, row_id: "1".into(), timestamp: Timestamp::default(), data: None,
/// # };
/// let body = BatchBody::encode(&[change.clone()])?;
/// assert_eq!(BatchBody::decode(body.plaintext(), body.count())?, [change]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct BatchBody {
    plaintext: Vec<u8>,
    count: u32,
}

impl BatchBody {
    /// Encodes all of `entries` as one batch.
    ///
    /// # Errors
    /// [`EncodeError`] names the entry. Besides the errors of one entry, [`EncodeErrorKind::BatchTooLarge`] names the
    /// first entry that no longer fits.
    pub fn encode(entries: &[ChangeEntry]) -> Result<Self, EncodeError> {
        let (taken, body) = Self::encode_prefix(entries)?;
        if taken < entries.len() {
            return Err(EncodeError {
                index: taken,
                kind: EncodeErrorKind::BatchTooLarge,
            });
        }
        Ok(body)
    }

    /// Encodes as many of `entries`, from the first, as fit one batch: 500 entries and 4 MiB of padded plaintext.
    /// Returns their number, at least 1, and the body.
    ///
    /// # Errors
    /// [`EncodeError`] if the first entry fits no batch, or if `entries` is empty.
    pub fn encode_prefix(entries: &[ChangeEntry]) -> Result<(usize, Self), EncodeError> {
        let (taken, plaintext) = encode_prefix(entries, BATCH_ENTRIES_MAX)?;
        // At most BATCH_ENTRIES_MAX, which is a u32.
        let count = u32::try_from(taken).unwrap_or(u32::MAX);
        Ok((taken, Self { plaintext, count }))
    }

    /// Decodes a plaintext of `count` entries, which must be exactly as this library encodes them.
    ///
    /// # Errors
    /// [`OpenError::Malformed`].
    pub fn decode(plaintext: &[u8], count: u32) -> Result<Vec<ChangeEntry>, OpenError> {
        let entries = decode_body(open_framed(plaintext)?, BATCH_ENTRIES_MAX)?;
        if entries.len() == count as usize {
            Ok(entries)
        } else {
            Err(OpenError::Malformed {
                reason: "not as many entries as claimed",
            })
        }
    }

    /// The number of bytes that are sealed.
    pub const fn encoded_bytes(&self) -> usize {
        self.plaintext.len()
    }

    /// The number of entries.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The length of the plaintext in bytes, padding included. The sealed batch is 40 bytes longer.
    pub fn plaintext_len(&self) -> usize {
        self.plaintext.len()
    }

    /// The plaintext, to be sealed. Secret.
    pub fn plaintext(&self) -> &[u8] {
        &self.plaintext
    }
}

impl fmt::Debug for BatchBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBody")
            .field("count", &self.count)
            .field("plaintext_len", &self.plaintext.len())
            .finish_non_exhaustive()
    }
}

/// Begins a plaintext for a body of a known length.
pub(crate) fn begin_frame(body_len: usize) -> Vec<u8> {
    // Reserved in full: a growing buffer would leave copies of the plaintext in memory.
    let mut plaintext = Vec::with_capacity(padded_len(FRAME_BYTES + body_len));
    plaintext.push(METHOD_PLAIN);
    // The caller checked the length against BATCH_PLAINTEXT_BYTES_MAX.
    plaintext.extend_from_slice(&u32::try_from(body_len).unwrap_or(u32::MAX).to_be_bytes());
    plaintext
}

/// Pads a plaintext whose body is complete.
pub(crate) fn end_frame(plaintext: &mut Vec<u8>) {
    plaintext.resize(padded_len(plaintext.len()), 0);
}

/// The body inside a plaintext, whose frame and padding must be exactly right.
pub(crate) fn open_framed(plaintext: &[u8]) -> Result<&[u8], OpenError> {
    const fn malformed(reason: &'static str) -> OpenError {
        OpenError::Malformed { reason }
    }
    if plaintext.len() > BATCH_PLAINTEXT_BYTES_MAX {
        return Err(malformed("plaintext over 4 MiB"));
    }
    let ([method, length @ ..], rest) = plaintext
        .split_first_chunk::<FRAME_BYTES>()
        .ok_or(malformed("plaintext too short"))?;
    if *method != METHOD_PLAIN {
        return Err(malformed("unknown method"));
    }
    let length = u32::from_be_bytes(*length) as usize;
    let (body, padding) = rest
        .split_at_checked(length)
        .ok_or(malformed("body longer than the plaintext"))?;
    if plaintext.len() != padded_len(FRAME_BYTES + length) {
        return Err(malformed("padding of the wrong length"));
    }
    if padding.iter().any(|byte| *byte != 0) {
        return Err(malformed("padding that is not zero"));
    }
    Ok(body)
}
