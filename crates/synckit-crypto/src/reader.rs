//! The fixed binary formats: vault, envelope, key ring and manifest. The first byte of each is its format number.

use synckit_protocol::{Head, Position};

use crate::KeyError;

/// The format number that this library writes, and the only one that it reads.
pub(crate) const FORMAT: u8 = 1;

/// Reads a whole byte string: the format number, the fields that `fields` reads, and nothing else. `what` names the
/// format in an error.
///
/// # Errors
/// [`KeyError::UnsupportedFormat`] for a higher number, which a newer version of this library wrote;
/// [`KeyError::Malformed`] for all other errors of the format.
pub(crate) fn read_format<'b, T>(
    what: &'static str,
    bytes: &'b [u8],
    fields: impl FnOnce(&mut Reader<'b>) -> Option<T>,
) -> Result<T, KeyError> {
    let mut reader = Reader(bytes);
    match reader.u8() {
        Some(FORMAT) => {}
        None | Some(0) => return Err(KeyError::Malformed { what }),
        Some(found) => return Err(KeyError::UnsupportedFormat { what, found }),
    }
    let parsed = fields(&mut reader);
    // Trailing bytes would give one value two encodings.
    parsed
        .filter(|_| reader.0.is_empty())
        .ok_or(KeyError::Malformed { what })
}

/// Reads fields from the front of a byte string. Every method returns `None` if too few bytes are left.
pub(crate) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub(crate) const fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'b [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// `seq (u64 BE) || head (32)`.
    pub(crate) fn position(&mut self) -> Option<Position> {
        let seq = self.u64()?;
        let head = Head::from_bytes(self.array()?);
        Some(Position { seq, head })
    }
}

/// Writes a position as [`Reader::position`] reads it.
pub(crate) fn put_position(out: &mut Vec<u8>, position: &Position) {
    out.extend_from_slice(&position.seq.to_be_bytes());
    out.extend_from_slice(position.head.as_bytes());
}
