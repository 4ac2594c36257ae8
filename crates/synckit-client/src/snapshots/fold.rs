//! Folding: a device writes the last entry of every row as a snapshot, so that the server can delete older edits.
//!
//! The history is read twice, because each part contains the number of all parts, and no device should need memory for
//! all rows. The first run finds the last entry of each row; the second run seals these entries. Memory holds 28 bytes
//! for each row (some 60 with the free space of the hash table), and one part. A caller whose rows are more than their last
//! entries keeps them in memory, and the history is read once.
//!
//! Invariant: the server shows a snapshot to nobody before its manifest is stored, which is the last step. An
//! interrupted fold leaves only parts, which the server sweeps.

use std::{collections::HashMap, mem, sync::Arc};

use http::Method;
use rand::{RngCore as _, rngs::OsRng};
use sha2::{Digest as _, Sha256};
use synckit_crypto::{
    StreamScope,
    batch::{ChangeEntry, EncodeError},
    snapshot::{Manifest, PART_ROW_BYTES_MAX, PART_ROWS_MAX, PARTS_MAX, PartBody, PartDigest, SnapshotContext},
};
use synckit_protocol::{
    DeviceId, Position, ProblemCode, SnapshotClaim, SnapshotId,
    wire::{
        log::Status,
        snapshots::{PutSnapshot, PutSnapshotPart},
    },
};
use uuid::Uuid;

use super::history::{History, Piece};
use crate::{
    client::SyncKitClient,
    connection::call::Call,
    error::{Error, Result},
    history::walk::diverged,
    runtime,
    state::keys::Keys,
    stream::{handle::Stream, log::Avoid},
    tampering::Tampering,
};

/// The result of a fold.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// # use synckit_doctest::note;
/// # client.push(device.id, vec![note("1", "Buy milk"), note("1", "Buy oat milk")]).await?;
/// let report = client.fold(device.id).await?;
/// assert_eq!((report.entries, report.rows, report.parts), (2, 1, 1)); // two edits of one row
/// assert_eq!(report.position.seq, 2);
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoldReport {
    /// The outcome.
    pub outcome: FoldOutcome,
    /// The end of the folded history.
    pub position: Position,
    /// Entries that the first run read: rows of the previous snapshot, and the log after it.
    pub entries: u64,
    /// Rows of the snapshot, deleted ones included.
    pub rows: u64,
    /// Parts of the snapshot.
    pub parts: u32,
    /// Bytes of the sealed parts and the manifest.
    pub sealed_bytes: u64,
}

/// How a fold ended.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// # use synckit_doctest::note;
/// # client.push(device.id, vec![note("1", "Buy milk")]).await?;
/// use synckit_client::FoldOutcome;
///
/// assert_eq!(client.fold(device.id).await?.outcome, FoldOutcome::Stored);
/// assert_eq!(client.fold(device.id).await?.outcome, FoldOutcome::NotNewer); // nothing was pushed since
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FoldOutcome {
    /// The snapshot is stored as the newest one.
    Stored,
    /// A snapshot of this position already exists, or another device was faster. Nothing was stored, and nothing is
    /// wrong.
    NotNewer,
}

impl SyncKitClient {
    /// Compacts the stream's history into a snapshot: the last entry of every row, deletions included, sealed and
    /// stored. A new device then pulls rows instead of edits, and after some time the server deletes the edits.
    ///
    /// Any device may fold at any time. Several devices that fold at once do no harm, and neither does an interrupted
    /// fold. A fold reads the whole history twice, so fold rarely: for example, when the log has twice as many entries
    /// as rows. Memory: about 60 bytes for each row that was ever written, and one part of at most 50,000 rows.
    ///
    /// Never fold the log of a file that `synckit-sqlite` syncs. It folds by itself, and keeps what the last entry of a row
    /// does not have: the columns of other versions of the app, and their times.
    ///
    /// # Errors
    /// As [`SyncKitClient::pull`]; [`Error::KeyRotated`] or [`Error::WrongKey`] if the master key changed meanwhile;
    /// [`Error::InvalidArgument`] if the stream has more rows than a snapshot can hold.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # use synckit_doctest::note;
    /// # client.push(device.id, vec![note("1", "Buy milk"), note("1", "Buy oat milk")]).await?;
    /// use synckit_client::Cursor;
    ///
    /// client.fold(device.id).await?;
    /// // A fresh device gets rows, not edits.
    /// let (fresh, device) = world.device("phone").await?;
    /// let (changes, _, _) = fresh.pull(device.id, Cursor::START).await?;
    /// assert_eq!(changes.len(), 1);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn fold(&self, device_id: DeviceId) -> Result<FoldReport> {
        let stream = self.stream()?;
        match fold(&stream, device_id, Avoid::Nothing).await {
            // A bad snapshot must not block new ones: the log before it may still exist.
            Err(Error::Tampering(Tampering::SnapshotForged(_))) => fold(&stream, device_id, Avoid::Newest).await,
            result => result,
        }
    }

    /// As [`SyncKitClient::fold`], where one entry of a row is not all of it: `add` takes the next entries of the history, in log order, and
    /// `entries` makes those of the snapshot, which a reader gets in their order. A reader of these must come to the same
    /// rows as a reader of the history, deletions included. Both functions run off the async threads.
    ///
    /// The history is read once. Memory: what the caller keeps, and one part.
    ///
    /// # Errors
    /// As [`SyncKitClient::fold`]; [`Error::Encode`] with the place of an entry of the snapshot that is too large.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # use synckit_doctest::note;
    /// # client.push(device.id, vec![note("1", "Buy milk"), note("1", "Buy oat milk")]).await?;
    /// use synckit_client::ChangeEntry;
    ///
    /// // Keeps every entry, so that the history stays whole.
    /// let add = |mut all: Vec<ChangeEntry>, next| {
    ///     all.extend::<Vec<_>>(next);
    ///     all
    /// };
    /// let report = client.fold_with(device.id, add, |all| all).await?;
    /// assert_eq!((report.entries, report.rows), (2, 2));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn fold_with<S: Default + Send + 'static>(
        &self,
        device_id: DeviceId,
        add: fn(S, Vec<ChangeEntry>) -> S,
        entries: fn(S) -> Vec<ChangeEntry>,
    ) -> Result<FoldReport> {
        let (stream, how) = (self.stream()?, (add, entries));
        match fold_with(&stream, device_id, Avoid::Nothing, how).await {
            Err(Error::Tampering(Tampering::SnapshotForged(_))) => {
                fold_with(&stream, device_id, Avoid::Newest, how).await
            }
            result => result,
        }
    }
}

/// Takes the next entries of a history.
type Add<S> = fn(S, Vec<ChangeEntry>) -> S;
/// Makes the entries of a snapshot.
type Entries<S> = fn(S) -> Vec<ChangeEntry>;

/// Two runs over the history: memory for the plan, and for one part.
async fn fold(stream: &Stream, device_id: DeviceId, avoid: Avoid) -> Result<FoldReport> {
    let keys = stream.keys()?;
    let mut report = nothing(stream);
    let Some(mut history) = history(stream, &keys, device_id, avoid).await? else {
        return Ok(report);
    };
    let Some((plan, position, entries)) = plan(&mut history).await? else {
        return Ok(report);
    };
    stream.state.know(position);
    (report.position, report.entries) = (position, entries);
    if position.seq == 0 {
        return Ok(report);
    }
    let upload = Upload::new(stream, keys, position, &plan.parts);
    upload.run(history.again(position)?, plan, report).await
}

/// One run over the history: memory for what the caller keeps of it.
async fn fold_with<S: Default + Send + 'static>(
    stream: &Stream,
    device_id: DeviceId,
    avoid: Avoid,
    (add, entries): (Add<S>, Entries<S>),
) -> Result<FoldReport> {
    let keys = stream.keys()?;
    let mut report = nothing(stream);
    let Some(mut history) = history(stream, &keys, device_id, avoid).await? else {
        return Ok(report);
    };
    let mut state = S::default();
    let position = loop {
        match history.piece().await? {
            Piece::Overtaken => return Ok(report),
            Piece::End(position) => break position,
            Piece::Entries(read) => {
                report.entries += read.len() as u64;
                state = runtime::blocking(move || add(state, read)).await?;
            }
        }
    };
    stream.state.know(position);
    report.position = position;
    if position.seq == 0 {
        return Ok(report);
    }
    let (rows, parts) = runtime::blocking(move || {
        let rows = entries(state);
        let lens = rows
            .iter()
            .enumerate()
            .map(|(index, row)| PartBody::row_len_max(row).map_err(|kind| Error::Encode(EncodeError { index, kind })));
        let parts = parts_of(lens.collect::<Result<Vec<_>>>()?)?;
        Ok::<_, Error>((rows, parts))
    })
    .await??;
    Upload::new(stream, keys, position, &parts)
        .store(rows, &parts, report)
        .await
}

/// The report of a fold that stored nothing.
fn nothing(stream: &Stream) -> FoldReport {
    FoldReport {
        outcome: FoldOutcome::NotNewer,
        position: stream.start(),
        entries: 0,
        rows: 0,
        parts: 0,
        sealed_bytes: 0,
    }
}

/// The history that a fold reads. `None`: there is nothing to fold.
async fn history<'a>(
    stream: &'a Stream,
    keys: &Arc<Keys>,
    device_id: DeviceId,
    avoid: Avoid,
) -> Result<Option<History<'a>>> {
    if avoid == Avoid::Nothing && is_folded(stream).await? {
        return Ok(None);
    }
    History::begin(stream, Arc::clone(keys), device_id, avoid).await
}

/// Divides rows of these lengths, in their order, into parts: the number of rows in each.
fn parts_of(lens_max: impl IntoIterator<Item = usize>) -> Result<Vec<usize>> {
    let mut parts = Vec::new();
    let (mut rows, mut bytes) = (0, 0_usize);
    for len_max in lens_max {
        let full = rows == PART_ROWS_MAX as usize || bytes.saturating_add(len_max) > PART_ROW_BYTES_MAX;
        if rows > 0 && full {
            parts.push(mem::take(&mut rows));
            bytes = 0;
        }
        rows += 1;
        bytes = bytes.saturating_add(len_max);
    }
    if rows > 0 {
        parts.push(rows);
    }
    if parts.len() > PARTS_MAX as usize {
        return Err(Error::InvalidArgument {
            argument: "stream",
            reason: "it has more rows than a snapshot can hold".into(),
        });
    }
    Ok(parts)
}

/// Whether the server claims that its newest snapshot is at the stream's newest position. A lie here gains nothing: the
/// server could also discard the next snapshot.
async fn is_folded(stream: &Stream) -> Result<bool> {
    let status: Status = stream
        .connection
        .authorized(Call::get("/api/sync/status"))
        .await?
        .decode()?;
    Ok(status.latest.seq == 0
        || status
            .snapshot
            .is_some_and(|snapshot| snapshot.position == status.latest))
}

/// First run: finds the last entry of each row, and divides these entries into parts. `None` if another device folded
/// and the server deleted this history meanwhile.
async fn plan(history: &mut History<'_>) -> Result<Option<(Plan, Position, u64)>> {
    let mut index = RowIndex::new();
    loop {
        match history.piece().await? {
            Piece::Entries(entries) => index = runtime::blocking(move || index.note_all(&entries)).await??,
            Piece::End(position) => {
                let entries = index.entries;
                let plan = runtime::blocking(move || index.plan()).await??;
                return Ok(Some((plan, position, entries)));
            }
            Piece::Overtaken => return Ok(None),
        }
    }
}

/// The last entry of each row, by a hash of the row's name. The hash is keyed, so that nobody can choose row ids that
/// collide.
struct RowIndex {
    secret: [u8; 32],
    last: HashMap<[u8; 16], Last>,
    entries: u64,
}

/// The ordinal of the entry in the history, counted from 0, and the most bytes that it takes in a part. Stored as
/// bytes, because the index has one of these for each row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Last {
    ordinal: [u8; 8],
    len_max: [u8; 4],
}

impl Last {
    fn ordinal(self) -> u64 {
        u64::from_be_bytes(self.ordinal)
    }
}

/// The plan for the second run.
struct Plan {
    /// The last entries of their rows, in order.
    last: Vec<Last>,
    /// The number of rows in each part.
    parts: Vec<usize>,
}

impl RowIndex {
    fn new() -> Self {
        let mut secret = [0; 32];
        OsRng.fill_bytes(&mut secret);
        Self {
            secret,
            last: HashMap::new(),
            entries: 0,
        }
    }

    fn note_all(mut self, entries: &[ChangeEntry]) -> Result<Self> {
        for entry in entries {
            let len_max = PartBody::row_len_max(entry).map_err(|kind| Error::Encode(EncodeError { index: 0, kind }))?;
            let last = Last {
                ordinal: self.entries.to_be_bytes(),
                // An entry has at most 3 MiB.
                len_max: u32::try_from(len_max).unwrap_or(u32::MAX).to_be_bytes(),
            };
            let key = self.key(entry);
            self.last.insert(key, last);
            self.entries += 1;
        }
        Ok(self)
    }

    fn key(&self, entry: &ChangeEntry) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        // The length separates the table's name from the row's.
        hash.update((entry.table.len() as u64).to_be_bytes());
        hash.update(entry.table.as_bytes());
        hash.update(entry.row_id.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        key
    }

    fn plan(self) -> Result<Plan> {
        let mut last: Vec<Last> = self.last.into_values().collect();
        last.sort_unstable();
        let parts = parts_of(last.iter().map(|row| u32::from_be_bytes(row.len_max) as usize))?;
        Ok(Plan { last, parts })
    }
}

/// Seals and stores.
struct Upload<'a> {
    stream: &'a Stream,
    keys: Arc<Keys>,
    context: SnapshotContext,
    total: u32,
    sealed_bytes: u64,
}

impl<'a> Upload<'a> {
    fn new(stream: &'a Stream, keys: Arc<Keys>, position: Position, parts: &[usize]) -> Self {
        Self {
            stream,
            keys,
            context: SnapshotContext {
                scope: stream.scope(),
                snapshot_id: SnapshotId::from_bytes(Uuid::new_v4().into_bytes()),
                position,
            },
            total: u32::try_from(parts.len()).unwrap_or(u32::MAX),
            sealed_bytes: 0,
        }
    }

    /// Rows that are in memory.
    async fn store(mut self, rows: Vec<ChangeEntry>, parts: &[usize], report: FoldReport) -> Result<FoldReport> {
        let mut digests = Vec::with_capacity(parts.len());
        let mut rows = rows.into_iter();
        for count in parts {
            match self
                .put_part(digests.len(), rows.by_ref().take(*count).collect())
                .await?
            {
                Some(digest) => digests.push(digest),
                None => return Ok(report),
            }
        }
        self.finish(digests, report).await
    }

    /// Second run over the history.
    async fn run(mut self, mut history: History<'_>, plan: Plan, report: FoldReport) -> Result<FoldReport> {
        let mut digests = Vec::with_capacity(plan.parts.len());
        let mut planned = plan.parts.iter().copied();
        let mut part_rows = planned.next().unwrap_or(0);
        // By value: with a closure over references here, the whole call could not be spawned.
        let mut last = plan.last.into_iter().map(Last::ordinal).peekable();
        let mut rows = Vec::new();
        let mut ordinal = 0_u64;
        loop {
            let entries = match history.piece().await? {
                Piece::Entries(entries) => entries,
                Piece::Overtaken => return Ok(report),
                Piece::End(_) => break,
            };
            for entry in entries {
                if last.next_if_eq(&ordinal).is_some() {
                    rows.push(entry);
                }
                ordinal += 1;
                if !rows.is_empty() && rows.len() == part_rows {
                    match self.put_part(digests.len(), mem::take(&mut rows)).await? {
                        Some(digest) => digests.push(digest),
                        None => return Ok(report),
                    }
                    part_rows = planned.next().unwrap_or(0);
                }
            }
        }
        if last.peek().is_some() || !rows.is_empty() {
            // Two runs over one verified history are equal, so the server changed the history in between.
            return Err(Error::Protocol {
                status: 200,
                reason: "the same history twice",
            });
        }
        self.finish(digests, report).await
    }

    async fn finish(mut self, digests: Vec<PartDigest>, mut report: FoldReport) -> Result<FoldReport> {
        let manifest = Manifest::new(digests).ok_or(Error::Protocol {
            status: 200,
            reason: "the same history twice",
        })?;
        (report.rows, report.parts) = (manifest.rows(), manifest.total());
        if self.put_manifest(&manifest).await? {
            report.outcome = FoldOutcome::Stored;
        }
        report.sealed_bytes = self.sealed_bytes;
        Ok(report)
    }

    /// Seals and stores a part. `None` if the server no longer accepts parts of this snapshot.
    async fn put_part(&mut self, index: usize, rows: Vec<ChangeEntry>) -> Result<Option<PartDigest>> {
        let (keys, context, total) = (Arc::clone(self.keys.current()), self.context, self.total);
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let (digest, sealed) = runtime::blocking(move || {
            let (taken, body) = PartBody::encode_prefix(&rows).map_err(Error::Encode)?;
            if taken < rows.len() {
                return Err(Error::Encode(EncodeError {
                    index: taken,
                    kind: synckit_crypto::batch::EncodeErrorKind::BatchTooLarge,
                }));
            }
            let sealed = keys
                .snapshot
                .seal_part(&keys.key_id, &context, index, total, &body, &mut OsRng);
            Ok((PartDigest::of(&body, &sealed), sealed))
        })
        .await??;
        self.sealed_bytes += sealed.len() as u64;
        let id = self.context.snapshot_id;
        let path = format!("/api/sync/snapshots/{id}/parts/{index}");
        let call = Call::new(Method::PUT, path).body(&PutSnapshotPart { sealed: sealed.into() })?;
        Ok(self.stored(call).await?.then_some(digest))
    }

    /// Stores the manifest, and so completes the snapshot. `false` if another snapshot was faster.
    ///
    /// The owner key of the same master key signs the manifest, because the server deletes edits on its strength.
    async fn put_manifest(&mut self, manifest: &Manifest) -> Result<bool> {
        let keys = self.keys.current();
        let StreamScope { app_id, user_id } = self.context.scope;
        let id = self.context.snapshot_id;
        let sealed = keys
            .snapshot
            .seal_manifest(&keys.key_id, &self.context, manifest, &mut OsRng);
        self.sealed_bytes += sealed.len() as u64;
        let signing = self.keys.ring.current().owner_signing_key(&self.context.scope);
        let claim = SnapshotClaim {
            app_id,
            user_id,
            snapshot_id: id,
            key_id: keys.key_id,
            position: self.context.position,
            parts: self.total,
            manifest: &sealed,
        };
        let put = PutSnapshot {
            key_id: claim.key_id,
            position: claim.position,
            parts: claim.parts,
            signature: signing.sign_snapshot(&claim),
            manifest: sealed.into(),
        };
        self.stored(Call::new(Method::PUT, format!("/api/sync/snapshots/{id}")).body(&put)?)
            .await
    }

    async fn stored(&self, call: Call<'_>) -> Result<bool> {
        match self.stream.connection.authorized_unit(call).await {
            Ok(()) => Ok(true),
            Err(Error::Problem(problem)) => match problem.known_code() {
                Some(ProblemCode::SnapshotStale | ProblemCode::SnapshotIncomplete) => Ok(false),
                Some(ProblemCode::KeyMismatch) => Err(self.stream.unknown_key(&self.keys, None).await),
                _ => Err(diverged(self.context.position, Error::Problem(problem))),
            },
            Err(error) => Err(error),
        }
    }
}
