//! The bytes of values under a hash: `docs/rows.md`, section 4.
//!
//! Every item begins with its kind and, where it can differ, its length. So no two lists of items have the same bytes.

use sha2::{Digest as _, Sha256};

use super::value::{FileKind, Value};

/// A SHA-256 under construction, begun with a label of its own for each purpose.
pub(super) struct Digest(Sha256);

impl Digest {
    pub(super) fn begin(label: &str) -> Self {
        Self(Sha256::new().chain_update(label).chain_update([0]))
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.0.update([0]),
            Value::Integer(number) => {
                self.0.update([1]);
                self.0.update(number.to_be_bytes());
            }
            Value::Real(real) => {
                self.0.update([2]);
                self.0.update(real.get().to_bits().to_be_bytes());
            }
            Value::Text(text) => self.tagged(3, text),
            Value::Blob(blob) => self.tagged(4, blob),
            Value::Row(id) => self.tagged(5, id.as_str().as_bytes()),
            Value::File(file) => {
                let kind = match file.kind {
                    FileKind::Text => 3,
                    FileKind::Blob => 4,
                };
                self.0.update([6, kind]);
                self.number(file.size_bytes);
                self.0.update(file.hash.as_bytes());
            }
        }
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.0.update([tag]);
        self.bytes(bytes);
    }

    /// The first 16 bytes.
    pub(super) fn finish(self) -> [u8; 16] {
        let mut first = [0; 16];
        for (to, from) in first.iter_mut().zip(self.0.finalize()) {
            *to = from;
        }
        first
    }
}
