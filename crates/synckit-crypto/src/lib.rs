//! The cryptography of SyncKit: from the account key to sealed rows, files and snapshots.
//!
//! ```text
//! ExportKey (password) \
//!                       > Vault -> AccountKey -> Envelope (one per stream) -> KeyRing -> MasterKey, BlobIdKey
//! RecoveryCode         /
//! MasterKey -> StreamKeys: BatchKey, BlobKey, SnapshotKey, and the public KeyId
//! MasterKey -> OwnerSigningKey, whose public half the server keeps
//! ```
//!
//! This crate deliberately does no I/O, reads no clock, and has no randomness of its own. Bytes, time and random
//! numbers are arguments, so the same code runs in the SDK, in the test vectors and in WebAssembly. The server does not
//! link it.
//!
//! Invariants: every key is a type of its own, erased when dropped, redacted in `Debug` and compared in constant time.
//! Every format has exactly one encoding, and its decoder refuses everything else. No input makes a function panic.
//!
//! The normative text of all formats is `docs/protocol.md`; `vectors/` pins them byte by byte.
//!
//! ```
//! use rand::rngs::OsRng;
//! use synckit_crypto::{
//!     KeyRing, StreamScope,
//!     batch::{BatchBody, BatchContext, ChangeEntry, ChangeOp, Timestamp},
//! };
//! use synckit_protocol::{AppId, BatchId, DeviceId, Position, UserId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let scope = StreamScope {
//!     app_id: AppId::from_bytes([1; 16]),
//!     user_id: UserId::from_bytes([2; 16]),
//! };
//! let keys = KeyRing::generate(&scope, &mut OsRng).current().subkeys(&scope);
//! let place = BatchContext {
//!     scope,
//!     device_id: DeviceId::from_bytes([3; 16]),
//!     batch_id: BatchId::from_bytes([4; 16]),
//!     parent: Position::start_of(scope.app_id, scope.user_id),
//! };
//! let changes = [ChangeEntry {
//!     table: "notes".into(),
//!     op: ChangeOp::Insert,
//!     row_id: "1".into(),
//!     timestamp: Timestamp::from_micros(0),
//!     data: Some(serde_json::json!({"title": "Hello"})),
//! }];
//! let body = BatchBody::encode(&changes)?;
//! let sealed = keys.batch.seal(&keys.key_id, &place, &body, &mut OsRng);
//! assert_eq!(keys.batch.open(&keys.key_id, &place, 1, &sealed)?, changes);
//! # Ok(())
//! # }
//! ```

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod aead;
pub mod batch;
pub mod blob;
mod derive;
mod envelope;
mod error;
mod keys;
mod owner;
mod padding;
mod reader;
mod recovery;
mod ring;
mod safety_code;
pub mod snapshot;
mod vault;
#[cfg(test)]
mod wycheproof_tests;

pub use envelope::Envelope;
pub use error::{KeyError, OpenError, RecoveryCodeError};
pub use keys::{AccountKey, BatchKey, BlobIdKey, BlobKey, MasterKey, SnapshotKey, StreamKeys, StreamScope};
pub use owner::OwnerSigningKey;
pub use padding::padded_len;
pub use recovery::RecoveryCode;
pub use ring::{KeyEnd, KeyRing, RetiredKey, RingKey};
pub use safety_code::SafetyCode;
pub use synckit_protocol::VaultEdition;
pub use vault::Vault;
