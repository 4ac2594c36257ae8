//! Pages of the log: requested, and released only after verification.

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
    history::walk::{Walk, diverged},
    runtime,
    state::keys::Keys,
    tampering::{BatchEvidence, BatchFault, Tampering},
};

/// A request for a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) device_id: DeviceId,
    pub(crate) cursor: Cursor,
    /// Whether the cursor is ahead of the app's.
    pub(crate) ahead: bool,
    pub(crate) avoid: Avoid,
}

/// The snapshot that a page must not lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Avoid {
    /// None: any snapshot is good.
    Nothing,
    /// The newest, because it was useless.
    Newest,
}

impl Request {
    /// A request that does not report the app's cursor.
    pub(crate) fn ahead(device_id: DeviceId, cursor: Cursor) -> Self {
        Self {
            device_id,
            cursor,
            ahead: true,
            avoid: Avoid::Nothing,
        }
    }

    /// Sends the request. The page is the server's unverified claim.
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
    /// Reads the one batch between two verified positions. It must open there, like every pulled batch.
    pub(crate) async fn read_back(&self, device_id: DeviceId, parent: Position, after: Position) -> Result<()> {
        let request = Request {
            // Read the log itself, even if a snapshot covers it.
            avoid: Avoid::Newest,
            ..Request::ahead(device_id, Cursor::at(parent))
        };
        let mut page = request.send(&self.connection).await?;
        page.batches.truncate(1);
        let (entries, walk) = self.open(self.keys()?, Walk::new(parent, Some(after))?, page).await?;
        walk.expect(after)?;
        if entries.is_empty() {
            // The user has decided to skip it, so its changes are stored nowhere.
            return Err(Error::InvalidArgument {
                argument: "batch_id",
                reason: "the server's batch with this id was skipped: push the changes under a new id".into(),
            });
        }
        Ok(())
    }

    /// Verifies a page and opens it.
    pub(crate) async fn open(&self, keys: Arc<Keys>, walk: Walk, page: Page) -> Result<(Vec<ChangeEntry>, Walk)> {
        let span = self.state.skipped();
        let skips = move |parent, after| span.is_some_and(|span| span.covers(parent, after));
        let opened = self.open_skipping(keys, walk, page, skips).await?;
        Ok((opened.entries, opened.walk))
    }

    /// Reads the log from a position to its end, past all unreadable batches, and counts these.
    pub(crate) async fn unreadable(&self, device_id: DeviceId, keys: Arc<Keys>, mut walk: Walk) -> Result<Unreadable> {
        let mut found = Unreadable::default();
        loop {
            let request = Request {
                avoid: Avoid::Newest,
                ..Request::ahead(device_id, Cursor::at(walk.at()))
            };
            let page = request.send(&self.connection).await?;
            let (end, has_more) = (page.cursor, page.has_more);
            if has_more && page.batches.is_empty() {
                return Err(Error::Protocol {
                    status: 200,
                    reason: "a page with changes, because more pages follow",
                });
            }
            let opened = self.open_skipping(Arc::clone(&keys), walk, page, |_, _| true).await?;
            walk = opened.walk;
            walk.expect(end.position().unwrap_or_else(|| self.start()))?;
            for skipped in opened.skipped {
                found.until = Some(skipped.after);
                found.batches = found.batches.saturating_add(1);
                found.changes = found.changes.saturating_add(u64::from(skipped.count));
                found.breaks_rule |= skipped.fault == BatchFault::BreaksRule;
                found.is_own |= skipped.device_id == device_id;
            }
            if !has_more {
                walk.end()?;
                found.latest = Some(walk.at());
                return Ok(found);
            }
        }
    }

    async fn open_skipping(
        &self,
        keys: Arc<Keys>,
        walk: Walk,
        page: Page,
        skips: impl Fn(Position, Position) -> bool + Send + 'static,
    ) -> Result<OpenedPage> {
        let scope = self.scope();
        let opening = Arc::clone(&keys);
        match runtime::blocking(move || open_page(&opening, scope, skips, walk, page)).await? {
            Ok(opened) => Ok(opened),
            Err(PageError::UnknownKey(evidence)) => Err(self
                .unknown_key(&keys, Some(Error::Tampering(Tampering::BatchForged(evidence))))
                .await),
            Err(PageError::Refused(error)) => Err(error),
        }
    }
}

/// The unreadable batches of a part of the log.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    /// The position after the last of them.
    pub(crate) until: Option<Position>,
    pub(crate) batches: u64,
    /// The number of changes that they claim to hold.
    pub(crate) changes: u64,
    /// The newest position of the log.
    pub(crate) latest: Option<Position>,
    /// Whether a device of the user sealed any of them.
    pub(crate) breaks_rule: bool,
    /// Whether any of them is under this device's name.
    pub(crate) is_own: bool,
}

/// A verified page.
struct OpenedPage {
    entries: Vec<ChangeEntry>,
    skipped: Vec<SkippedBatch>,
    walk: Walk,
}

/// A batch that no device can read, and that is still part of the chain.
struct SkippedBatch {
    after: Position,
    device_id: DeviceId,
    count: u32,
    fault: BatchFault,
}

/// The reason why a page was not opened.
enum PageError {
    /// A batch is sealed under a key that this device does not hold.
    UnknownKey(Box<BatchEvidence>),
    /// Any other error.
    Refused(Error),
}

impl From<Error> for PageError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Opens every batch of a page, each as the next one of the history that `walk` follows. `skips` decides which
/// unreadable batches are skipped, by the positions before and after them.
fn open_page(
    keys: &Keys,
    scope: StreamScope,
    skips: impl Fn(Position, Position) -> bool,
    mut walk: Walk,
    page: Page,
) -> Result<OpenedPage, PageError> {
    let (mut entries, mut skipped) = (Vec::new(), Vec::new());
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
                let (fault, reason) = match cause {
                    OpenError::Malformed { reason } => (BatchFault::BreaksRule, reason),
                    _ => (
                        BatchFault::Unopened,
                        "it was not sealed by a device of this user at this place of this history",
                    ),
                };
                match parent.advance(&digest(&batch)) {
                    Some(after) if skips(parent, after) => skipped.push(SkippedBatch {
                        after,
                        device_id: batch.device_id,
                        count: batch.count,
                        fault,
                    }),
                    _ => {
                        return Err(PageError::Refused(Error::Tampering(Tampering::BatchForged(Box::new(
                            BatchEvidence {
                                fault,
                                ..evidence(reason)
                            },
                        )))));
                    }
                }
                Vec::new()
            }
        };
        walk.step(&digest(&batch))?;
        if !keys.permits(&batch.key_id, walk.at()) {
            return Err(forged("its key was retired before this place"));
        }
        if entries.is_empty() {
            entries = opened;
        } else {
            entries.extend(opened);
        }
    }
    Ok(OpenedPage { entries, skipped, walk })
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
