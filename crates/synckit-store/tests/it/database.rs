//! A PostgreSQL database of its own for each test, on the server that `cargo xtask test` starts.

use std::{
    env,
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use synckit_store::{PostgresOptions, PostgresStore, PostgresUrl, Store};
use tokio_postgres::{Client, Config, NoTls};

/// A fresh database.
pub(crate) struct Database {
    pub(crate) name: String,
    server: Config,
}

impl Database {
    pub(crate) async fn create() -> Self {
        static DATABASES: AtomicU64 = AtomicU64::new(0);
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let created = Self {
            name: format!("store_{}_{number}", std::process::id()),
            server: server(),
        };
        let client = connect(&created.server).await;
        client
            .batch_execute(&format!("CREATE DATABASE {}", created.name))
            .await
            .unwrap();
        created
    }

    pub(crate) fn url(&self) -> PostgresUrl {
        self.text().parse().unwrap()
    }

    /// The URL as an operator would write it.
    pub(crate) fn text(&self) -> String {
        let server = text();
        format!("{}/{}", server.rsplit_once('/').unwrap().0, self.name)
    }

    /// A connection beside the store.
    pub(crate) async fn client(&self) -> Client {
        let mut config = self.server.clone();
        config.dbname(&self.name);
        connect(&config).await
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        self.store_with(PostgresOptions::default()).await
    }

    pub(crate) async fn store_with(&self, options: PostgresOptions) -> PostgresStore {
        PostgresStore::open(&self.url(), options).await.unwrap()
    }
}

fn text() -> String {
    env::var("SYNCKIT_TEST_POSTGRES").expect(
        "a PostgreSQL: run `cargo xtask test -- -p synckit-store`, or `cargo xtask with-keychain -- cargo test ...`",
    )
}

/// How the user who may do everything reaches the server.
pub(crate) fn server() -> Config {
    text().parse().unwrap()
}

pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The result of work that ends unless a time limit or a lock is broken, which must not stop all tests.
pub(crate) async fn ending<T>(work: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(30), work).await;
    ended.expect("the work does not end")
}

/// A store in a database of its own.
pub(crate) struct Fresh {
    pub(crate) database: Database,
    store: PostgresStore,
}

impl Fresh {
    pub(crate) async fn open() -> Self {
        Self::with(PostgresOptions::default()).await
    }

    pub(crate) async fn with(options: PostgresOptions) -> Self {
        let database = Database::create().await;
        let store = database.store_with(options).await;
        Self { database, store }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &self.store
    }
}
