//! Reading of the fixed binary formats: vault, envelope, key ring, manifest.

use synckit_protocol::{Head, Position};

/// Takes fields from the front of a byte string. Every method returns `None` when too few bytes are left.
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

    /// `Some` only if nothing is left: trailing bytes would give one value two encodings.
    pub(crate) const fn end(&self) -> Option<()> {
        if self.0.is_empty() { Some(()) } else { None }
    }
}

/// Writes a position as [`Reader::position`] reads it.
pub(crate) fn put_position(out: &mut Vec<u8>, position: &Position) {
    out.extend_from_slice(&position.seq.to_be_bytes());
    out.extend_from_slice(position.head.as_bytes());
}
