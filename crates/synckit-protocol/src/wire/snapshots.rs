//! `/api/sync/snapshots`: the folded state of a stream, in sealed parts.
//!
//! A snapshot is uploaded part by part, and becomes available when its manifest is stored. Every request may be
//! repeated.

use serde::{Deserialize, Serialize};

use super::UnixSeconds;
use crate::{AppId, ByteString, KeyId, OwnerSignature, Position, SnapshotClaim, SnapshotId, UserId};

/// The description of a snapshot in answers of the server. A claim, until the manifest opens for it.
///
/// # Examples
/// ```
/// use synckit_protocol::wire::snapshots::SnapshotInfo;
///
/// let json = concat!(
///     r#"{"snapshot_id":"0190c2a4-7d1e-7f00-8a00-0123456789ab","#,
///     r#""key_id":"d558363920333aa915896fb8f72e0b8e","position":{"seq":6,"#,
///     r#""head":"RjV6e6CD_1xulA3xGydOVvD3ZLliZca8Di9E6ztI3Rs"},"parts":2,"#,
///     r#""size":4096,"created_at":1767225600}"#,
/// );
/// let snapshot: SnapshotInfo = serde_json::from_str(json)?;
/// assert_eq!(snapshot.position.seq, 6);
/// assert_eq!(serde_json::to_string(&snapshot)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SnapshotInfo {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The master key that it is sealed under.
    pub key_id: KeyId,
    /// The position of the snapshot.
    pub position: Position,
    /// The number of parts.
    pub parts: u32,
    /// Sealed bytes of its parts and its manifest.
    pub size: u64,
    /// When it was stored.
    pub created_at: UnixSeconds,
}

/// `PUT /api/sync/snapshots/{id}/parts/{n}`: one sealed part of a snapshot that has no manifest yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PutSnapshotPart {
    /// The sealed part.
    pub sealed: ByteString,
}

/// `PUT /api/sync/snapshots/{id}`: the manifest, after all parts. It makes the snapshot the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PutSnapshot {
    /// The master key that it is sealed under: the current one.
    pub key_id: KeyId,
    /// The position of the snapshot.
    pub position: Position,
    /// The number of parts: all of them are stored.
    pub parts: u32,
    /// The sealed manifest.
    pub manifest: ByteString,
    /// A signature of [`Self::claim`] by the owner key of the current envelope; any other is `owner_proof_invalid`.
    pub signature: OwnerSignature,
}

impl PutSnapshot {
    /// The signed message.
    pub fn claim(&self, app_id: AppId, user_id: UserId, snapshot_id: SnapshotId) -> SnapshotClaim<'_> {
        SnapshotClaim {
            app_id,
            user_id,
            snapshot_id,
            key_id: self.key_id,
            position: self.position,
            parts: self.parts,
            manifest: &self.manifest.0,
        }
    }
}

/// `GET /api/sync/snapshots/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SnapshotAnswer {
    /// The description of the snapshot.
    pub snapshot: SnapshotInfo,
    /// The sealed manifest.
    pub manifest: ByteString,
}

/// `GET /api/sync/snapshots/{id}/parts/{n}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SnapshotPartAnswer {
    /// The sealed part.
    pub sealed: ByteString,
}
