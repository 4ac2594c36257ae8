//! An app's SQLite file that is synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicU64},
};

use synckit_client::{DeviceId, SyncKitClient};
use tokio::{
    sync::{Mutex as Turn, Notify, watch},
    task::spawn_blocking,
};

use crate::{
    error::Error,
    folding::FOLD_AFTER,
    folding::Folding,
    inspect::SchemaReport,
    pause::Pause,
    replica::{OnConnection, Replica},
    status::{StatusWatch, SyncStatus},
    track::Track,
};

/// An app's SQLite file, the tables of which are synced.
///
/// The file stays an ordinary one: any program may read and write it, with or without this crate running.
#[derive(Clone, Debug)]
pub struct SyncedDatabase(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    replica: Arc<Mutex<Replica>>,
    pub(crate) client: SyncKitClient,
    device: RwLock<DeviceId>,
    /// One sync at a time: two would only be each other's retries.
    pub(crate) turn: Turn<()>,
    /// How often each table changed.
    news: watch::Sender<BTreeMap<String, u64>>,
    pub(crate) status: watch::Sender<SyncStatus>,
    /// What wakes a running sync, beside the server and other writers of the file.
    pub(crate) woken: Notify,
    pause: Mutex<Pause>,
    /// Whether this device should fold the log, and why.
    pub(crate) folding: Mutex<Folding>,
    /// How long a log may be, in entries.
    pub(crate) fold_after: AtomicU64,
    /// The history that the file was on when this process looked last.
    history: Mutex<Option<Option<String>>>,
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
            device: RwLock::new(device),
            turn: Turn::default(),
            news: watch::Sender::default(),
            status: watch::Sender::new(SyncStatus::New),
            woken: Notify::new(),
            pause: Mutex::default(),
            folding: Mutex::default(),
            fold_after: AtomicU64::new(FOLD_AFTER),
            history: Mutex::default(),
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
        let report = self.with(move |replica| replica.track(&tracks)).await?;
        // No other connection has committed.
        self.0.woken.notify_one();
        Ok(report)
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

    /// Tells which tables changed by what came from other devices, from now on.
    pub fn changes(&self) -> Changes {
        let news = self.0.news.subscribe();
        let seen = news.borrow().clone();
        Changes { news, seen }
    }

    /// Tells what the sync does, or what it needs: for a settings page.
    pub fn status(&self) -> StatusWatch {
        StatusWatch::of(&self.0.status)
    }

    /// The device that pushes and pulls.
    pub(crate) fn device(&self) -> DeviceId {
        *self.0.device.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on as another device, in the place of one that was revoked.
    pub(crate) fn become_device(&self, device: DeviceId) {
        *self.0.device.write().unwrap_or_else(PoisonError::into_inner) = device;
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, Option<Option<String>>> {
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pause(&self) -> MutexGuard<'_, Pause> {
        self.0.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tell(&self, tables: BTreeSet<String>) {
        if !tables.is_empty() {
            self.0.news.send_modify(|news| {
                for table in tables {
                    *news.entry(table).or_default() += 1;
                }
            });
        }
    }

    /// Works on the file, off the async threads. The work is done also if the caller is dropped.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Replica) -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        let replica = Arc::clone(&self.0.replica);
        let task = spawn_blocking(move || work(&mut replica.lock().unwrap_or_else(PoisonError::into_inner)));
        async move { task.await.map_err(Error::Runtime)? }
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
