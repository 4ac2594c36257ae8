//! An app's SQLite file that is synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use synckit_client::{BatchId, BlobTarget, ChangeEntry, Cursor, DeviceId, SyncKitClient};
use tokio::{
    sync::{Mutex as Turn, watch},
    task::{AbortHandle, spawn_blocking},
    time::sleep,
};

use crate::{
    apply::Place,
    error::Error,
    inspect::SchemaReport,
    replica::{OnConnection, Replica},
    track::Track,
    transfer::Parcel,
};

/// How often one call of [`SyncedDatabase::sync`] merges again because other devices were faster.
const ROUNDS_MAX: usize = 100;
/// Of the known rows, one in so many is taken over in one transaction during a long pull, at least [`BUNDLE_MIN`]: each
/// transaction looks at all rows, so that their number must not grow with the log.
const BUNDLE_ONE_IN: usize = 2;
/// The smallest number of entries that a pull takes over at once, if so many follow.
const BUNDLE_MIN: usize = 500;
/// How often a running sync looks whether another program committed to the file.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The first pause after a sync that failed; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause after syncs that failed.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// An app's SQLite file, the tables of which are synced.
///
/// The file stays an ordinary one: any program may read and write it, with or without this crate running.
#[derive(Clone, Debug)]
pub struct SyncedDatabase(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    replica: Arc<Mutex<Replica>>,
    client: SyncKitClient,
    device: DeviceId,
    /// One sync at a time: two would only be each other's retries.
    turn: Turn<()>,
    /// How often each table changed.
    news: watch::Sender<BTreeMap<String, u64>>,
}

/// What became of a batch.
enum Pushed {
    /// The server has it. The next batch, if that could be frozen already.
    Stored(Option<Parcel>),
    /// Another device was faster.
    Behind(synckit_client::Error),
}

/// What a sync did, and what is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncReport {
    /// Entries that were sent.
    pub pushed: usize,
    /// Entries that came, those of this device's earlier syncs not counted.
    pub pulled: usize,
    /// Entries that came and are no rows by `docs/rows.md`.
    pub unreadable: usize,
    /// Edited rows that are too large to be sent.
    pub unsendable: usize,
    /// Rows that cannot be in their table now: they wait for another row, or the table refuses them.
    pub parked: usize,
    /// Rows of which a part of the key is NULL: nothing names them on another device, so they stay here.
    pub unnamed: usize,
    /// Deletions that wait for [`SyncedDatabase::accept_deletions`] or [`SyncedDatabase::undo_deletions`].
    pub held_deletions: usize,
    /// Values that lost against other devices', since the file is synced.
    pub conflicts: usize,
}

impl SyncedDatabase {
    /// Opens the app's file. `device` is what [`SyncKitClient::register_device`] returned. No request is made.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn open(path: impl AsRef<Path>, client: SyncKitClient, device: DeviceId) -> Result<Self, Error> {
        Self::open_with(path, client, device, |_| Ok(())).await
    }

    /// As [`SyncedDatabase::open`], for files that need something of the app: functions and collations that triggers and
    /// indexes use. `on_connection` is called with each connection before it is used.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn open_with(
        path: impl AsRef<Path>,
        client: SyncKitClient,
        device: DeviceId,
        on_connection: impl Fn(&rusqlite::Connection) -> rusqlite::Result<()> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let (path, on_connection): (_, OnConnection) = (path.as_ref().to_owned(), Arc::new(on_connection));
        let replica = spawn_blocking(move || Replica::open(path, on_connection))
            .await
            .map_err(Error::Runtime)??;
        Ok(Self(Arc::new(Inner {
            replica: Arc::new(Mutex::new(replica)),
            client,
            device,
            turn: Turn::default(),
            news: watch::Sender::default(),
        })))
    }

    /// Syncs tables from now on, also after restarts. Tables that are tracked already stay as they are. Either all tables of
    /// the call are tracked, or none.
    ///
    /// # Errors
    /// [`Error::NotReady`] for a table about which something must be said first, [`Error::ParentNotTracked`],
    /// [`Error::Identity`], [`Error::KeyChanged`], [`Error::Inspect`], [`Error::FileReplaced`] and [`Error::Database`].
    pub async fn track<T: Into<Track>>(&self, tables: impl IntoIterator<Item = T>) -> Result<SchemaReport, Error> {
        let tracks: Vec<Track> = tables.into_iter().map(Into::into).collect();
        self.with(move |replica| replica.track(&tracks)).await
    }

    /// Takes away every trigger and table of this crate, for good. The rows stay, here and in the log.
    ///
    /// To pause, do not sync: the triggers go on noting what the app does. If the tables are tracked again, a row is found in
    /// the log by its key, by a UNIQUE, or by having the same values. What was done to the file in between is not known: a row
    /// that was deleted comes back, and one that was edited and has neither a key nor a UNIQUE is a new row.
    ///
    /// # Errors
    /// [`Error::FileReplaced`] and [`Error::Database`].
    pub async fn untrack_all(&self) -> Result<(), Error> {
        let _turn = self.0.turn.lock().await;
        self.with(Replica::untrack_all).await
    }

    /// Sends what the app changed, and takes over what other devices changed, until nothing is left to do.
    ///
    /// It can be cancelled or killed at any moment: the next one goes on.
    ///
    /// # Errors
    /// [`Error::Client`] if the server cannot be reached, or with what the app has to resolve; [`Error::NothingTracked`],
    /// [`Error::OtherUser`], [`Error::KeyChanged`], [`Error::FileReplaced`], [`Error::Database`].
    pub async fn sync(&self) -> Result<SyncReport, Error> {
        let _turn = self.0.turn.lock().await;
        let mut report = SyncReport::default();
        let user = self.0.client.user_id().ok_or(synckit_client::Error::NotSignedIn)?;
        self.with(move |replica| replica.belong_to(user)).await?;
        self.send_again(&mut report).await?;
        let mut rounds = 0..ROUNDS_MAX;
        let behind = loop {
            self.pull(user, &mut report).await?;
            let id = SyncKitClient::new_batch_id();
            let settled = self.with(move |replica| replica.settle(id)).await?;
            self.tell(settled.tables);
            report.unsendable = settled.unsendable;
            let Some(parcel) = settled.parcel else { break None };
            let behind = self.push_all(parcel, &mut report).await?;
            if behind.is_some() && rounds.next().is_none() {
                break behind;
            }
        };
        let standing = self.with(Replica::standing).await?;
        (report.parked, report.held_deletions, report.conflicts) = (standing.parked, standing.held, standing.conflicts);
        report.unnamed = standing.unnamed;
        behind.map_or(Ok(report), |behind| Err(behind.into()))
    }

    /// The deletions that wait for a decision are meant: they are sent with the next sync. Returns how many.
    ///
    /// A deletion waits if it was found without having been seen, or if more than 20 rows and a tenth of a table went at once.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn accept_deletions(&self) -> Result<usize, Error> {
        self.with(|replica| replica.decide(true)).await
    }

    /// The deletions that wait for a decision are not meant: the rows come back. Returns how many.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn undo_deletions(&self) -> Result<usize, Error> {
        self.with(|replica| replica.decide(false)).await
    }

    /// Syncs in the background, on the runtime of the caller, until the value is dropped: within a moment after a program
    /// committed to the file or another device pushed, and again after failures.
    #[must_use = "the sync ends when this is dropped"]
    pub fn spawn(&self) -> Running {
        let database = self.clone();
        Running(tokio::spawn(async move { database.run().await }).abort_handle())
    }

    /// Tells which tables changed by what came from other devices, from now on.
    pub fn changes(&self) -> Changes {
        let news = self.0.news.subscribe();
        let seen = news.borrow().clone();
        Changes { news, seen }
    }

    /// Never returns.
    async fn run(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            let mut news = self.0.client.subscribe().await;
            // Ends with a subscription that ended, or a sync that failed.
            loop {
                let version = self.with(|replica| replica.data_version()).await;
                if let Err(error) = self.sync().await {
                    tracing::debug!(%error, "a sync failed");
                    break;
                }
                pause = PAUSE_MIN;
                let changed = async {
                    match &mut news {
                        Ok(news) => news.changed().await.is_ok(),
                        Err(_) => {
                            sleep(PAUSE_MAX).await;
                            false
                        }
                    }
                };
                let goes_on = tokio::select! {
                    goes_on = changed => goes_on,
                    () = self.local_commit(version.unwrap_or_default()) => true,
                };
                if !goes_on {
                    break;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Waits for a commit of another connection.
    async fn local_commit(&self, version: i64) {
        loop {
            sleep(LOOK_EVERY).await;
            if self
                .with(|replica| replica.data_version())
                .await
                .is_ok_and(|now| now != version)
            {
                return;
            }
        }
    }

    /// Reads the log to its head.
    async fn pull(&self, user: synckit_client::UserId, report: &mut SyncReport) -> Result<(), Error> {
        let mut from = self.with(move |replica| replica.belong_to(user)).await?;
        let (mut entries, mut at, mut bundle) = (Vec::new(), from, BUNDLE_MIN);
        loop {
            let (more, next, has_more) = self.0.client.pull(self.0.device, at).await?;
            entries.extend(more);
            at = next;
            if has_more && entries.len() < bundle {
                continue;
            }
            let (count, taken) = (entries.len(), std::mem::take(&mut entries));
            let place = if has_more { Place::Between } else { Place::Head };
            let absorbed = self.absorb((from, at), taken, place, report).await?;
            match absorbed {
                Some(rows) => {
                    report.pulled += count;
                    bundle = BUNDLE_MIN.max(rows / BUNDLE_ONE_IN);
                    from = at;
                    if !has_more {
                        return self.download().await;
                    }
                }
                // Another process of this device was faster, or is sending.
                None => {
                    self.send_again(report).await?;
                    from = self.with(move |replica| replica.belong_to(user)).await?;
                    at = from;
                }
            }
        }
    }

    /// Returns how many rows are known.
    async fn absorb(
        &self,
        (from, to): (Cursor, Cursor),
        entries: Vec<ChangeEntry>,
        place: Place,
        report: &mut SyncReport,
    ) -> Result<Option<usize>, Error> {
        if entries.is_empty() && from == to {
            return Ok(Some(0));
        }
        let Some(absorbed) = self
            .with(move |replica| replica.absorb(from, &entries, to, place))
            .await?
        else {
            return Ok(None);
        };
        report.unreadable += absorbed.unreadable;
        self.tell(absorbed.tables);
        Ok(Some(absorbed.rows))
    }

    /// Downloads the long values that rows wait for.
    async fn download(&self) -> Result<(), Error> {
        for file in self.with(Replica::wanted_files).await? {
            let mut bytes = Vec::new();
            self.0
                .client
                .blob_get(&file.hash, BlobTarget::writer(&mut bytes), |_| {})
                .await?;
            let tables = self.with(move |replica| replica.take_file(file.hash, &bytes)).await?;
            self.tell(tables);
        }
        Ok(())
    }

    /// Whether a batch that is being sent arrived is not known: asked first, so that it is never merged with itself.
    async fn send_again(&self, report: &mut SyncReport) -> Result<(), Error> {
        if let Some(parcel) = self.with(Replica::outbox).await? {
            self.push(parcel, None, report).await?;
        }
        Ok(())
    }

    /// Sends batches. `Some`: another device was faster, and the edits of the last one are unsent again.
    async fn push_all(
        &self,
        mut parcel: Parcel,
        report: &mut SyncReport,
    ) -> Result<Option<synckit_client::Error>, Error> {
        loop {
            let next = SyncKitClient::new_batch_id();
            match self.push(parcel, Some(next), report).await? {
                Pushed::Behind(error) => return Ok(Some(error)),
                Pushed::Stored(None) => return Ok(None),
                Pushed::Stored(Some(more)) => parcel = more,
            }
        }
    }

    /// Sends a batch, and freezes the next one under the id `next`.
    async fn push(&self, parcel: Parcel, next: Option<BatchId>, report: &mut SyncReport) -> Result<Pushed, Error> {
        let Parcel {
            id,
            parent,
            entries,
            files,
        } = parcel;
        for (_, bytes) in files {
            self.0.client.blob_put(bytes, |_| {}).await?;
        }
        let count = entries.len();
        match self.0.client.push_at(self.0.device, parent, Some(id), entries).await {
            Ok(cursor) => {
                let more = self.with(move |replica| replica.acknowledge(id, cursor, next)).await?;
                report.pushed += count;
                Ok(Pushed::Stored(more))
            }
            Err(failed) => match failed.source {
                behind @ synckit_client::Error::Behind { .. } => {
                    self.with(move |replica| replica.refuse(id)).await?;
                    Ok(Pushed::Behind(behind))
                }
                other => Err(other.into()),
            },
        }
    }

    fn tell(&self, tables: BTreeSet<String>) {
        if !tables.is_empty() {
            self.0.news.send_modify(|news| {
                for table in tables {
                    *news.entry(table).or_default() += 1;
                }
            });
        }
    }

    /// Works on the file, off the async threads. The work is done also if the caller is dropped.
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Replica) -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        let replica = Arc::clone(&self.0.replica);
        let task = spawn_blocking(move || work(&mut replica.lock().unwrap_or_else(PoisonError::into_inner)));
        async move { task.await.map_err(Error::Runtime)? }
    }
}

/// A sync in the background. It ends when this is dropped.
#[derive(Debug)]
pub struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells which tables changed. Made by [`SyncedDatabase::changes`].
#[derive(Debug)]
pub struct Changes {
    news: watch::Receiver<BTreeMap<String, u64>>,
    seen: BTreeMap<String, u64>,
}

impl Changes {
    /// The tables that changed since the last call. Many changes are told as one, and none is missed. `None`: the database was
    /// dropped.
    pub async fn next(&mut self) -> Option<BTreeSet<String>> {
        self.news.changed().await.ok()?;
        let now = self.news.borrow_and_update().clone();
        let changed = now.iter().filter(|(table, count)| self.seen.get(*table) != Some(count));
        let changed = changed.map(|(table, _)| table.clone()).collect();
        self.seen = now;
        Some(changed)
    }
}
