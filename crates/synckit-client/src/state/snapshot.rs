//! A verified snapshot, and how far the app has pulled through it.

use std::{collections::VecDeque, sync::Arc};

use synckit_crypto::{
    StreamKeys,
    batch::ChangeEntry,
    snapshot::{Manifest, SnapshotContext},
};
use synckit_protocol::{Position, SealedHash, SnapshotId};

use crate::{error::Result, runtime::Task};

/// A snapshot with a verified manifest.
#[derive(Debug)]
pub(crate) struct OpenSnapshot {
    pub(crate) context: SnapshotContext,
    pub(crate) keys: Arc<StreamKeys>,
    pub(crate) manifest: Manifest,
    /// SHA-256 of the sealed manifest: identifies the snapshot, whatever id the server gives it.
    pub(crate) manifest_hash: SealedHash,
}

impl OpenSnapshot {
    /// The position of the snapshot.
    pub(crate) fn position(&self) -> Position {
        self.context.position
    }

    /// The number of parts.
    pub(crate) fn parts(&self) -> u32 {
        self.manifest.total()
    }

    pub(crate) fn has_id(&self, id: SnapshotId) -> bool {
        self.context.snapshot_id == id
    }
}

/// The part of a snapshot in the memory of a client that pulls through it: the remaining rows of one part, and the next
/// part.
#[derive(Debug)]
pub(crate) struct SnapshotReading {
    pub(crate) snapshot: Arc<OpenSnapshot>,
    /// The part and row of the first of `rows`.
    pub(crate) part: u32,
    pub(crate) row: u32,
    pub(crate) rows: VecDeque<ChangeEntry>,
    /// The next part, while it is downloaded.
    pub(crate) next: Option<Task<Result<Option<Vec<ChangeEntry>>>>>,
}
