//! One device: the SDK, a database, and the main loop of an app (pull, upsert, push).

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use synckit_client::{
    BatchId, BlobHash, BlobProgress, ChangeEntry, ChangeOp, CountingTransport, Cursor, DeviceId, Error, MemoryStore,
    PushError, SyncKitClient, SyncKitConfig,
    transport::{HttpTransport, Transport},
};

use super::{
    changes::{self, Effect},
    dataset::{Cell, DatasetFile, Row, Table, row_id},
    local::LocalDatabase,
    received,
};

/// Rows in one call of `push`. The SDK splits them into batches.
const ROWS_PER_PUSH: usize = 2_000;
/// Bytes of rows in one call of `push`, so that large rows do not fill the memory.
const BYTES_PER_PUSH: u64 = 16 * 1000 * 1000;
/// Concurrent file transfers.
const FILES_AT_ONCE: usize = 4;

/// The connection of a device.
pub(super) type Wire = CountingTransport<HttpTransport>;

/// A device's access to its server.
#[derive(Debug, Clone)]
pub(super) struct ServerAccess {
    pub(super) url: String,
    pub(super) api_key: String,
}

impl ServerAccess {
    /// A client that stores nothing beyond the demo.
    pub(super) fn client(&self, transport: Arc<dyn Transport>) -> SyncKitClient {
        let config = SyncKitConfig {
            server_url: self.url.clone(),
            api_key: self.api_key.clone(),
        };
        SyncKitClient::builder(config)
            .credential_store(MemoryStore::default())
            .transport(transport)
            .build()
    }

    /// A client over HTTP, and its counter of bytes.
    pub(super) fn counted_client(&self) -> (SyncKitClient, Arc<Wire>) {
        let wire = Arc::new(CountingTransport::new(http()));
        (self.client(Arc::clone(&wire) as Arc<_>), wire)
    }
}

/// HTTP with the time-outs of the SDK.
pub(super) fn http() -> HttpTransport {
    HttpTransport::new(Duration::from_secs(10))
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: &'static str,
    pub(super) client: SyncKitClient,
    pub(super) wire: Arc<Wire>,
    pub(super) database: LocalDatabase,
    /// The directory for downloaded files.
    pub(super) files_dir: PathBuf,
    id: Option<DeviceId>,
    tables: HashMap<String, Table>,
    /// The cursor up to which it has applied pulled changes. An app keeps this in its database.
    cursor: Cursor,
    /// Local changes that are not pushed yet.
    pending: Vec<ChangeEntry>,
    /// Values of `pending` that are too large for a change.
    pending_values: Vec<(BlobHash, Vec<u8>)>,
}

impl Device {
    /// A device with an empty database and its own directory.
    pub(super) fn new(name: &'static str, access: &ServerAccess, directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let (client, wire) = access.counted_client();
        Ok(Self {
            name,
            client,
            wire,
            database: LocalDatabase::create(&directory.join("data.sqlite"))?,
            files_dir: directory.join("files"),
            id: None,
            tables: HashMap::new(),
            cursor: Cursor::START,
            pending: Vec::new(),
            pending_values: Vec::new(),
        })
    }

    /// Registers this installation.
    pub(super) async fn register(&mut self, platform: &str) -> anyhow::Result<()> {
        self.id = Some(self.client.register_device(self.name, platform).await?.id);
        Ok(())
    }

    /// Adds a table, to be announced to the other devices with its first rows.
    pub(super) fn add_table(&mut self, table: &Table) -> anyhow::Result<()> {
        self.database.add_table(table)?;
        self.tables.insert(table.name.clone(), table.clone());
        Ok(())
    }

    /// Pushes every row of every table, and returns the number of rows.
    pub(super) async fn push_everything(&self, bar: &ProgressBar) -> anyhow::Result<u64> {
        let mut total = 0;
        for table in self.database.tables() {
            self.push(vec![changes::announce(&table)]).await?;
            let mut after: Option<String> = None;
            loop {
                let (mut entries, mut uploads, mut bytes) = (Vec::new(), Vec::new(), 0);
                self.database.visit_after(&table.name, after.as_deref(), &mut |row| {
                    bytes += row.size();
                    entries.push(changes::upsert(ChangeOp::Insert, &table, &row, &mut uploads));
                    Ok(entries.len() < ROWS_PER_PUSH && bytes < BYTES_PER_PUSH)
                })?;
                let Some(last) = entries.last() else { break };
                after = Some(last.row_id.clone());
                let rows = entries.len() as u64;
                self.upload_values(uploads).await?;
                self.push(entries).await?;
                total += rows;
                bar.inc(rows);
            }
        }
        Ok(total)
    }

    /// Uploads files and pushes a row for each.
    pub(super) async fn push_files(
        &mut self,
        files: &[DatasetFile],
        table: &Table,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        self.add_table(table)?;
        let client = &self.client;
        let rows: Vec<Row> = stream::iter(files)
            .map(|file| async move {
                let hash = client
                    .blob_put(file.path.as_path(), reporter(bar))
                    .await
                    .with_context(|| format!("cannot upload {}", file.shown_name()))?;
                anyhow::Ok(file_row(file, &hash))
            })
            .buffered(FILES_AT_ONCE)
            .try_collect()
            .await?;
        let mut entries = vec![changes::announce(table)];
        self.database.begin()?;
        let stored = rows.iter().try_for_each(|row| self.database.upsert(&table.name, row));
        self.database.end(stored)?;
        entries.extend(
            rows.iter()
                .map(|row| changes::upsert(ChangeOp::Insert, table, row, &mut Vec::new())),
        );
        self.push(entries).await
    }

    /// Downloads every file of a table into the device's folder, and returns the number of files and bytes.
    pub(super) async fn pull_files(&self, table: &Table, bar: &ProgressBar) -> anyhow::Result<(u64, u64)> {
        let mut rows = Vec::new();
        self.database.visit_after(&table.name, None, &mut |row| {
            rows.push(row);
            Ok(true)
        })?;
        let sizes: Vec<u64> = stream::iter(&rows)
            .map(|row| async move {
                let (path, hash) = received::file_of(row)?;
                let path = self.files_dir.join(path);
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                anyhow::Ok(self.client.blob_get(&hash, &path, reporter(bar)).await?)
            })
            .buffered(FILES_AT_ONCE)
            .try_collect()
            .await?;
        Ok((sizes.len() as u64, sizes.iter().sum()))
    }

    /// Pulls everything new and applies it, page by page; returns the number of changes.
    pub(super) async fn pull(&mut self, bar: &ProgressBar) -> anyhow::Result<u64> {
        let id = self.device_id()?;
        let mut total = 0;
        loop {
            let (changes, cursor, has_more) = self.client.pull(id, self.cursor).await?;
            let count = changes.len() as u64;
            let blobs = self.download_values(&changes).await?;
            self.database.begin()?;
            let applied = self.apply(changes, &blobs);
            self.database.end(applied)?;
            self.cursor = cursor;
            total += count;
            bar.inc(count);
            if !has_more {
                return Ok(total);
            }
        }
    }

    /// Changes one value of a row locally, for a later push.
    pub(super) fn edit(&mut self, table: &Table, id: &str, cell: Cell) -> anyhow::Result<()> {
        let mut row = self
            .database
            .row(&table.name, id)?
            .with_context(|| format!("there is no row {id}"))?;
        row.cells[table.edited] = cell;
        self.store(ChangeOp::Update, table, &row)
    }

    /// Adds a row locally, for a later push.
    pub(super) fn add(&mut self, table: &Table, row: &Row) -> anyhow::Result<()> {
        self.store(ChangeOp::Insert, table, row)
    }

    /// Deletes a row locally, for a later push.
    pub(super) fn remove(&mut self, table: &Table, id: &str) -> anyhow::Result<()> {
        self.database.delete(&table.name, id)?;
        self.pending.push(changes::delete(table, id));
        Ok(())
    }

    /// Pushes the local changes. The first change becomes a separate batch, and is returned with the batch's id, so
    /// that the demo can show the stored bytes of one row.
    pub(super) async fn push_pending(&mut self) -> anyhow::Result<Option<(BatchId, ChangeEntry)>> {
        let mut pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(None);
        }
        let rest = pending.split_off(1);
        let values = std::mem::take(&mut self.pending_values);
        self.upload_values(values).await?;
        let batch_id = SyncKitClient::new_batch_id();
        let first = pending.first().cloned();
        self.push_exactly_once(batch_id, pending).await?;
        self.push(rest).await?;
        Ok(first.map(|first| (batch_id, first)))
    }

    /// Pushes on top of the newest log. The cursor stays at the last pull, because the demo shows that a pull also
    /// returns own rows.
    async fn push_exactly_once(&self, batch_id: BatchId, entries: Vec<ChangeEntry>) -> anyhow::Result<()> {
        let id = self.device_id()?;
        let mut cursor = self.cursor;
        loop {
            match self.client.push_at(id, cursor, Some(batch_id), entries.clone()).await {
                Err(PushError {
                    source: Error::Behind { latest },
                    ..
                }) => cursor = Cursor::at(latest),
                pushed => return Ok(pushed.map(drop)?),
            }
        }
    }

    fn store(&mut self, op: ChangeOp, table: &Table, row: &Row) -> anyhow::Result<()> {
        self.database.upsert(&table.name, row)?;
        self.pending
            .push(changes::upsert(op, table, row, &mut self.pending_values));
        Ok(())
    }

    async fn push(&self, entries: Vec<ChangeEntry>) -> anyhow::Result<()> {
        self.client.push(self.device_id()?, entries).await?;
        Ok(())
    }

    /// Uploads values that are too large for a change, before the change refers to them.
    async fn upload_values(&self, values: Vec<(BlobHash, Vec<u8>)>) -> anyhow::Result<()> {
        for (_, bytes) in values {
            self.client.blob_put(bytes, |_| {}).await?;
        }
        Ok(())
    }

    async fn download_values(&self, entries: &[ChangeEntry]) -> anyhow::Result<HashMap<BlobHash, Vec<u8>>> {
        let mut blobs = HashMap::new();
        for entry in entries {
            for hash in changes::blobs_of(entry)? {
                if let Entry::Vacant(place) = blobs.entry(hash) {
                    let url = self.client.blob_download_url(&hash).await?;
                    place.insert(self.client.blob_download(&url).await?);
                }
            }
        }
        Ok(blobs)
    }

    fn apply(&mut self, entries: Vec<ChangeEntry>, blobs: &HashMap<BlobHash, Vec<u8>>) -> anyhow::Result<()> {
        for entry in entries {
            match changes::effect(entry, &self.tables, blobs)? {
                Effect::Table(table) => self.add_table(&table)?,
                Effect::Upsert { table, row } => self.database.upsert(&table, &row)?,
                Effect::Delete { table, id } => self.database.delete(&table, &id)?,
            }
        }
        Ok(())
    }

    fn device_id(&self) -> anyhow::Result<DeviceId> {
        self.id.with_context(|| format!("the {} is not registered", self.name))
    }
}

fn file_row(file: &DatasetFile, hash: &BlobHash) -> Row {
    let path = Cell::Text(file.name.clone());
    Row {
        id: row_id(std::slice::from_ref(&path)),
        cells: vec![
            path,
            Cell::Integer(i64::try_from(file.size).unwrap_or(i64::MAX)),
            Cell::text(hash.to_string()),
            Cell::Integer(file.modified_us),
        ],
    }
}

/// Moves a bar with one of several transfers.
fn reporter(bar: &ProgressBar) -> impl Fn(BlobProgress) + Send + Sync + use<> {
    let (bar, last) = (bar.clone(), AtomicU64::new(0));
    move |progress| {
        let before = last.swap(progress.done_bytes, Ordering::Relaxed);
        // A failed attempt starts again from zero.
        bar.dec(before);
        bar.inc(progress.done_bytes);
    }
}
