//! Batches: 1 to 500 changes, sealed together for one place in the log.
//!
//! ```text
//! body      = CBOR [names [text...], entries [[table, op, row_id, timestamp(, data)], ...]]
//! plaintext = method (1 byte, 0) || body length (u32 BE) || body || zeros up to the Padmé length
//! sealed    = nonce (24) || XChaCha20-Poly1305(batch subkey, nonce, aad, plaintext)
//! aad       = "synckit/1 batch" || 0 || app_id || user_id || device_id || batch_id || key_id || count (u32 BE)
//!             || parent_seq (u64 BE) || parent_head (32)
//! ```
//!
//! The AAD names the exact history that the batch was added to, so the batch opens at no other place and in no other
//! log. The body has exactly one encoding (`docs/protocol.md`, section 5): a decoded body encodes to the same bytes.
//!
//! Nothing is compressed: the size of compressed data would reveal secrets beside text that others can inject.

mod body;
mod change;
mod decode;
mod encode;
mod number;

use rand::{CryptoRng, RngCore};
use synckit_protocol::{BatchId, DeviceId, KeyId, Position};

pub use self::{
    body::BatchBody,
    change::{ChangeEntry, ChangeOp, Timestamp, TimestampRangeError},
    encode::{EncodeError, EncodeErrorKind},
};
pub(crate) use self::{
    body::open_framed,
    decode::decode_body,
    encode::{encode_prefix, entry_len_max},
};
use crate::{BatchKey, OpenError, StreamScope, aead};

/// The place that a batch is sealed for.
///
/// # Examples
/// ```
/// use synckit_crypto::{StreamScope, batch::BatchContext};
/// use synckit_protocol::{AppId, BatchId, DeviceId, Position, UserId};
///
/// let scope = StreamScope { app_id: AppId::from_bytes([1; 16]), user_id: UserId::from_bytes([2; 16]) };
/// let first_batch = BatchContext {
///     scope,
///     device_id: DeviceId::from_bytes([3; 16]),
///     batch_id: BatchId::from_bytes([4; 16]),
///     parent: Position::start_of(scope.app_id, scope.user_id),
/// };
/// assert_eq!(first_batch.parent.seq, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchContext {
    /// The stream.
    pub scope: StreamScope,
    /// The device that seals it.
    pub device_id: DeviceId,
    /// The batch.
    pub batch_id: BatchId,
    /// The position that it is added to.
    pub parent: Position,
}

impl BatchContext {
    fn aad(&self, key_id: &KeyId, count: u32) -> Vec<u8> {
        let parts: [&[u8]; 8] = [
            b"synckit/1 batch\0",
            &self.scope.to_bytes(),
            self.device_id.as_bytes(),
            self.batch_id.as_bytes(),
            key_id.as_bytes(),
            &count.to_be_bytes(),
            &self.parent.seq.to_be_bytes(),
            self.parent.head.as_bytes(),
        ];
        parts.concat()
    }
}

impl BatchKey {
    /// Seals a body for a place, under a fresh nonce. `key_id` is the id of this key's master key.
    ///
    /// After a lost race for the place, the same body is sealed again with the new parent.
    pub fn seal(
        &self,
        key_id: &KeyId,
        context: &BatchContext,
        body: &BatchBody,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Vec<u8> {
        aead::seal(
            self.expose_bytes(),
            &context.aad(key_id, body.count()),
            body.plaintext(),
            rng,
        )
    }

    /// Opens a batch at a place, as a batch of `count` entries.
    ///
    /// # Errors
    /// [`OpenError`]: no honest device sealed these bytes for this place.
    pub fn open(
        &self,
        key_id: &KeyId,
        context: &BatchContext,
        count: u32,
        sealed: &[u8],
    ) -> Result<Vec<ChangeEntry>, OpenError> {
        let plaintext = aead::open(self.expose_bytes(), &context.aad(key_id, count), sealed)?;
        BatchBody::decode(&plaintext, count)
    }
}
