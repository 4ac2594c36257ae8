//! An app on a device: its file, and the sync beside it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rusqlite::{Connection, types::ValueRef};
use synckit_client::{DeviceId, MemoryStore, SyncKitClient, transport::Transport};
use synckit_doctest::World;
use synckit_sqlite::{Question, SyncReport, SyncStatus, SyncedDatabase, track::Track};

pub(crate) struct Device {
    pub(crate) path: PathBuf,
    /// The app's own connection.
    pub(crate) app: Connection,
    pub(crate) db: SyncedDatabase,
    pub(crate) client: SyncKitClient,
}

impl Device {
    /// An app that makes its tables at its first start, and tracks some of them.
    pub(crate) async fn start<T: Into<Track>>(
        world: &World,
        name: &str,
        schema: &str,
        tables: impl IntoIterator<Item = T>,
    ) -> Self {
        let device = Self::untracked(world, name, schema).await;
        device.db.track(tables).await.unwrap();
        device
    }

    pub(crate) async fn untracked(world: &World, name: &str, schema: &str) -> Self {
        let (client, device) = world.device(name).await.unwrap();
        Self::of_client(world, name, schema, client, device.id).await
    }

    /// An app whose requests go over a transport.
    pub(crate) async fn over<T: Into<Track>>(
        world: &World,
        name: &str,
        schema: &str,
        tables: impl IntoIterator<Item = T>,
        transport: Arc<dyn Transport>,
    ) -> Self {
        // The account's first device sets up its encryption.
        world.device(name).await.unwrap();
        let client = SyncKitClient::builder(world.config())
            .credential_store(MemoryStore::default())
            .transport(transport)
            .build();
        client.authenticate(world.email, world.password).await.unwrap();
        client.setup_encryption_existing(world.password).await.unwrap();
        let device = client.register_device(name, "linux").await.unwrap();
        let device = Self::of_client(world, name, schema, client, device.id).await;
        device.db.track(tables).await.unwrap();
        device
    }

    async fn of_client(world: &World, name: &str, schema: &str, client: SyncKitClient, id: DeviceId) -> Self {
        let path = world.path(&format!("{name}.db"));
        let app = Connection::open(&path).unwrap();
        app.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        app.execute_batch(schema).unwrap();
        let db = SyncedDatabase::open(&path, client.clone(), id).await.unwrap();
        Self { path, app, db, client }
    }

    pub(crate) fn run(&self, sql: &str) {
        self.app.execute_batch(sql).unwrap();
    }

    pub(crate) async fn sync(&self) -> SyncReport {
        self.db.sync().await.unwrap()
    }

    /// What a query returns, a row a line.
    pub(crate) fn ask(&self, sql: &str) -> Vec<String> {
        ask(&self.app, sql)
    }
}

/// Waits for what must not take as long as the pauses of a running sync.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(45), work)
        .await
        .expect("a running sync slept")
}

/// The server loses all files, for good.
pub(crate) async fn lose_files(world: &mut World) {
    world.stop().await.unwrap();
    let server = Connection::open(world.path("data/synckit.db")).unwrap();
    server.execute_batch("DELETE FROM blobs").unwrap();
    drop(server);
    world.start_again().await.unwrap();
}

/// The question that the user must answer.
pub(crate) fn question(db: &SyncedDatabase) -> Question {
    match db.status().now() {
        SyncStatus::NeedsDecision(question) => question,
        other => panic!("no question: {other:?}"),
    }
}

pub(crate) fn ask(connection: &Connection, sql: &str) -> Vec<String> {
    let mut select = connection.prepare(sql).unwrap();
    let columns = select.column_count();
    let mut rows = select.query([]).unwrap();
    let mut all = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let values = (0..columns).map(|place| shown(row.get_ref(place).unwrap()));
        all.push(values.collect::<Vec<_>>().join("|"));
    }
    all
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "-".into(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(blob) => format!("{blob:?}"),
    }
}

/// Both sync until nothing is left to do.
pub(crate) async fn settle(left: &Device, right: &Device) {
    for device in [left, right, left] {
        device.sync().await;
    }
}
