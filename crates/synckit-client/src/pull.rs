//! Reading the log: a page reaches the app only after all of it was verified and opened.

use std::sync::Arc;

use synckit_protocol::{
    Cursor, DeviceId, ProblemCode, SnapshotId, SnapshotPlace,
    wire::{log::Page, snapshots::SnapshotInfo},
};

use crate::{
    client::SyncKitClient,
    error::{Error, Result},
    history::walk::Walk,
    runtime,
    snapshots::read::{Pulled, pull_rows},
    state::prefetch::Prefetch,
    stream::{
        handle::Stream,
        log::{Avoid, Request},
    },
    tampering::{HistoryEvidence, Tampering},
};

/// Limit of snapshots that one pull tries: each one may be replaced while the pull reads it.
const SNAPSHOTS_TRIED_MAX: u32 = 4;

impl SyncKitClient {
    /// Pulls the changes after a cursor: verified, decrypted, in log order, the app's own changes included. Store the
    /// returned cursor together with the changes, and pull again while the last value is `true`. Start with
    /// [`Cursor::START`].
    ///
    /// If a snapshot replaces the start of the log, its rows are returned instead, as insertions and deletions. After a
    /// long absence an app may get rows that it already has. The cursor then points into the snapshot; store it like
    /// any other.
    ///
    /// A page holds at most 500 changes. Applying one twice is harmless, because changes carry whole rows. Merge a
    /// change into a row that waits to be pushed, or skip the change; overwriting the waiting row would lose the user's
    /// edit.
    ///
    /// # Errors
    /// [`Tampering::HistoryRewound`](crate::Tampering::HistoryRewound), [`Tampering::HistoryForked`](crate::Tampering::HistoryForked) and [`Tampering::BatchForged`](crate::Tampering::BatchForged) with evidence;
    /// [`Error::KeyRotated`] if another device changed the master key; [`Error::DeviceRevoked`];
    /// [`Tampering::SnapshotForged`](crate::Tampering::SnapshotForged) if the beginning of the log is deleted and no
    /// snapshot of it verifies; [`Error::EncryptionNotSetUp`]. A page with an error returns none of its changes.
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
    /// # let (mut rows, stored, outbox) = (BTreeMap::new(), Cursor::START, BTreeMap::<String, ()>::new());
    /// let mut cursor = stored;
    /// loop {
    ///     let (changes, next, has_more) = client.pull(device.id, cursor).await?;
    ///     // One transaction of the app's database: the changes, and the cursor.
    ///     for change in changes {
    ///         if outbox.contains_key(&change.row_id) {
    ///             continue; // the user has changed this row since; a push of that follows
    ///         }
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
        let stream = self.stream()?;
        stream.state.act_as(device_id);
        let mut from = cursor;
        let mut refused: Option<(SnapshotId, Error)> = None;
        for _ in 0..SNAPSHOTS_TRIED_MAX {
            let place = match from.snapshot() {
                Some(place) => place,
                None => {
                    let avoid = if refused.is_some() {
                        Avoid::Newest
                    } else {
                        Avoid::Nothing
                    };
                    match pull_log(&stream, device_id, from, avoid).await? {
                        LogPull::Page(pulled) => return Ok(pulled),
                        LogPull::Snapshot(place) => place,
                    }
                }
            };
            match refused {
                // The log is incomplete, and no other snapshot exists.
                Some((id, error)) if id == place.snapshot_id => return Err(error),
                _ => {}
            }
            match pull_rows(&stream, place).await {
                Ok(Some(pulled)) => return Ok(pulled),
                // A newer snapshot took its place: all rows are returned again, deletions too, which corrects the app's
                // earlier rows.
                Ok(None) => from = restarted(from),
                // The app was in the middle of this snapshot. Meanwhile a key may have been retired, and the newest
                // snapshot taken its place.
                Err(Error::Tampering(Tampering::SnapshotForged(evidence)))
                    if from.snapshot().is_some() && evidence.part.is_none() =>
                {
                    from = Cursor::START;
                }
                Err(error @ Error::Tampering(Tampering::SnapshotForged(_))) => match refused {
                    Some((_, first)) => return Err(first),
                    None => {
                        tracing::warn!(%error, "a snapshot was refused: the pull skips it; a fold replaces it");
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
                reason: "the snapshot that the server named",
            },
            |(_, error)| error,
        ))
    }
}

/// A page of the log, or the snapshot that the server names in its place.
async fn pull_log(stream: &Stream, device_id: DeviceId, cursor: Cursor, avoid: Avoid) -> Result<LogPull> {
    let keys = stream.keys()?;
    let from = cursor.position().unwrap_or_else(|| stream.start());
    let known = stream.state.known();
    let request = Request {
        device_id,
        cursor,
        ahead: false,
        avoid,
    };
    let prefetched = match stream.state.take_prefetch() {
        Some(prefetch) if prefetch.device_id == device_id && prefetch.cursor == cursor => {
            let known = prefetch.known;
            // A failed prefetch is ignored: the app's own request decides about the error.
            prefetch
                .page
                .join()
                .await
                .ok()
                .and_then(Result::ok)
                .map(|page| (known, page))
        }
        _ => None,
    };
    let (known, page) = match prefetched {
        Some((known, page)) => (known, Ok(page)),
        None => (known, request.send(&stream.connection).await),
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
        // A server that always claims this would keep the app in an endless loop.
        return Err(Error::Protocol {
            status: 200,
            reason: "a page with changes, because more pages follow",
        });
    }
    if has_more {
        prefetch(stream, device_id, next).await;
    }
    let (entries, walk) = stream.open(keys, Walk::new(from, known)?, page).await?;
    let end = walk.at();
    walk.expect(next.position().unwrap_or_else(|| stream.start()))?;
    if !has_more {
        walk.end()?;
    }
    stream.state.apply(Cursor::at(end), end);
    stream.save_position().await?;
    Ok(LogPull::Page((entries, Cursor::at(end), has_more)))
}

async fn prefetch(stream: &Stream, device_id: DeviceId, cursor: Cursor) {
    let known = stream.state.known();
    let connection = Arc::clone(&stream.connection);
    let page = runtime::start(async move { Request::ahead(device_id, cursor).send(&connection).await }).await;
    stream.state.keep_prefetch(Prefetch {
        device_id,
        cursor,
        known,
        page,
    });
}

/// The result of one pull from the log.
enum LogPull {
    Page(Pulled),
    /// The place in a snapshot at which the pull continues.
    Snapshot(SnapshotPlace),
}

/// The first place of the snapshot that the server names in place of the log after `cursor`.
fn enter(cursor: Cursor, snapshot: SnapshotInfo) -> Result<LogPull> {
    match cursor.position() {
        // An honest server names a snapshot only for a cursor below its position.
        Some(known) if snapshot.position.seq <= known.seq => {
            Err(Error::Tampering(Tampering::HistoryRewound(HistoryEvidence {
                known,
                claimed: snapshot.position,
            })))
        }
        _ => Ok(LogPull::Snapshot(SnapshotPlace {
            snapshot_id: snapshot.snapshot_id,
            position: snapshot.position,
            part: 0,
            row: 0,
        })),
    }
}

/// The cursor after a useless snapshot: a place inside one has no other continuation than the start.
fn restarted(from: Cursor) -> Cursor {
    if from.snapshot().is_some() { Cursor::START } else { from }
}
