//! `/api/sync/keys`: the envelope of a stream.

use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use crate::{ByteString, KeyId, Position};

/// `PUT /api/sync/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// The answer to [`PutEnvelope`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeWritten {
    /// The version that was written.
    pub version: u64,
}

/// `GET /api/sync/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeAnswer {
    /// The envelope.
    pub envelope: ByteString,
    /// The id of its current master key.
    pub key_id: KeyId,
    /// Its version.
    pub version: u64,
    /// When it was written.
    pub updated_at: UnixSeconds,
}
