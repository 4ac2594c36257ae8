//! Proof of the master key to the server: the messages that the owner key of a stream signs.
//!
//! Every master key has an Ed25519 key pair (RFC 8032), derived from it. The server stores the current public key
//! beside the envelope. So it can distinguish a holder of the key from a holder of only a token, and can sign nothing
//! itself. This module has the messages, because both sides must build the same bytes. `synckit-crypto` signs, the
//! server verifies.
//!
//! Invariant: a message names its purpose, the stream, and everything that the request changes, so that a signature is
//! valid only for the stream, envelope, version, snapshot and purpose that it was made for.

use sha2::{Digest as _, Sha256};

use crate::{AppId, KeyId, Position, SnapshotId, UserId, bytes::fixed_bytes};

fixed_bytes!(
    /// The public half of a stream's owner key: an Ed25519 public key, derived from the current master key.
    OwnerKey, 32
);
fixed_bytes!(
    /// An Ed25519 signature by an owner key.
    OwnerSignature, 64
);

/// The signed message for writing an envelope. The signer is the owner key of the replaced envelope or, if the server
/// has none, the owner key in the new one.
///
/// # Examples
/// ```
/// use synckit_protocol::{AppId, EnvelopeClaim, KeyId, OwnerKey, UserId};
///
/// let claim = EnvelopeClaim {
///     app_id: AppId::from_bytes([1; 16]),
///     user_id: UserId::from_bytes([2; 16]),
///     expected_version: 0,
///     key_id: KeyId::from_bytes([3; 16]),
///     owner: OwnerKey::from_bytes([4; 32]),
///     envelope: b"sealed keys",
///     head: None,
///     snapshot: None,
/// };
/// // The same request for another account is a different message, so the signature is invalid for it.
/// let of_another = EnvelopeClaim { user_id: UserId::from_bytes([9; 16]), ..claim };
/// assert_ne!(of_another.message(), claim.message());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct EnvelopeClaim<'a> {
    /// The app of the stream.
    pub app_id: AppId,
    /// The account of the stream.
    pub user_id: UserId,
    /// The version that the envelope replaces, 0 for the first.
    pub expected_version: u64,
    /// The master key that becomes the current one.
    pub key_id: KeyId,
    /// The owner key of that master key.
    pub owner: OwnerKey,
    /// The envelope.
    pub envelope: &'a [u8],
    /// The stream's head, if the request contains it.
    pub head: Option<Position>,
    /// The stream's newest snapshot, if the request contains it.
    pub snapshot: Option<SnapshotId>,
}

impl EnvelopeClaim<'_> {
    /// The message: `"synckit/1 envelope put" || 0 || app_id || user_id || expected_version (u64 BE) || key_id || owner
    /// key (32) || SHA-256(envelope) || head || snapshot_id`. `head` is its 40 bytes, or nothing; the last 16 bytes are
    /// present if the request names a snapshot.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let mut message = begin(b"synckit/1 envelope put\0", self.app_id, self.user_id);
        message.extend_from_slice(&self.expected_version.to_be_bytes());
        message.extend_from_slice(self.key_id.as_bytes());
        message.extend_from_slice(self.owner.as_bytes());
        message.extend_from_slice(&Sha256::digest(self.envelope));
        if let Some(head) = self.head {
            put_position(&mut message, head);
        }
        if let Some(snapshot) = self.snapshot {
            message.extend_from_slice(snapshot.as_bytes());
        }
        message
    }
}

/// The signed message for completing a snapshot, by the owner key of the current envelope.
///
/// The sealed manifest commits to every part, so its hash covers them.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotClaim<'a> {
    /// The app of the stream.
    pub app_id: AppId,
    /// The account of the stream.
    pub user_id: UserId,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// The position of the snapshot.
    pub position: Position,
    /// The number of parts.
    pub parts: u32,
    /// The sealed manifest.
    pub manifest: &'a [u8],
}

impl SnapshotClaim<'_> {
    /// The message: `"synckit/1 snapshot put" || 0 || app_id || user_id || snapshot_id || key_id || position (40) ||
    /// parts (u32 BE) || SHA-256(manifest)`.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let mut message = begin(b"synckit/1 snapshot put\0", self.app_id, self.user_id);
        message.extend_from_slice(self.snapshot_id.as_bytes());
        message.extend_from_slice(self.key_id.as_bytes());
        put_position(&mut message, self.position);
        message.extend_from_slice(&self.parts.to_be_bytes());
        message.extend_from_slice(&Sha256::digest(self.manifest));
        message
    }
}

fn begin(label: &[u8], app_id: AppId, user_id: UserId) -> Vec<u8> {
    let mut message = label.to_vec();
    message.extend_from_slice(app_id.as_bytes());
    message.extend_from_slice(user_id.as_bytes());
    message
}

fn put_position(message: &mut Vec<u8>, position: Position) {
    message.extend_from_slice(&position.seq.to_be_bytes());
    message.extend_from_slice(position.head.as_bytes());
}
