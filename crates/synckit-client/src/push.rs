//! Writing the log: changes are sealed on top of the newest history that this device has verified, and sealed again
//! when another device was faster.
//!
//! Invariants: a batch keeps its id through every retry, so nothing is stored twice; the next batch of a long push is
//! sealed while the one before is on its way, which is why it names a parent that is only expected; what the server
//! answers is compared with the expected position, so a server that lies about what it stored is caught at once.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use rand::rngs::OsRng;
use synckit_crypto::{
    StreamScope,
    batch::{BatchBody, BatchContext, ChangeEntry, EncodeError},
};
use synckit_protocol::{
    BatchDigest, BatchId, Behind, Cursor, DeviceId, Position, Problem, ProblemCode, SealedHash,
    wire::log::{Chain, Push, Pushed},
};
use uuid::Uuid;

use crate::{
    SyncKitClient,
    client::Inner,
    connection::api::Call,
    error::{Error, HistoryEvidence, PushError, Result},
    history::walk::{Walk, diverged},
    setup::{EnvelopeInUse, Keys},
    sign_in::blocking,
};

/// How often a batch is sealed again because other devices were faster, before the push gives up.
const RESEALS_MAX: u32 = 100;

/// What to do when the stream has moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenBehind {
    /// Hash forward over what came in between, and seal on top of it.
    Reseal,
    /// Tell the caller, who wants to merge first.
    Report,
}

/// Who pushes, and with what.
#[derive(Clone)]
struct Pusher {
    scope: StreamScope,
    keys: Arc<Keys>,
    device_id: DeviceId,
}

/// How much of a push is stored.
#[derive(Debug, Default)]
struct Accepted {
    entries: usize,
    /// Where the last stored batch ends.
    until: Option<Position>,
}

/// A batch on its way.
struct Sealed {
    batch_id: BatchId,
    body: Arc<BatchBody>,
    /// Which of the given changes it holds.
    range: Range<usize>,
    parent: Position,
    /// Where the stream is once the batch is stored.
    after: Position,
    /// The encoded request.
    request: Bytes,
}

impl SyncKitClient {
    /// Pushes changes: encrypted, appended in order, stored durably when this returns. More than 500 changes, or 4 MiB,
    /// are split into batches; each is atomic, the whole is not.
    ///
    /// Returns a cursor that is safe to store: the end of the last page that [`SyncKitClient::pull`] returned, or what
    /// [`SyncKitClient::resume_at`] was given. It is never past this push, which therefore comes back at the next pull.
    ///
    /// If the app may crash between the push and its own note of it, the changes are pushed again at the next start,
    /// which is harmless, since they carry whole rows; [`SyncKitClient::push_with_id`] avoids even that.
    ///
    /// # Errors
    /// [`PushError`], with how many changes are stored and why the others are not: among others
    /// [`Error::Encode`], [`Error::KeyRotated`], [`Error::WrongKey`], [`Error::DeviceRevoked`],
    /// [`Error::HistoryRewound`], [`Error::HistoryForked`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// use synckit_client::{ChangeEntry, ChangeOp, SyncKitClient, Timestamp};
    ///
    /// let change = ChangeEntry {
    ///     table: "notes".into(),
    ///     op: ChangeOp::Insert,
    ///     row_id: SyncKitClient::new_batch_id().to_string(), // any text; UUIDs take least room
    ///     timestamp: Timestamp::from(std::time::SystemTime::now()),
    ///     data: Some(serde_json::json!({ "text": "Buy milk" })),
    /// };
    /// client.push(device.id, vec![change]).await?;
    /// assert_eq!(client.status().await?.change_count, 1);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn push(&self, device_id: DeviceId, changes: Vec<ChangeEntry>) -> Result<Cursor, PushError> {
        let cursor = self.inner.stream.lock().applied();
        let mut accepted = Accepted::default();
        match self.inner.push_all(device_id, None, changes, &mut accepted).await {
            Ok(()) => Ok(cursor),
            Err(source) => Err(PushError {
                accepted: accepted.entries,
                cursor,
                source,
            }),
        }
    }

    /// As [`SyncKitClient::push`], on top of exactly what the app has applied: for apps that merge by their own rules and
    /// must not write an older version of a row after a newer one of another device, as after
    /// [`SyncKitClient::rejoin`]. Returns the cursor after the changes. If anything else was pushed in between, it stops
    /// with [`Error::Behind`]: store the cursor of the [`PushError`], pull, merge, and push what was not accepted as it is
    /// then.
    ///
    /// # Errors
    /// As [`SyncKitClient::push`]; [`Error::Behind`]; [`Error::InvalidArgument`] if `parent` lies inside a snapshot.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # use synckit_doctest::note;
    /// # let (client, device) = world.device("laptop").await?;
    /// use synckit_client::Cursor;
    ///
    /// let rows = vec![note("1", "Buy milk"), note("2", "Buy bread")];
    /// let (_, applied, _) = client.pull(device.id, Cursor::START).await?;
    /// let cursor = client.push_all_at(device.id, applied, rows).await?;
    /// assert_eq!(cursor.seq(), 2);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn push_all_at(
        &self,
        device_id: DeviceId,
        parent: Cursor,
        changes: Vec<ChangeEntry>,
    ) -> Result<Cursor, PushError> {
        let mut accepted = Accepted::default();
        let pushed = self
            .inner
            .push_all(device_id, Some(parent), changes, &mut accepted)
            .await;
        let cursor = accepted.until.map_or(parent, Cursor::at);
        if let Some(position) = accepted.until {
            self.inner.stream.lock().apply(position);
        }
        match pushed {
            Ok(()) => Ok(cursor),
            Err(source) => Err(PushError {
                accepted: accepted.entries,
                cursor,
                source,
            }),
        }
    }

    /// As [`SyncKitClient::push`], for one batch under an id that the app stored before: exactly once, even if the app
    /// crashes at any moment and pushes again with the same id. (Where the batch lies so far back that it is in a snapshot
    /// only, the server's word for it cannot be checked: that is [`Error::Problem`] with `cursor_compacted`. Pull, and
    /// push what is still missing under a new id.) Make the id with [`SyncKitClient::new_batch_id`]; use it
    /// for the same changes only.
    ///
    /// # Errors
    /// As [`SyncKitClient::push`]; [`Error::InvalidArgument`] if the changes do not fit one batch of 500 changes and
    /// 4 MiB.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # use synckit_doctest::note;
    /// use synckit_client::SyncKitClient;
    ///
    /// let batch_id = SyncKitClient::new_batch_id(); // stored in the outbox, before the push
    /// let changes = vec![note("1", "Buy milk")];
    /// client.push_with_id(device.id, batch_id, changes.clone()).await?;
    /// // The app crashed before it could note that, and pushes again.
    /// client.push_with_id(device.id, batch_id, changes).await?;
    /// assert_eq!(client.status().await?.change_count, 1);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn push_with_id(
        &self,
        device_id: DeviceId,
        batch_id: BatchId,
        changes: Vec<ChangeEntry>,
    ) -> Result<Cursor, PushError> {
        let cursor = self.inner.stream.lock().applied();
        let pushed = self.inner.push_one(device_id, batch_id, None, changes).await;
        pushed.map(|_| cursor).map_err(|source| PushError {
            accepted: 0,
            cursor,
            source,
        })
    }

    /// Pushes one batch on top of exactly what the app has applied, and fails instead if anything else was pushed in
    /// between: for apps that merge. Returns the cursor after the batch, or `parent` if that is further because the batch
    /// was stored by an earlier call.
    ///
    /// # Errors
    /// As [`SyncKitClient::push_with_id`]; [`Error::Behind`] if the stream has moved on.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # use synckit_doctest::note;
    /// # let (client, device) = world.device("laptop").await?;
    /// # let (phone, phone_device) = world.device("phone").await?;
    /// use synckit_client::{Cursor, Error, SyncKitClient};
    ///
    /// let (_, applied, _) = client.pull(device.id, Cursor::START).await?;
    /// # phone.push(phone_device.id, vec![note("2", "Buy bread")]).await?; // in between
    /// let (id, merged) = (SyncKitClient::new_batch_id(), vec![note("1", "Buy milk")]);
    /// let error = client.push_at(device.id, applied, id, merged.clone()).await.unwrap_err();
    /// assert!(matches!(error.source, Error::Behind { .. }));
    ///
    /// // Pull what came in between, merge, try again.
    /// let (_, applied, _) = client.pull(device.id, applied).await?;
    /// let cursor = client.push_at(device.id, applied, id, merged).await?;
    /// assert_eq!(cursor.seq(), 2);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn push_at(
        &self,
        device_id: DeviceId,
        parent: Cursor,
        batch_id: BatchId,
        changes: Vec<ChangeEntry>,
    ) -> Result<Cursor, PushError> {
        match self.inner.push_one(device_id, batch_id, Some(parent), changes).await {
            // Pushed again after a crash, when the app has pulled the batch already: it is further than the batch.
            Ok(position) if position.seq <= parent.seq() => Ok(parent),
            Ok(position) => {
                self.inner.stream.lock().apply(position);
                Ok(Cursor::at(position))
            }
            Err(source) => Err(PushError {
                accepted: 0,
                cursor: parent,
                source,
            }),
        }
    }

    /// A new id for a batch: UUIDv7 (RFC 9562).
    ///
    /// # Examples
    /// ```
    /// use synckit_client::SyncKitClient;
    ///
    /// assert_ne!(SyncKitClient::new_batch_id(), SyncKitClient::new_batch_id());
    /// ```
    #[must_use]
    pub fn new_batch_id() -> BatchId {
        BatchId::from_bytes(Uuid::now_v7().into_bytes())
    }
}

impl Inner {
    async fn push_all(
        &self,
        device_id: DeviceId,
        at: Option<Cursor>,
        changes: Vec<ChangeEntry>,
        accepted: &mut Accepted,
    ) -> Result<()> {
        let pusher = Pusher {
            scope: self.scope()?,
            keys: self.keys()?,
            device_id,
        };
        if changes.is_empty() {
            return Ok(());
        }
        let _pushing = self.pushing.lock().await;
        let changes = Arc::new(changes);
        let (parent, when_behind) = self.parent_at(at)?;
        let mut sealed = seal_next(pusher.clone(), Arc::clone(&changes), 0, parent).await?;
        loop {
            let end = sealed.range.end;
            let ahead = (end < changes.len())
                .then(|| tokio::spawn(seal_next(pusher.clone(), Arc::clone(&changes), end, sealed.after)));
            let position = self.append(&pusher, sealed, when_behind).await?;
            *accepted = Accepted {
                entries: end,
                until: Some(position),
            };
            let Some(ahead) = ahead else { return Ok(()) };
            let next = ahead.await.map_err(|error| Error::Io(std::io::Error::other(error)))??;
            sealed = if next.parent == position {
                next
            } else {
                reseal(&pusher, next, position).await?
            };
        }
    }

    async fn push_one(
        &self,
        device_id: DeviceId,
        batch_id: BatchId,
        at: Option<Cursor>,
        changes: Vec<ChangeEntry>,
    ) -> Result<Position> {
        let pusher = Pusher {
            scope: self.scope()?,
            keys: self.keys()?,
            device_id,
        };
        let too_many = |reason: &str| Error::InvalidArgument {
            argument: "changes",
            reason: reason.to_owned(),
        };
        if changes.is_empty() {
            return Err(too_many("a batch holds at least one change"));
        }
        let _pushing = self.pushing.lock().await;
        let (parent, when_behind) = self.parent_at(at)?;
        let sealing = pusher.clone();
        let sealed = blocking(move || {
            let body = encode(&changes, 0)?;
            if body.0.end < changes.len() {
                return Err(too_many("they do not fit one batch of 500 changes and 4 MiB"));
            }
            seal(&sealing, batch_id, Arc::new(body.1), body.0, parent)
        })
        .await??;
        self.append(&pusher, sealed, when_behind).await
    }

    /// The position to seal on top of, and what to do if that is not the newest any more.
    fn parent_at(&self, at: Option<Cursor>) -> Result<(Position, WhenBehind)> {
        match at {
            None => Ok((self.parent()?, WhenBehind::Reseal)),
            Some(cursor) if cursor.snapshot().is_some() => Err(Error::InvalidArgument {
                argument: "parent",
                reason: "it lies inside a snapshot: pull to its end first".into(),
            }),
            Some(cursor) => Ok((cursor.position().unwrap_or(self.start()?), WhenBehind::Report)),
        }
    }

    /// The position to seal on top of.
    pub(crate) fn parent(&self) -> Result<Position> {
        let known = self.stream.lock().known();
        known.map_or_else(|| self.start(), Ok)
    }

    /// Stores one batch and returns the position after it.
    async fn append(&self, pusher: &Pusher, mut sealed: Sealed, when_behind: WhenBehind) -> Result<Position> {
        let base = sealed.parent;
        for attempt in 0..=RESEALS_MAX {
            let known = self.stream.lock().known();
            let call = Call::post("/api/sync/push").encoded_body(sealed.request.clone());
            let problem = match self.authorized(call).await {
                Ok(answer) => {
                    let position = self.stored_at(&sealed, base, &answer.decode()?).await?;
                    self.stream.lock().know(position);
                    return Ok(position);
                }
                Err(Error::Problem(problem)) => problem,
                Err(error) => return Err(error),
            };
            match problem.known_code() {
                Some(ProblemCode::Behind) => {
                    let latest = self.hash_forward(sealed.parent, known, *problem).await?;
                    self.stream.lock().know(latest);
                    if when_behind == WhenBehind::Report {
                        return Err(Error::Behind { latest });
                    }
                    if attempt > 0 {
                        tokio::time::sleep(self.api.pause(attempt)).await;
                    }
                    sealed = reseal(pusher, sealed, latest).await?;
                }
                Some(ProblemCode::CursorCompacted) => {
                    // This device was away for long. What it did not see is in a snapshot; the log after that is.
                    let latest = self.snapshot_position(&pusher.keys, known, *problem).await?;
                    self.stream.lock().know(latest);
                    if when_behind == WhenBehind::Report {
                        return Err(Error::Behind { latest });
                    }
                    sealed = reseal(pusher, sealed, latest).await?;
                }
                Some(ProblemCode::HistoryDiverged) => {
                    return Err(match problem.latest {
                        Some(latest) => diverged(sealed.parent, latest),
                        None => Error::Problem(problem),
                    });
                }
                Some(ProblemCode::KeyMismatch) => return Err(self.key_mismatch(&pusher.keys).await),
                _ => return Err(Error::Problem(problem)),
            }
        }
        Err(Error::Behind { latest: sealed.parent })
    }

    /// Where the server stored a batch, checked against what this device sealed.
    ///
    /// The answer may belong to an earlier sealing of the same batch, whose own answer was lost, or which an earlier run
    /// of the app pushed. Then the chain must show the batch at that place, and lead through what this device knows: a
    /// server must not get away with calling a batch stored that is not, by a history that it makes up for the purpose.
    async fn stored_at(&self, sealed: &Sealed, base: Position, pushed: &Pushed) -> Result<Position> {
        let claimed = Position {
            seq: pushed.last_seq,
            head: pushed.head,
        };
        if claimed == sealed.after {
            return Ok(claimed);
        }
        let from = if base.seq < claimed.seq { base } else { self.start()? };
        let known = self.stream.lock().known().filter(|known| known.seq > base.seq);
        let known = known.unwrap_or(base);
        let mut walk = Walk::new(from, Some(known))?;
        let mut is_there = false;
        loop {
            let chain = self.chain(walk.at()).await?;
            for digest in &chain.digests {
                walk.step(digest)?;
                is_there |= digest.batch_id == sealed.batch_id && walk.at() == claimed;
                // An earlier place is part of this history only if what is known follows from it.
                if is_there && walk.at().seq >= known.seq {
                    return Ok(claimed);
                }
            }
            if !chain.has_more || chain.digests.is_empty() {
                walk.end()?;
            }
            let has_passed = walk.at().seq >= claimed.seq.max(known.seq);
            if !chain.has_more || chain.digests.is_empty() || has_passed {
                return Err(Error::HistoryForked(HistoryEvidence {
                    known: sealed.after,
                    claimed,
                }));
            }
        }
    }

    /// Verifies what came in between and returns the stream's newest position.
    pub(crate) async fn hash_forward(
        &self,
        parent: Position,
        known: Option<Position>,
        problem: Problem,
    ) -> Result<Position> {
        let behind = problem.behind.ok_or(Error::Protocol {
            status: problem.status,
            reason: "the digests in between",
        })?;
        let Behind {
            mut latest,
            mut digests,
            mut has_more,
        } = behind;
        let mut walk = Walk::new(parent, known)?;
        loop {
            digests.iter().try_for_each(|digest| walk.step(digest))?;
            if !has_more {
                break;
            }
            if digests.is_empty() {
                return Err(Error::Protocol {
                    status: 200,
                    reason: "a page of the chain that is not empty",
                });
            }
            Chain {
                digests,
                latest,
                has_more,
            } = self.chain(walk.at()).await?;
        }
        walk.expect(latest)?;
        walk.end()?;
        if walk.at() == parent {
            return Err(Error::Protocol {
                status: 409,
                reason: "a head after the parent",
            });
        }
        Ok(walk.at())
    }

    pub(crate) async fn chain(&self, from: Position) -> Result<Chain> {
        match self
            .authorized(Call::get(format!("/api/sync/chain?from={}", Cursor::at(from))))
            .await
        {
            Ok(answer) => answer.decode(),
            Err(Error::Problem(problem)) if problem.known_code() == Some(ProblemCode::HistoryDiverged) => {
                match problem.latest {
                    Some(latest) => Err(diverged(from, latest)),
                    None => Err(Error::Problem(problem)),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Why the server refused the key.
    pub(crate) async fn key_mismatch(&self, keys: &Keys) -> Error {
        match self.envelope().await {
            Ok(Some(EnvelopeInUse { envelope, .. })) if envelope.key_version() > keys.ring.key_version() => {
                Error::KeyRotated {
                    key_id: envelope.key_id(),
                }
            }
            Ok(Some(EnvelopeInUse { envelope, .. })) => Error::WrongKey {
                held: keys.current().key_id,
                current: envelope.key_id(),
            },
            Ok(None) => Error::NoServerKey,
            Err(error) => error,
        }
    }
}

/// Encodes as many changes from `start` on as one batch takes.
fn encode(changes: &[ChangeEntry], start: usize) -> Result<(Range<usize>, BatchBody)> {
    let rest = changes.get(start..).unwrap_or_default();
    let (taken, body) = BatchBody::encode_prefix(rest)
        // The index that the app is told counts from the first of its changes.
        .map_err(|error| {
            Error::Encode(EncodeError {
                index: start + error.index,
                ..error
            })
        })?;
    Ok((start..start + taken, body))
}

async fn seal_next(pusher: Pusher, changes: Arc<Vec<ChangeEntry>>, start: usize, parent: Position) -> Result<Sealed> {
    blocking(move || {
        let (range, body) = encode(&changes, start)?;
        seal(&pusher, SyncKitClient::new_batch_id(), Arc::new(body), range, parent)
    })
    .await?
}

async fn reseal(pusher: &Pusher, sealed: Sealed, parent: Position) -> Result<Sealed> {
    let pusher = pusher.clone();
    blocking(move || seal(&pusher, sealed.batch_id, sealed.body, sealed.range, parent)).await?
}

/// Seals a body as the next batch after `parent`, with a fresh nonce.
fn seal(
    pusher: &Pusher,
    batch_id: BatchId,
    body: Arc<BatchBody>,
    range: Range<usize>,
    parent: Position,
) -> Result<Sealed> {
    let keys = pusher.keys.current();
    let context = BatchContext {
        scope: pusher.scope,
        device_id: pusher.device_id,
        batch_id,
        parent,
    };
    let sealed = keys.batch.seal(&keys.key_id, &context, &body, &mut OsRng);
    let digest = BatchDigest {
        batch_id,
        device_id: pusher.device_id,
        key_id: keys.key_id,
        count: body.count(),
        sealed_hash: SealedHash::of(&sealed),
    };
    let after = parent.advance(&digest).ok_or_else(|| Error::InvalidArgument {
        argument: "changes",
        reason: "the stream is full".into(),
    })?;
    let push = Push {
        device_id: pusher.device_id,
        batch_id,
        key_id: keys.key_id,
        count: body.count(),
        parent,
        sealed: sealed.into(),
    };
    let request = Call::encode(&push)?;
    Ok(Sealed {
        batch_id,
        body,
        range,
        parent,
        after,
        request,
    })
}
