//! `/api/sync/keys`: the envelope of a stream.

use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use crate::{AppId, ByteString, EnvelopeClaim, KeyId, OwnerKey, OwnerSignature, Position, UserId};

/// `PUT /api/sync/keys`.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::keys::PutEnvelope;
///
/// let json = concat!(
///     r#"{"envelope":"AQAA","key_id":"d558363920333aa915896fb8f72e0b8e","#,
///     r#""expected_version":0}"#,
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
    /// The id of its current master key. The server takes batches under this key only.
    pub key_id: KeyId,
    /// The version that this one replaces, 0 for the first; anything else is `version_conflict`.
    pub expected_version: u64,
    /// The stream's head, which a change of the master key must name: the retired key ends there, so no batch may come
    /// in between. Another head is `behind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Position>,
    /// The owner key of its current master key. Without it: `owner_proof_required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerKey>,
    /// A signature of [`Self::claim`] by the owner key of the envelope that this one replaces, or by `owner` where the
    /// server has none. Without it: `owner_proof_required`; another one is `owner_proof_invalid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<OwnerSignature>,
}

impl PutEnvelope {
    /// What the signature is of, for an owner key.
    pub fn claim(&self, app_id: AppId, user_id: UserId, owner: OwnerKey) -> EnvelopeClaim<'_> {
        EnvelopeClaim {
            app_id,
            user_id,
            expected_version: self.expected_version,
            key_id: self.key_id,
            owner,
            envelope: &self.envelope.0,
            head: self.head,
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
    /// Its version: how often the server wrote one. An envelope that was put back has an older version inside.
    pub version: u64,
    /// The owner key that came with it: the next envelope, and every snapshot, is to be signed by it. Absent for an
    /// envelope that was written before there were owner keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerKey>,
    /// When it was written.
    pub updated_at: UnixSeconds,
}
