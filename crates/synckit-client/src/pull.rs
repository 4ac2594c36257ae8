//! Reading the log: every page is verified and opened before the app sees anything of it.

use std::sync::Arc;

use synckit_crypto::{
    OpenError, StreamScope,
    batch::{BatchContext, ChangeEntry},
};
use synckit_protocol::{
    BatchDigest, Cursor, DeviceId, Position, ProblemCode, SealedHash, SnapshotId, SnapshotPlace,
    wire::{
        log::{Page, Pull, PulledBatch},
        snapshots::SnapshotInfo,
    },
};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    SyncKitClient,
    client::Inner,
    connection::api::Call,
    error::{BatchEvidence, Error, HistoryEvidence, Result},
    history::ledger::SkippedBatches,
    history::walk::{Walk, diverged},
    setup::{EnvelopeInUse, Keys},
    sign_in::{blocking, record_name},
};

/// How often the newest position is written to the credential store.
const SAVE_POSITION_SECONDS: u64 = 60;

/// Snapshots that one pull goes to before it gives up: each may have been replaced just then.
const SNAPSHOTS_TRIED_MAX: u32 = 4;

/// A page that was asked for while the one before it was opened.
#[derive(Debug)]
pub(crate) struct Prefetch {
    device_id: DeviceId,
    cursor: Cursor,
    /// What was known when it was asked for.
    known: Option<Position>,
    page: AbortOnDrop<Result<Page>>,
}

/// A task that ends with the value that waits for it.
#[derive(Debug)]
pub(crate) struct AbortOnDrop<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The changes of a page, the cursor after them, and whether more follow.
pub type Pulled = (Vec<ChangeEntry>, Cursor, bool);

impl SyncKitClient {
    /// Pulls the changes after a cursor: verified, decrypted, in log order, own changes included. Store the returned
    /// cursor together with the changes, and pull again while the last value is `true`. Start with [`Cursor::START`].
    ///
    /// Where a device folded the history, and the log's beginning need not be read or is gone, rows come in its place, as
    /// insertions and deletions: so after a long absence an app may get rows again that it has. The cursor may then be a
    /// place inside a snapshot, to be stored like any other.
    ///
    /// A page holds at most 500 changes. Applying one twice is harmless, because changes carry whole rows.
    ///
    /// # Errors
    /// [`Error::HistoryRewound`], [`Error::HistoryForked`] and [`Error::BatchForged`] with evidence;
    /// [`Error::KeyRotated`] if another device changed the master key; [`Error::DeviceRevoked`];
    /// [`Error::SnapshotForged`] if the beginning of the log is gone and no snapshot of it verifies;
    /// [`Error::EncryptionNotSetUp`]. Nothing of a page with an error is returned.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # use std::collections::BTreeMap;
    /// # use synckit_doctest::note;
    /// use synckit_client::{ChangeOp, Cursor};
    ///
    /// # client.push(device.id, vec![note("1", "Buy milk"), note("2", "Buy bread")]).await?;
    /// # let (mut rows, stored) = (BTreeMap::new(), Cursor::START);
    /// let mut cursor = stored;
    /// loop {
    ///     let (changes, next, has_more) = client.pull(device.id, cursor).await?;
    ///     // One transaction of the app's database: the changes, and the cursor.
    ///     for change in changes {
    ///         match change.op {
    ///             ChangeOp::Insert | ChangeOp::Update => rows.insert((change.table, change.row_id), change.data),
    ///             ChangeOp::Delete => rows.remove(&(change.table, change.row_id)),
    ///         };
    ///     }
    ///     cursor = next;
    ///     if !has_more {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(rows.len(), 2);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn pull(&self, device_id: DeviceId, cursor: Cursor) -> Result<Pulled> {
        let mut from = cursor;
        let mut refused: Option<(SnapshotId, Error)> = None;
        for _ in 0..SNAPSHOTS_TRIED_MAX {
            let place = match from.snapshot() {
                Some(place) => place,
                None => match self.pull_log(device_id, from, refused.is_some()).await? {
                    LogPull::Page(pulled) => return Ok(pulled),
                    LogPull::Snapshot(place) => place,
                },
            };
            match refused {
                // The log is not whole any more, and there is no other snapshot.
                Some((id, error)) if id == place.snapshot_id => return Err(error),
                _ => {}
            }
            match self.inner.pull_rows(place).await {
                Ok(Some(pulled)) => return Ok(pulled),
                // Newer ones took its place: all rows come again, deletions too, so what the app has of it is made good.
                Ok(None) => from = restarted(from),
                Err(error @ Error::SnapshotForged(_)) => match refused {
                    Some((_, first)) => return Err(first),
                    None => {
                        tracing::warn!(%error, "a snapshot was refused: the pull goes around it; a fold puts another in its place");
                        refused = Some((place.snapshot_id, error));
                        from = restarted(from);
                    }
                },
                Err(error) => return Err(error),
            }
        }
        Err(refused.map_or(
            Error::Protocol {
                status: 404,
                reason: "a snapshot that the server itself named",
            },
            |(_, error)| error,
        ))
    }

    /// A page of the log, or the snapshot that the server names in its place.
    async fn pull_log(&self, device_id: DeviceId, cursor: Cursor, avoid_snapshot: bool) -> Result<LogPull> {
        let inner = &self.inner;
        let keys = inner.keys()?;
        let from = cursor.position().unwrap_or(inner.start()?);
        let (known, prefetch) = {
            let mut stream = inner.stream.lock();
            (stream.known(), stream.prefetch.take())
        };
        let request = Request {
            device_id,
            cursor,
            ahead: false,
            avoid: if avoid_snapshot { Avoid::Newest } else { Avoid::Nothing },
        };
        let (known, page) = match prefetch {
            Some(mut prefetch) if prefetch.device_id == device_id && prefetch.cursor == cursor => {
                match (&mut prefetch.page.0).await {
                    Ok(Ok(page)) => (prefetch.known, Ok(page)),
                    // The request in advance failed; the one that the app asked for decides what is reported.
                    Ok(Err(_)) | Err(_) => (known, inner.page(request).await),
                }
            }
            _ => (known, inner.page(request).await),
        };
        let page = match page {
            Ok(Page {
                snapshot: Some(snapshot),
                ..
            }) => return enter(cursor, snapshot),
            Ok(page) => page,
            Err(Error::Problem(problem)) if problem.known_code() == Some(ProblemCode::CursorCompacted) => {
                return match problem.snapshot {
                    Some(snapshot) => enter(cursor, snapshot),
                    None => Err(Error::Problem(problem)),
                };
            }
            Err(error) => return Err(error),
        };
        let (next, has_more) = (page.cursor, page.has_more);
        if has_more && page.batches.is_empty() {
            // A server that says so for ever would keep the app in its loop for ever.
            return Err(Error::Protocol {
                status: 200,
                reason: "a page that is not empty where more follow",
            });
        }
        if has_more {
            self.prefetch(device_id, next);
        }
        let (entries, walk) = inner.open(keys, Walk::new(from, known)?, page).await?;
        let end = walk.at();
        walk.expect(next.position().unwrap_or(inner.start()?))?;
        if !has_more {
            walk.end()?;
        }
        inner.stream.lock().apply(end);
        inner.save_position().await?;
        Ok(LogPull::Page((entries, Cursor::at(end), has_more)))
    }

    fn prefetch(&self, device_id: DeviceId, cursor: Cursor) {
        let inner = Arc::clone(&self.inner);
        let mut stream = self.inner.stream.lock();
        let known = stream.known();
        let page = AbortOnDrop(tokio::spawn(async move {
            inner.page(Request::ahead(device_id, cursor)).await
        }));
        stream.prefetch = Some(Prefetch {
            device_id,
            cursor,
            known,
            page,
        });
    }
}

/// What a pull found.
enum LogPull {
    Page(Pulled),
    /// The place to go on from instead.
    Snapshot(SnapshotPlace),
}

/// The first place of a snapshot that the server names in place of the log after `cursor`.
fn enter(cursor: Cursor, snapshot: SnapshotInfo) -> Result<LogPull> {
    match cursor.position() {
        // A log that was cut goes on after the cursor, or it was not cut there.
        Some(known) if snapshot.position.seq <= known.seq => Err(Error::HistoryRewound(HistoryEvidence {
            known,
            claimed: snapshot.position,
        })),
        _ => Ok(LogPull::Snapshot(SnapshotPlace {
            snapshot_id: snapshot.snapshot_id,
            position: snapshot.position,
            part: 0,
            row: 0,
        })),
    }
}

/// Where to ask again when a snapshot was of no use: from a place inside one, there is nothing but the start.
fn restarted(from: Cursor) -> Cursor {
    if from.snapshot().is_some() { Cursor::START } else { from }
}

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
}

impl Inner {
    /// Verifies a page and opens it.
    pub(crate) async fn open(&self, keys: Arc<Keys>, walk: Walk, page: Page) -> Result<(Vec<ChangeEntry>, Walk)> {
        let scope = self.scope()?;
        let held = keys.ring.key_version();
        let skipped = self.stream.lock().skipped();
        match blocking(move || open_page(&keys, scope, &skipped, walk, page)).await? {
            Ok(opened) => Ok(opened),
            Err(PageError::UnknownKey(evidence)) => Err(self.newer_key(held, Error::BatchForged(evidence)).await),
            Err(PageError::Refused(error)) => Err(error),
        }
    }

    pub(crate) async fn page(&self, request: Request) -> Result<Page> {
        let cursor = request.cursor;
        let request = Pull {
            device_id: request.device_id,
            cursor,
            max_bytes: Some(self.page_bytes),
            ahead: request.ahead,
            avoid_snapshot: request.avoid == Avoid::Newest,
        };
        match self.authorized(Call::post("/api/sync/pull").body(&request)?).await {
            Ok(answer) => answer.decode(),
            Err(Error::Problem(problem)) if problem.known_code() == Some(ProblemCode::HistoryDiverged) => {
                match (cursor.position(), problem.latest) {
                    (Some(position), Some(latest)) => Err(diverged(position, latest)),
                    _ => Err(Error::Problem(problem)),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// What something under a key that this device does not hold means: made by a device that rotated the key, or by the
    /// server, which is `forged`. Only a newer envelope can introduce a key.
    pub(crate) async fn newer_key(&self, held_version: u32, forged: Error) -> Error {
        match self.envelope().await {
            Ok(Some(EnvelopeInUse { envelope, .. })) if envelope.key_version() > held_version => Error::KeyRotated {
                key_id: envelope.key_id(),
            },
            Ok(_) => forged,
            Err(error) => error,
        }
    }

    /// Writes the newest known position to the credential store, at most once a minute, so that a device that starts
    /// again still notices a server that went back.
    pub(crate) async fn save_position(&self) -> Result<()> {
        {
            let mut stream = self.stream.lock();
            let due = stream
                .saved_at
                .is_none_or(|at| at.elapsed().as_secs() >= SAVE_POSITION_SECONDS);
            if stream.known().is_none() || !due {
                return Ok(());
            }
            stream.saved_at = Some(Instant::now());
        }
        self.save_position_now().await
    }

    pub(crate) async fn save_position_now(&self) -> Result<()> {
        let user_id = self.scope()?.user_id;
        let record = self.stream.lock().to_record();
        self.with_credentials(move |credentials| credentials.write(&record_name(user_id, "position"), &record))
            .await
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
            never_opens: false,
        };
        let forged = |reason| PageError::Refused(Error::BatchForged(Box::new(evidence(reason))));
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
                    return Err(PageError::Refused(Error::BatchForged(Box::new(BatchEvidence {
                        never_opens: cause == OpenError::Authentication,
                        ..evidence("it was not sealed by a device of this user at this place of this history")
                    }))));
                }
                // It holds nothing that anybody of the user wrote, and is part of the chain all the same.
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
