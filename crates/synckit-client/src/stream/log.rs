//! Pages of the log: requested, and verified before anybody sees anything of them.

use std::sync::Arc;

use synckit_crypto::{
    OpenError, StreamScope,
    batch::{BatchContext, ChangeEntry},
};
use synckit_protocol::{
    BatchDigest, Cursor, DeviceId, Position, SealedHash,
    wire::log::{Page, Pull, PulledBatch},
};

use super::handle::Stream;
use crate::{
    connection::{call::Call, session::Connection},
    error::{Error, Result},
    history::{
        ledger::SkippedBatches,
        walk::{Walk, diverged},
    },
    runtime,
    state::keys::Keys,
    tampering::{BatchEvidence, BatchFault, Tampering},
};

/// A request for a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) device_id: DeviceId,
    pub(crate) cursor: Cursor,
    /// Whether the cursor is further than what the app has.
    pub(crate) ahead: bool,
    pub(crate) avoid: Avoid,
}

/// Which snapshot a page must not lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Avoid {
    /// Any will do.
    Nothing,
    /// The newest was of no use.
    Newest,
}

impl Request {
    /// A request that says nothing of what the app has.
    pub(crate) fn ahead(device_id: DeviceId, cursor: Cursor) -> Self {
        Self {
            device_id,
            cursor,
            ahead: true,
            avoid: Avoid::Nothing,
        }
    }

    /// Sends the request. The page is what the server says.
    pub(crate) async fn send(self, connection: &Connection) -> Result<Page> {
        let request = Pull {
            device_id: self.device_id,
            cursor: self.cursor,
            max_bytes: Some(connection.app().page_bytes),
            ahead: self.ahead,
            avoid_snapshot: self.avoid == Avoid::Newest,
        };
        match connection
            .authorized_as(self.device_id, Call::post("/api/sync/pull").body(&request)?)
            .await
        {
            Ok(answer) => answer.decode(),
            Err(error) => Err(match self.cursor.position() {
                Some(position) => diverged(position, error),
                None => error,
            }),
        }
    }
}

impl Stream {
    /// Verifies a page and opens it.
    pub(crate) async fn open(&self, keys: Arc<Keys>, walk: Walk, page: Page) -> Result<(Vec<ChangeEntry>, Walk)> {
        let (scope, skipped) = (self.scope(), self.state.skipped());
        let opening = Arc::clone(&keys);
        match runtime::blocking(move || open_page(&opening, scope, &skipped, walk, page)).await? {
            Ok(opened) => Ok(opened),
            Err(PageError::UnknownKey(evidence)) => Err(self
                .unknown_key(&keys, Some(Error::Tampering(Tampering::BatchForged(evidence))))
                .await),
            Err(PageError::Refused(error)) => Err(error),
        }
    }
}

/// Why a page was not opened.
enum PageError {
    /// A batch is sealed under a key that this device does not hold.
    UnknownKey(Box<BatchEvidence>),
    /// Anything else.
    Refused(Error),
}

impl From<Error> for PageError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Opens every batch of a page, each as the next of the history that `walk` follows.
fn open_page(
    keys: &Keys,
    scope: StreamScope,
    skipped: &SkippedBatches,
    mut walk: Walk,
    page: Page,
) -> Result<(Vec<ChangeEntry>, Walk), PageError> {
    let mut entries = Vec::new();
    for batch in page.batches {
        let parent = walk.at();
        let evidence = |reason| BatchEvidence {
            batch_id: batch.batch_id,
            device_id: batch.device_id,
            key_id: batch.key_id,
            count: batch.count,
            sealed_hash: SealedHash::of(batch.sealed.as_ref()),
            parent,
            reason,
            fault: BatchFault::Elsewhere,
        };
        let forged = |reason| PageError::Refused(Error::Tampering(Tampering::BatchForged(Box::new(evidence(reason)))));
        if parent.seq.checked_add(1) != Some(batch.first_seq) {
            return Err(forged("it does not follow the batch before it"));
        }
        let Some(stream_keys) = keys.find(&batch.key_id) else {
            return Err(PageError::UnknownKey(Box::new(evidence(
                "no device of this user ever had its key",
            ))));
        };
        let opened = stream_keys.batch.open(
            &batch.key_id,
            &context(scope, parent, &batch),
            batch.count,
            batch.sealed.as_ref(),
        );
        let opened = match opened {
            Ok(opened) => opened,
            Err(cause) => {
                let after = parent.advance(&digest(&batch));
                if !after.is_some_and(|after| skipped.contains(after)) {
                    let (fault, reason) = match cause {
                        OpenError::Malformed { reason } => (BatchFault::BreaksRule, reason),
                        _ => (
                            BatchFault::Unopened,
                            "it was not sealed by a device of this user at this place of this history",
                        ),
                    };
                    return Err(PageError::Refused(Error::Tampering(Tampering::BatchForged(Box::new(
                        BatchEvidence {
                            fault,
                            ..evidence(reason)
                        },
                    )))));
                }
                // It holds nothing that a device can read, and is part of the chain all the same.
                Vec::new()
            }
        };
        walk.step(&digest(&batch))?;
        if !keys.permits(&batch.key_id, walk.at()) {
            return Err(forged("its key was retired before"));
        }
        if entries.is_empty() {
            entries = opened;
        } else {
            entries.extend(opened);
        }
    }
    Ok((entries, walk))
}

fn context(scope: StreamScope, parent: Position, batch: &PulledBatch) -> BatchContext {
    BatchContext {
        scope,
        device_id: batch.device_id,
        batch_id: batch.batch_id,
        parent,
    }
}

fn digest(batch: &PulledBatch) -> BatchDigest {
    BatchDigest {
        batch_id: batch.batch_id,
        device_id: batch.device_id,
        key_id: batch.key_id,
        count: batch.count,
        sealed_hash: SealedHash::of(batch.sealed.as_ref()),
    }
}
