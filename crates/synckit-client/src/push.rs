//! Writing the log: changes are sealed on top of the newest history that this device has verified, and sealed again if
//! another device was faster.
//!
//! Invariants: a batch keeps its id through every retry, so nothing is stored twice. A long push seals the next batch
//! while it sends the previous one, so that batch names an expected parent. The server's answer is compared with the
//! expected position, which detects a server that lies about the stored batch.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use rand::rngs::OsRng;
use synckit_crypto::{
    StreamScope,
    batch::{BatchBody, BatchContext, ChangeEntry, EncodeError},
};
use synckit_protocol::{BatchDigest, BatchId, Cursor, DeviceId, Position, ProblemCode, SealedHash, wire::log::Push};
use uuid::Uuid;

use crate::{
    client::SyncKitClient,
    connection::call::Call,
    error::{Error, PushError, Result},
    history::walk::diverged,
    runtime,
    state::keys::Keys,
    stream::{chain::Sent, handle::Stream},
};

/// Limit of sealing one batch again because other devices were faster; then the push fails.
const RESEALS_MAX: u32 = 100;

/// The position that a push seals on top of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parent {
    /// The newest known history. If the stream has moved on: hash forward over the batches in between, and seal on top
    /// of them.
    Newest,
    /// Exactly this position. If the stream has moved on: report it to the caller, who wants to merge first.
    Exactly(Cursor),
}

/// The device that pushes, and its keys.
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
    /// The end of the last stored batch.
    until: Option<Position>,
}

/// A batch that is ready to be sent.
struct Sealed {
    batch_id: BatchId,
    body: Arc<BatchBody>,
    /// The range of the given changes in this batch.
    range: Range<usize>,
    parent: Position,
    /// The position of the stream after this batch.
    after: Position,
    /// The encoded request.
    request: Bytes,
}

impl SyncKitClient {
    /// Pushes changes: encrypted, appended in order, and stored durably before this returns. More than 500 changes, or
    /// 4 MiB, are split into batches; on a line so slow that a batch would take longer than about 20 s, into smaller ones of at
    /// least 64 KiB. Each batch is atomic; the whole push is not.
    ///
    /// Returns a cursor that is safe to store: the end of the last page that [`SyncKitClient::pull`] returned, or the
    /// cursor given to [`SyncKitClient::resume_at`], or [`Cursor::START`] if the app has never pulled on this device.
    /// The cursor is never past this push, so the next pull returns the pushed changes, too. After a restart of an app
    /// that has pulled before, only the app knows its cursor: a push before `resume_at` and the first pull is
    /// [`Error::CursorUnknown`], and sends nothing.
    ///
    /// If the app crashes before it notes the success, it pushes the changes again at the next start. That is harmless,
    /// because changes carry whole rows; [`SyncKitClient::push_at`] with a batch id avoids even that.
    ///
    /// # Errors
    /// [`PushError`], with the number of stored changes and the reason for the rest: among others
    /// [`Error::CursorUnknown`], [`Error::Encode`], [`Error::KeyRotated`], [`Error::WrongKey`], [`Error::DeviceRevoked`],
    /// [`Tampering::HistoryRewound`](crate::Tampering::HistoryRewound), [`Tampering::HistoryForked`](crate::Tampering::HistoryForked).
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
        let failed = |source, accepted, cursor| PushError {
            accepted,
            cursor,
            source,
        };
        let applied = self.applied();
        let cursor = applied.unwrap_or_default();
        let stream = self.stream().map_err(|source| failed(source, 0, cursor))?;
        if applied.is_none() {
            return Err(failed(Error::CursorUnknown, 0, cursor));
        }
        let mut accepted = Accepted::default();
        push_batches(&stream, device_id, Parent::Newest, None, changes, &mut accepted)
            .await
            .map(|()| cursor)
            .map_err(|source| failed(source, accepted.entries, cursor))
    }

    /// Pushes changes on top of exactly the history that the app has applied, which ends at `parent`, and fails if
    /// anything else was pushed meanwhile. For apps that merge by their own rules, because an older version of a row
    /// then never follows a newer one of another device; and for pushes that must happen exactly once.
    ///
    /// Returns the cursor after the changes. If anything else was pushed meanwhile, it fails with [`Error::Behind`]:
    /// store the cursor of the [`PushError`], pull, merge, and push the remaining changes in their merged form.
    ///
    /// Without a `batch_id`, changes are split into batches as in [`SyncKitClient::push`]. With a `batch_id`, which the
    /// app stored beforehand ([`SyncKitClient::new_batch_id`]), the changes are a single batch that is stored exactly
    /// once, even if the app crashes at any moment and pushes again with the same id. Use an id for the same changes
    /// only. If the app has already pulled past the batch, the returned cursor is `parent`. A batch that the server
    /// claims to hold already is read back, so that a batch whose bytes were replaced in transit never counts as
    /// stored: that is [`Tampering::BatchForged`](crate::Tampering::BatchForged). (If the batch is so old that only a
    /// snapshot contains it, the server's claim cannot be checked: that is [`Error::Problem`] with `cursor_compacted`.
    /// Pull, and push the missing changes under a new id.)
    ///
    /// # Errors
    /// As [`SyncKitClient::push`]; [`Error::Behind`]; [`Error::InvalidArgument`] if `parent` lies inside a snapshot, or
    /// if the changes with a `batch_id` are empty or exceed one batch of 500 changes and 4 MiB.
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
    /// let id = SyncKitClient::new_batch_id(); // stored in the outbox, before the push
    /// let merged = vec![note("1", "Buy milk")];
    /// let error = client.push_at(device.id, applied, Some(id), merged.clone()).await.unwrap_err();
    /// assert!(matches!(error.source, Error::Behind { .. }));
    ///
    /// // Pull the changes in between, merge, try again.
    /// let (_, applied, _) = client.pull(device.id, applied).await?;
    /// let cursor = client.push_at(device.id, applied, Some(id), merged.clone()).await?;
    /// assert_eq!(cursor.seq(), 2);
    ///
    /// // The app crashed before it could note that, and pushes again: nothing is stored twice.
    /// assert_eq!(client.push_at(device.id, applied, Some(id), merged).await?, cursor);
    /// assert_eq!(client.status().await?.change_count, 2);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn push_at(
        &self,
        device_id: DeviceId,
        parent: Cursor,
        batch_id: Option<BatchId>,
        changes: Vec<ChangeEntry>,
    ) -> Result<Cursor, PushError> {
        let failed = |source, accepted, cursor| PushError {
            accepted,
            cursor,
            source,
        };
        let stream = self.stream().map_err(|source| failed(source, 0, parent))?;
        let mut accepted = Accepted::default();
        let at = Parent::Exactly(parent);
        let pushed = push_batches(&stream, device_id, at, batch_id, changes, &mut accepted).await;
        // After a crash and a second push, the batch may lie before the position that the app has pulled to.
        let cursor = match accepted.until.filter(|position| position.seq > parent.seq()) {
            Some(position) => {
                stream.state.apply(Cursor::at(position), position);
                Cursor::at(position)
            }
            None => parent,
        };
        pushed
            .map(|()| cursor)
            .map_err(|source| failed(source, accepted.entries, cursor))
    }

    /// A new id for a batch: a random UUID (version 4 of RFC 9562). It contains no time, because the server must not
    /// learn when an edit was made offline.
    ///
    /// # Examples
    /// ```
    /// use synckit_client::SyncKitClient;
    ///
    /// assert_ne!(SyncKitClient::new_batch_id(), SyncKitClient::new_batch_id());
    /// ```
    #[must_use]
    pub fn new_batch_id() -> BatchId {
        BatchId::from_bytes(Uuid::new_v4().into_bytes())
    }
}

async fn push_batches(
    stream: &Stream,
    device_id: DeviceId,
    at: Parent,
    batch_id: Option<BatchId>,
    changes: Vec<ChangeEntry>,
    accepted: &mut Accepted,
) -> Result<()> {
    let pusher = Pusher {
        scope: stream.scope(),
        keys: stream.keys()?,
        device_id,
    };
    if changes.is_empty() {
        return match batch_id {
            Some(_) => Err(invalid_changes("a batch holds at least one change")),
            None => Ok(()),
        };
    }
    let _turn = stream.writing.next().await;
    stream.state.act_as(device_id);
    let parent = match at {
        Parent::Newest => stream.newest_known(),
        Parent::Exactly(cursor) if cursor.snapshot().is_some() => {
            return Err(Error::InvalidArgument {
                argument: "parent",
                reason: "it lies inside a snapshot: pull to its end first".into(),
            });
        }
        Parent::Exactly(cursor) => cursor.position().unwrap_or_else(|| stream.start()),
    };
    let changes = Arc::new(changes);
    let first = Piece {
        changes: Arc::clone(&changes),
        start: 0,
        bytes_max: stream.line.batch_bytes(),
    };
    let mut sealed = seal_next(pusher.clone(), first, batch_id, parent).await?;
    loop {
        let end = sealed.range.end;
        let ahead = (end < changes.len()).then(|| {
            let next = Piece {
                changes: Arc::clone(&changes),
                start: end,
                bytes_max: stream.line.batch_bytes(),
            };
            runtime::spawn(seal_next(pusher.clone(), next, None, sealed.after))
        });
        let position = append(stream, &pusher, sealed, at).await?;
        *accepted = Accepted {
            entries: end,
            until: Some(position),
        };
        let Some(ahead) = ahead else { return Ok(()) };
        let next = ahead.join().await??;
        sealed = if next.parent == position {
            next
        } else {
            reseal(&pusher, next, position).await?
        };
    }
}

/// Stores one batch and returns the position after it.
async fn append(stream: &Stream, pusher: &Pusher, mut sealed: Sealed, at: Parent) -> Result<Position> {
    let base = sealed.parent;
    for attempt in 0..=RESEALS_MAX {
        let known = stream.state.known();
        let call = Call::post("/api/sync/push").encoded_body(sealed.request.clone());
        let (bytes, began) = (sealed.request.len(), runtime::now());
        let problem = match stream.connection.authorized_as(pusher.device_id, call).await {
            Ok(answer) => {
                stream.line.sent(bytes, began.elapsed());
                let sent = Sent {
                    batch_id: sealed.batch_id,
                    device_id: pusher.device_id,
                    base,
                    after: sealed.after,
                };
                let position = stream.stored_at(sent, &answer.decode()?).await?;
                stream.state.know(position);
                return Ok(position);
            }
            Err(Error::Problem(problem)) => problem,
            Err(error) => {
                if matches!(error, Error::Network(_)) {
                    stream.line.broke(bytes);
                }
                return Err(error);
            }
        };
        let latest = match problem.known_code() {
            Some(ProblemCode::Behind) => {
                let latest = stream.hash_forward(sealed.parent, known, *problem).await?;
                if attempt > 0 && at == Parent::Newest {
                    runtime::sleep(stream.connection.api().jitter.pause(attempt)).await;
                }
                latest
            }
            // This device was offline for long. A snapshot has the changes that it missed; the log continues after
            // that.
            Some(ProblemCode::CursorCompacted) => stream.snapshot_position(&pusher.keys, known, *problem).await?,
            Some(ProblemCode::KeyMismatch) => return Err(stream.unknown_key(&pusher.keys, None).await),
            _ => return Err(diverged(sealed.parent, Error::Problem(problem))),
        };
        stream.state.know(latest);
        match at {
            Parent::Newest => sealed = reseal(pusher, sealed, latest).await?,
            Parent::Exactly(_) => return Err(Error::Behind { latest }),
        }
    }
    Err(Error::Behind { latest: sealed.parent })
}

fn invalid_changes(reason: &str) -> Error {
    Error::InvalidArgument {
        argument: "changes",
        reason: reason.to_owned(),
    }
}

/// Where the next batch of a push begins.
struct Piece {
    changes: Arc<Vec<ChangeEntry>>,
    start: usize,
    /// The most bytes that the batch should have on this line. A single change may have more.
    bytes_max: Option<usize>,
}

/// Encodes as many changes as fit one batch of about `bytes_max`, beginning at `start`.
fn encode(changes: &[ChangeEntry], start: usize, bytes_max: Option<usize>) -> Result<(Range<usize>, BatchBody)> {
    let rest = changes.get(start..).unwrap_or_default();
    let (taken, body) = encode_at_most(rest, bytes_max)
        // The reported index counts from the first of all changes of the app.
        .map_err(|error| {
            Error::Encode(EncodeError {
                index: start + error.index,
                ..error
            })
        })?;
    Ok((start..start + taken, body))
}

/// Encodes fewer changes, in proportion, while they have too many bytes.
fn encode_at_most(changes: &[ChangeEntry], bytes_max: Option<usize>) -> Result<(usize, BatchBody), EncodeError> {
    let (mut taken, mut body) = BatchBody::encode_prefix(changes)?;
    while let Some(bytes_max) = bytes_max.filter(|&most| most < body.encoded_bytes() && taken > 1) {
        let fewer = (taken.saturating_mul(bytes_max) / body.encoded_bytes()).clamp(1, taken - 1);
        (taken, body) = BatchBody::encode_prefix(&changes[..fewer])?;
    }
    Ok((taken, body))
}

/// Seals as many changes as fit one batch, beginning at `start`; all of them, if the app chose the batch id.
async fn seal_next(pusher: Pusher, piece: Piece, batch_id: Option<BatchId>, parent: Position) -> Result<Sealed> {
    runtime::blocking(move || {
        // A batch whose id the app chose is never divided.
        let bytes_max = piece.bytes_max.filter(|_| batch_id.is_none());
        let (range, body) = encode(&piece.changes, piece.start, bytes_max)?;
        if batch_id.is_some() && range.end < piece.changes.len() {
            return Err(invalid_changes("they do not fit one batch of 500 changes and 4 MiB"));
        }
        let batch_id = batch_id.unwrap_or_else(SyncKitClient::new_batch_id);
        seal(&pusher, batch_id, Arc::new(body), range, parent)
    })
    .await?
}

async fn reseal(pusher: &Pusher, sealed: Sealed, parent: Position) -> Result<Sealed> {
    let pusher = pusher.clone();
    runtime::blocking(move || seal(&pusher, sealed.batch_id, sealed.body, sealed.range, parent)).await?
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
