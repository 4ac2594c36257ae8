//! A verified snapshot, and how far the app has pulled through it.

use std::{collections::VecDeque, sync::Arc};

use synckit_crypto::{
    StreamKeys,
    batch::ChangeEntry,
    snapshot::{Manifest, SnapshotContext},
};
use synckit_protocol::{Position, SealedHash, SnapshotId};

use crate::{error::Result, runtime::Task};

/// A snapshot whose manifest was verified.
#[derive(Debug)]
pub(crate) struct OpenSnapshot {
    pub(crate) context: SnapshotContext,
    pub(crate) keys: Arc<StreamKeys>,
    pub(crate) manifest: Manifest,
    /// SHA-256 of the sealed manifest: which snapshot it is, whatever the server calls it.
    pub(crate) manifest_hash: SealedHash,
}

impl OpenSnapshot {
    /// The position whose state it is.
    pub(crate) fn position(&self) -> Position {
        self.context.position
    }

    /// How many parts it has.
    pub(crate) fn parts(&self) -> u32 {
        self.manifest.total()
    }

    pub(crate) fn has_id(&self, id: SnapshotId) -> bool {
        self.context.snapshot_id == id
    }
}

/// What a client that pulls through a snapshot keeps in memory of it: the rest of one part, and the next one.
#[derive(Debug)]
pub(crate) struct SnapshotReading {
    pub(crate) snapshot: Arc<OpenSnapshot>,
    /// Where the first of `rows` is.
    pub(crate) part: u32,
    pub(crate) row: u32,
    pub(crate) rows: VecDeque<ChangeEntry>,
    /// The part after that, while it is downloaded.
    pub(crate) next: Option<Task<Result<Option<Vec<ChangeEntry>>>>>,
}
