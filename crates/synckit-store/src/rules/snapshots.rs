//! Snapshots: which parts and manifests are taken, and which snapshots stay.

use synckit_protocol::{KeyId, OwnerKey, wire::UnixSeconds};

use super::positions::StreamState;
use crate::{NewSnapshot, SnapshotPartWrite, SnapshotWrite};

/// The state of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its manifest has not come yet.
    Unfinished,
    /// It is complete.
    Kept,
    /// It waits for its deletion.
    Condemned,
}

impl Stage {
    /// Its name in the column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unfinished => "unfinished",
            Self::Kept => "kept",
            Self::Condemned => "condemned",
        }
    }

    /// The stage of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Unfinished, Self::Kept, Self::Condemned]
            .into_iter()
            .find(|stage| stage.as_str() == name)
    }
}

/// The answer to a part of a snapshot in this stage, if nothing is stored. `is_same` says whether this very part is stored
/// already: the answer to it may have been lost, and the manifest come by another way.
pub const fn put_part(key_id: Option<KeyId>, stage: Option<Stage>, is_same: bool) -> Option<SnapshotPartWrite> {
    match (key_id, stage) {
        (None, _) => Some(SnapshotPartWrite::NoEnvelope),
        (Some(_), None | Some(Stage::Unfinished)) => None,
        (Some(_), Some(Stage::Kept)) if is_same => Some(SnapshotPartWrite::Stored),
        (Some(_), Some(Stage::Kept | Stage::Condemned)) => Some(SnapshotPartWrite::Stale),
    }
}

/// The answer to a manifest, as far as it does not depend on the chain and the parts; `None` if these decide. The order of
/// checks is part of the contract: the first answer of the same id, key id, owner key, newer than the newest.
pub fn put(
    stream: &StreamState,
    owner: Option<OwnerKey>,
    stage: Option<Stage>,
    snapshot: &NewSnapshot,
) -> Option<SnapshotWrite> {
    match stage {
        Some(Stage::Kept) => return Some(SnapshotWrite::Stored),
        Some(Stage::Condemned) => return Some(SnapshotWrite::Stale),
        Some(Stage::Unfinished) | None => {}
    }
    let (Some(current), Some(owner)) = (stream.key_id, owner) else {
        return Some(SnapshotWrite::NoEnvelope);
    };
    if current != snapshot.key_id {
        return Some(SnapshotWrite::KeyMismatch);
    }
    // The log may be cut to this snapshot, so a token alone must not be enough to store one.
    if snapshot.signed_by != Some(owner) {
        return Some(SnapshotWrite::NotProven);
    }
    (snapshot.position.seq <= stream.snapshot_seq).then_some(SnapshotWrite::Stale)
}

/// Whether exactly the parts 0 to `parts` - 1 are stored, by their count and the number of the last one.
pub fn is_complete(parts: u32, count: u32, last: Option<u32>) -> bool {
    count == parts && last.map_or(0, |last| u64::from(last) + 1) == u64::from(count)
}

/// A complete snapshot of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The key of its row.
    pub key: i64,
    /// The sequence of its position.
    pub seq: u64,
    /// When its manifest came.
    pub at: UnixSeconds,
}

/// The keys of those of the `kept` snapshots, in order of their positions, that are of no use any more.
///
/// However often a device compacts, at most four stay: the one that the base rests on; the newest that has settled, to
/// which the log may be cut; the oldest that has not, because if only the newest stayed none would ever settle; and the
/// newest.
pub fn prune(kept: &[Kept], base_seq: u64, settled_before: UnixSeconds) -> Vec<i64> {
    let useful = [
        kept.iter().rfind(|kept| kept.seq <= base_seq),
        kept.iter().rfind(|kept| kept.at <= settled_before),
        kept.iter().find(|kept| kept.at > settled_before),
        kept.last(),
    ];
    kept.iter()
        .filter(|kept| !useful.iter().flatten().any(|useful| useful.key == kept.key))
        .map(|kept| kept.key)
        .collect()
}
