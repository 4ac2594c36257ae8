//! Continuing after the server's history and this device's have diverged for good: after a restored backup, or past a
//! batch that no device can read.
//!
//! A rejoin is deliberately not automatic: it accepts a history that was refused before, so the user decides, after the
//! operator has explained the cause. It also moves no data: the SDK has no database, so the app pulls, merges and
//! pushes again, as [`SyncKitClient::rejoin`] says.
//!
//! Invariants: the known position moves back only here, and only to a position from which the server's chain was hashed
//! forward to its end. A skipped batch is one that no device can read, in a part of the log whose ends are hashes.
//! Every step can be repeated after a crash.

use std::sync::Arc;

use synckit_crypto::{Envelope, KeyEnd, KeyRing};
use synckit_protocol::{Cursor, Position, ProblemCode};
use zeroize::Zeroizing;

use crate::{
    client::SyncKitClient,
    error::{Error, Result},
    history::{ledger::SkippedSpan, walk::Walk},
    state::keys::Keys,
    stream::{
        chain::Place,
        common::{Common, marks_of},
        envelope::Opener,
        handle::Stream,
        log::Unreadable,
    },
    tampering::{BatchEvidence, BatchFault, RejoinEvidence, Tampering},
};

/// The next steps of the app after [`SyncKitClient::rejoin`].
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # use synckit_client::{Cursor, Head, Position};
/// # use synckit_doctest::note;
/// # let (client, device) = world.device("laptop").await?;
/// # client.push(device.id, vec![note("1", "Buy milk")]).await?;
/// # // The app is at 40; the server, restored from a backup, at 1.
/// # let lost = Cursor::at(Position { seq: 40, head: Head::from_bytes([9; 32]) });
/// # let stored = lost;
/// let error = client.pull(device.id, stored).await.unwrap_err();
/// let evidence = error.rejoin_evidence().ok_or(error)?;
/// // The user says yes.
/// let rejoined = client.rejoin(&evidence, stored).await?;
/// assert!(rejoined.cursor.seq() <= rejoined.latest.seq && rejoined.latest.seq == 1);
/// assert!(rejoined.push_all_rows); // the server may lack what this device had
/// client.pull(device.id, rejoined.cursor).await?;
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejoined {
    /// Store this instead of the app's cursor, and pull from here to the end. It is never after the given cursor, and
    /// is [`Cursor::START`] if the histories have no later position in common.
    pub cursor: Cursor,
    /// The newest position of the server's history, verified.
    pub latest: Position,
    /// Whether the server may lack changes that this device pushed or pulled: then push every row again, after the
    /// pull. If not, nothing was lost, and the pull is enough.
    pub push_all_rows: bool,
    /// Number of unreadable batches that are skipped from now on: that of the evidence, and all later ones so far. A
    /// client that has not pulled yet counts only the first. 0 after a change to another history.
    pub skipped_batches: u64,
    /// Number of changes that these batches claim to hold.
    pub skipped_changes: u64,
}

impl SyncKitClient {
    /// Accepts a server history that differs from the one that this device knew, after
    /// [`Tampering::HistoryRewound`](crate::Tampering::HistoryRewound),
    /// [`Tampering::HistoryForked`](crate::Tampering::HistoryForked) or
    /// [`Tampering::BatchForged`](crate::Tampering::BatchForged): **only by the user's decision**, and only if the
    /// operator says that the server was restored from a backup or that somebody vandalised the log. `cursor` is the
    /// app's stored cursor.
    ///
    /// *Another history.* Finds the newest position that both histories have in common and that is not after `cursor`,
    /// and verifies the server's chain from there. The app then
    ///
    /// 1. stores [`Rejoined::cursor`] instead of its own, and remembers that a rejoin is in progress;
    /// 2. pulls to the end and **merges by its own timestamps**: of two versions of a row it keeps the newer one,
    ///    wherever it came from, because another device may have rejoined earlier;
    /// 3. pushes **every row** it has, and every deletion that it remembers, by [`SyncKitClient::push_at`], which never
    ///    writes an older version of a row after a newer one that another device pushed meanwhile; and uploads its
    ///    files again (a file that the server already has costs one request). Then the rejoin is complete.
    ///
    /// If the app stops in between, it repeats 2 and 3. After every device has done so, all of them have everything
    /// that any of them had. An app that remembers no deletions should pull from [`Cursor::START`] instead. Otherwise a
    /// row that was deleted after the backup stays deleted on today's devices and reappears on new ones.
    ///
    /// If the server's envelope does not continue from this device's keys, this call returns
    /// [`Tampering::EnvelopeReplaced`](crate::Tampering::EnvelopeReplaced): call [`SyncKitClient::restore_envelope`]
    /// with the password, then this again.
    ///
    /// *A batch that no device can read.* A thief of a token, who does not have the key, can append garbage. A device
    /// with a defective encoder can append a batch that opens and breaks a rule of the format, which `reason` of the
    /// evidence names. The server cannot know, and honest batches follow it in the chain. From now on this device skips
    /// this batch and every later unreadable one, up to the newest position now. It skips them as a part of the log
    /// between two positions, which are hashes, so one decision is enough for any number of batches. Readable batches
    /// in between are read. Every other device, also a new one, refuses the batch in turn, until a device that skips it
    /// calls [`SyncKitClient::fold`]. After garbage of a thief nothing is lost: end the session of the thief.
    /// [`Rejoined::push_all_rows`] is set after a batch that breaks a rule, because its changes have reached no other
    /// device, and after garbage under this device's own name, because it may be a push of this device that was
    /// replaced in transit.
    ///
    /// # Errors
    /// [`Error::NothingToRejoin`] if the server agrees with this device now, or if the conflict in the evidence was
    /// resolved since: pull again.
    /// [`Tampering::EnvelopeReplaced`](crate::Tampering::EnvelopeReplaced) and [`Error::KeyRotated`] as above.
    /// [`Tampering::BatchForged`](crate::Tampering::BatchForged) for a batch that a device of the user might have
    /// sealed: only a lying server shows one, and no call accepts it.
    /// [`Tampering::HistoryRewound`](crate::Tampering::HistoryRewound) or
    /// [`Tampering::HistoryForked`](crate::Tampering::HistoryForked) with other evidence if the server changes its
    /// history meanwhile. [`Error::SessionEnded`] if the backup does not know the session: sign in, and register the
    /// device.
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// use std::collections::HashMap;
    /// use synckit_client::{ChangeEntry, Cursor, DeviceId, Error, SyncKitClient, Tampering};
    ///
    /// /// What this app has in its database: the last change of every row, deletions too, by table and row.
    /// struct Database {
    ///     rows: HashMap<(String, String), ChangeEntry>,
    ///     cursor: Cursor,
    ///     is_rejoining: bool,
    /// }
    ///
    /// impl Database {
    ///     /// In one transaction with the cursor. The newer version of a row wins.
    ///     fn merge(&mut self, changes: Vec<ChangeEntry>, cursor: Cursor) {
    ///         for change in changes {
    ///             let row = (change.table.clone(), change.row_id.clone());
    ///             match self.rows.get(&row) {
    ///                 Some(held) if held.timestamp > change.timestamp => {}
    ///                 _ => drop(self.rows.insert(row, change)),
    ///             }
    ///         }
    ///         self.cursor = cursor;
    ///     }
    /// }
    ///
    /// async fn pull(client: &SyncKitClient, device: DeviceId, db: &mut Database) -> Result<(), Error> {
    ///     loop {
    ///         let (changes, cursor, has_more) = client.pull(device, db.cursor).await?;
    ///         db.merge(changes, cursor);
    ///         if !has_more {
    ///             return Ok(());
    ///         }
    ///     }
    /// }
    ///
    /// async fn sync(client: &SyncKitClient, device: DeviceId, db: &mut Database) -> Result<(), Error> {
    ///     pull(client, device, db).await?;
    ///     if db.is_rejoining {
    ///         push_all_rows(client, device, db).await?;
    ///         db.is_rejoining = false;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// async fn push_all_rows(client: &SyncKitClient, device: DeviceId, db: &mut Database) -> Result<(), Error> {
    ///     let mut rows: Vec<_> = db.rows.keys().cloned().collect();
    ///     loop {
    ///         // As they are now: a newer version may have been pulled since.
    ///         let changes = rows.iter().map(|row| db.rows[row].clone()).collect();
    ///         match client.push_at(device, db.cursor, None, changes).await {
    ///             Ok(cursor) => {
    ///                 db.cursor = cursor;
    ///                 return Ok(());
    ///             }
    ///             Err(failed) => {
    ///                 rows.drain(..failed.accepted);
    ///                 db.cursor = failed.cursor;
    ///                 let Error::Behind { .. } = failed.source else {
    ///                     return Err(failed.source);
    ///                 };
    ///                 pull(client, device, db).await?;
    ///             }
    ///         }
    ///     }
    /// }
    ///
    /// /// After a sync failed, and the user was asked.
    /// async fn rejoin(
    ///     client: &SyncKitClient,
    ///     device: DeviceId,
    ///     db: &mut Database,
    ///     failed: &Error,
    ///     password: &str,
    /// ) -> Result<(), Error> {
    ///     let Some(evidence) = failed.rejoin_evidence() else { return Ok(()) };
    ///     let rejoined = match client.rejoin(&evidence, db.cursor).await {
    ///         // The backup is from before a rotation of the key.
    ///         Err(Error::Tampering(Tampering::EnvelopeReplaced { .. })) => {
    ///             client.restore_envelope(password).await?;
    ///             client.rejoin(&evidence, db.cursor).await?
    ///         }
    ///         // Another device has rotated the key since.
    ///         Err(Error::KeyRotated { .. }) => {
    ///             match client.setup_encryption_existing(password).await {
    ///                 // In the restored history, in which this device's own rotation never happened.
    ///                 Err(Error::Tampering(Tampering::EnvelopeReplaced { .. })) => client.restore_envelope(password).await?,
    ///                 settled => settled?,
    ///             }
    ///             client.rejoin(&evidence, db.cursor).await?
    ///         }
    ///         rejoined => rejoined?,
    ///     };
    ///     db.cursor = rejoined.cursor;
    ///     db.is_rejoining |= rejoined.push_all_rows;
    ///     sync(client, device, db).await
    /// }
    /// # let (client, device) = world.device("laptop").await?;
    /// # let mut db = Database { rows: HashMap::new(), cursor: Cursor::START, is_rejoining: true };
    /// # let note = synckit_doctest::note("1", "Buy milk");
    /// # db.rows.insert((note.table.clone(), note.row_id.clone()), note);
    /// # sync(&client, device.id, &mut db).await?;
    /// # assert_eq!(db.cursor.seq(), 1);
    /// # rejoin(&client, device.id, &mut db, &Error::NotSignedIn, world.password).await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn rejoin(&self, evidence: &RejoinEvidence, cursor: Cursor) -> Result<Rejoined> {
        let stream = self.stream()?;
        let keys = stream.keys()?;
        // A push in between would be sealed on top of the history that this call gives up.
        let _turn = stream.writing.next().await;
        let offered = offered_keys(&stream, &keys.ring).await?;
        let rejoined = match evidence {
            RejoinEvidence::History(evidence) => {
                // Evidence of a contradiction that was resolved since must not resolve a different one.
                let mut believed = stream.believed(&keys.ring);
                believed.extend(cursor.position());
                if !believed.contains(&evidence.known) {
                    return Err(Error::NothingToRejoin);
                }
                change_over(&stream, offered, cursor).await?
            }
            RejoinEvidence::Batch(batch) => skip_unreadable(&stream, keys, batch, cursor).await?,
        };
        tracing::warn!(
            cursor = %rejoined.cursor,
            latest = rejoined.latest.seq,
            "rejoined, by the user's decision"
        );
        Ok(rejoined)
    }
}

/// The server's envelope and its ring, which must be under the same key that this device holds.
async fn offered_keys(stream: &Stream, held: &KeyRing) -> Result<(KeyRing, Envelope)> {
    let Some(found) = stream.envelope().await? else {
        return Err(Error::Tampering(Tampering::EnvelopeReplaced {
            held_version: held.key_version(),
            found_version: 0,
        }));
    };
    let ring = stream.ring_in(&found.envelope, Opener::HeldRing, Some(held))?;
    Ok((ring, found.envelope))
}

/// Switches to the server's history.
async fn change_over(stream: &Stream, (offered, envelope): (KeyRing, Envelope), cursor: Cursor) -> Result<Rejoined> {
    if stream.agrees(cursor).await? {
        return Err(Error::NothingToRejoin);
    }
    // The app must pull everything that it does not have yet, so no position after its cursor may be used. A position
    // that the ring vouches for may be one that the app has not reached: the ring may belong to the other history.
    let mut positions = stream.state.believed();
    positions.extend(cursor.position());
    positions.retain(|position| position.seq <= cursor.seq());
    let common = stream.last_common(positions).await?;
    let keys = Keys::without_ends(&stream.scope(), offered.clone());
    let latest = stream.history_after(&keys, common).await?;

    // The envelope's writer may not have rejoined either.
    let ring = match stream.place_of(offered.floor()).await? {
        Place::OnChain | Place::BelowBase { .. } => offered,
        Place::NotOnChain { .. } => {
            let anchor = stream.last_common(marks_of(&offered)).await?.position();
            let snapshot = stream.newest_snapshot(&keys, latest).await?.manifest;
            let end = KeyEnd {
                until: latest,
                snapshot,
            };
            let in_use = offered.key_version();
            offered.rebase(anchor, end, in_use).map_err(Error::Key)?
        }
    };
    let cursor = match common {
        Common::At(position) => Cursor::at(position),
        // The snapshot comes first.
        Common::BelowBase(_) => Cursor::START,
    };
    // After a crash in between, the device still contradicts the server, and can rejoin again.
    let secret = Zeroizing::new(ring.to_secret_bytes().to_vec());
    stream.store_keys(secret, &envelope).await?;
    stream.state.change_over(common.position(), latest, cursor);
    // A decision about the lost history does not apply to the other one.
    let skipped = stream.state.skipped().and_then(|span| span.up_to(common.position()));
    stream.store_skipped(skipped).await?;
    stream.key_state.install(Keys::new(&stream.scope(), ring));
    stream.save_position_now().await?;
    Ok(Rejoined {
        cursor,
        latest,
        push_all_rows: true,
        skipped_batches: 0,
        skipped_changes: 0,
    })
}

/// Remembers to skip a batch, and every later unreadable one.
async fn skip_unreadable(stream: &Stream, keys: Arc<Keys>, batch: &BatchEvidence, cursor: Cursor) -> Result<Rejoined> {
    if batch.fault == BatchFault::Elsewhere {
        // A batch in the wrong place, or under a key that this device does not hold or no longer accepts, may be an
        // honest device's. An honest server accepts none of these.
        return Err(Error::Tampering(Tampering::BatchForged(Box::new(batch.clone()))));
    }
    let chain = match stream.chain_page(batch.parent).await {
        Ok(chain) => chain,
        // A snapshot replaces the batch: the pull reads the snapshot.
        Err(error) if error.is_problem(ProblemCode::CursorCompacted) => return Err(Error::NothingToRejoin),
        Err(error) => return Err(error),
    };
    let digest = batch.digest();
    let after = batch.parent.advance(&digest);
    let (Some(after), true) = (after, chain.digests.first() == Some(&digest)) else {
        // The page was changed in transit; the chain was not.
        return Err(Error::NothingToRejoin);
    };
    // All other protections stay: the chain must still lead to the position that this device knows.
    let walk = Walk::new(batch.parent, stream.state.known())?;
    let found = match stream.state.device_id() {
        Some(device_id) => stream.unreadable(device_id, Arc::clone(&keys), walk).await?,
        // This client has not pulled yet, so it cannot read further.
        None => Unreadable {
            latest: Some(stream.walk_to_head(&keys, walk).await?),
            batches: 1,
            changes: u64::from(batch.count),
            ..Unreadable::default()
        },
    };
    let latest = found.latest.unwrap_or(after);
    let until = found.until.filter(|until| until.seq > after.seq).unwrap_or(after);
    let decided = SkippedSpan::new(batch.parent, until);
    let before = stream.state.skipped();
    let joined = match (before, decided) {
        (Some(before), Some(decided)) => Some(before.joined(decided)),
        (before, decided) => decided.or(before),
    };
    // The end of the span is a position that this device verified: a history that leads elsewhere contradicts it.
    stream.state.know(latest);
    stream.store_skipped(joined).await?;
    Ok(Rejoined {
        cursor,
        latest,
        skipped_batches: found.batches,
        skipped_changes: found.changes,
        // Only the device that sealed a batch still has the rows of an unreadable one. Garbage under this device's name
        // may be a push of its own that was replaced in transit.
        push_all_rows: found.breaks_rule || found.is_own || batch.fault == BatchFault::BreaksRule,
    })
}
