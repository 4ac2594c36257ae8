//! `/api/sync/keys`: the envelope of a stream.

use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use crate::{AppId, ByteString, EnvelopeClaim, KeyId, OwnerKey, OwnerSignature, Position, SnapshotId, UserId};

/// `PUT /api/sync/keys`.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::keys::PutEnvelope;
///
/// let json = concat!(
///     r#"{"envelope":"AQAA","key_id":"d558363920333aa915896fb8f72e0b8e","expected_version":0,"#,
///     r#""owner":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ","#,
///     r#""signature":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQ"}"#,
/// );
/// let put: PutEnvelope = serde_json::from_str(json)?;
/// assert_eq!(put.expected_version, 0); // the first one
/// assert_eq!(serde_json::to_string(&put)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PutEnvelope {
    /// The envelope, at most 4 KB.
    pub envelope: ByteString,
    /// The id of its current master key. The server accepts batches under this key only.
    pub key_id: KeyId,
    /// The version of the replaced envelope, 0 for the first; any other is `version_conflict`.
    pub expected_version: u64,
    /// The stream's head, required for a change of the master key: the retired key ends there, so no batch may be
    /// appended meanwhile. Another head is `behind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Position>,
    /// The stream's newest snapshot, required for a change of the master key if a snapshot exists: no other one may be
    /// sealed under the retired key. Another snapshot is `snapshot_stale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// The owner key of its current master key.
    pub owner: OwnerKey,
    /// A signature of [`Self::claim`] by the owner key of the replaced envelope; for the first envelope, by `owner`.
    /// Any other signature is `owner_proof_invalid`.
    pub signature: OwnerSignature,
}

impl PutEnvelope {
    /// The signed message.
    pub fn claim(&self, app_id: AppId, user_id: UserId) -> EnvelopeClaim<'_> {
        EnvelopeClaim {
            app_id,
            user_id,
            expected_version: self.expected_version,
            key_id: self.key_id,
            owner: self.owner,
            envelope: &self.envelope.0,
            head: self.head,
            snapshot: self.snapshot,
        }
    }
}

/// The answer to [`PutEnvelope`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnvelopeWritten {
    /// The version that was written.
    pub version: u64,
}

/// `GET /api/sync/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnvelopeAnswer {
    /// The envelope.
    pub envelope: ByteString,
    /// The id of its current master key.
    pub key_id: KeyId,
    /// Its version: the server's count of writes. A restored envelope contains an older version.
    pub version: u64,
    /// Its owner key: the next envelope and every snapshot must be signed by this key.
    pub owner: OwnerKey,
    /// When it was written.
    pub updated_at: UnixSeconds,
}
