//! The connections: a bounded number of them, each used by one request at a time.
//!
//! Invariant: a connection returns to the pool outside of a transaction, whatever became of the future that used it. A
//! statement that nobody waits for any more ends by itself, at the latest at its time limit; the next user of the connection
//! waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, PoolConfig, RecyclingMethod, Runtime, Timeouts};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_postgres::{
    Client, NoTls, Socket,
    config::{Config, TargetSessionAttrs},
    tls::MakeTlsConnect,
};

use super::{
    address::{PostgresUrl, Tls},
    connection::{Connection, Isolation, Patience},
    failure::{not_acquired, not_connected},
    options::PostgresOptions,
    tls::Connector,
};
use crate::{StoreError, Unavailable};

/// Requests at once: more than a process has room for.
const REQUESTS_MAX: u32 = 1 << 20;

/// How often [`probe`] looks for a pooler.
const PROBES: usize = 3;

/// A transaction that waits for its client this long is ended: a client that is gone must not hold a lock.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(60);

/// How much longer than PostgreSQL itself a node waits for an answer: PostgreSQL says more of what went wrong.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// How long the other end may acknowledge nothing before a connection is lost, and how long an idle one rests before it is asked
/// for a sign of life.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Time between two further questions, and how many may get no answer.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVES: u32 = 2;

/// The connections of one store.
#[derive(Debug)]
pub(super) struct Pool {
    connections: deadpool_postgres::Pool,
    /// A permit for each request, so that closing can wait for all of them.
    requests: Arc<Semaphore>,
    is_closed: AtomicBool,
    /// Held by a request that repeats a transaction: those of one node do not conflict with each other again.
    repeats: tokio::sync::Mutex<()>,
    outdated: Outdated,
    patience: Patience,
}

/// Connections that were made up to this moment are replaced when they are next taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Outdated(Arc<Mutex<Option<Instant>>>);

impl Outdated {
    /// Replaces every connection before its next use. A primary that became a standby keeps its connections, and the address
    /// may name another primary by now; a database that moved away without a word leaves all of them without an answer.
    pub(super) fn set(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    fn contains(&self, created: Instant) -> bool {
        self.0.lock().is_some_and(|moment| created <= moment)
    }
}

impl Pool {
    /// Connects, and makes sure that each connection has a session of its own.
    /// A single connection, under a name of its own, for a command.
    pub(super) async fn of_one(url: &PostgresUrl, application: &str) -> Result<Self, StoreError> {
        let mut named = url.clone();
        named.config.application_name(application);
        let options = PostgresOptions {
            connections: 1,
            ..PostgresOptions::default()
        };
        Self::open(&named, &options).await
    }

    pub(super) async fn open(url: &PostgresUrl, options: &PostgresOptions) -> Result<Self, StoreError> {
        let config = config(url, options);
        match &url.tls {
            Tls::Off => Self::connect(config, NoTls, options).await,
            Tls::VerifyFull(roots) => {
                let connector = Connector::new(roots.clone()).map_err(|error| StoreError::Unavailable {
                    step: Unavailable::Connect,
                    source: Box::new(error),
                })?;
                Self::connect(config, connector, options).await
            }
        }
    }

    async fn connect<T>(config: Config, tls: T, options: &PostgresOptions) -> Result<Self, StoreError>
    where
        T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
        T::Stream: Sync + Send + 'static,
        T::TlsConnect: Sync + Send,
        <T::TlsConnect as tokio_postgres::tls::TlsConnect<Socket>>::Future: Send,
    {
        let probing = timeout(options.connect_timeout, probe(&config, tls.clone()));
        probing.await.map_err(|elapsed| StoreError::Unavailable {
            step: Unavailable::Connect,
            source: Box::new(elapsed),
        })??;
        let manager = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(config, tls, manager);
        let mut pool_config = PoolConfig::new(options.connections.clamp(1, PostgresOptions::CONNECTIONS_MAX));
        pool_config.timeouts = Timeouts {
            wait: Some(options.acquire_timeout),
            create: Some(options.connect_timeout),
            recycle: Some(options.connect_timeout),
        };
        let session = session(options);
        let outdated = Outdated::default();
        let replaced = outdated.clone();
        let patience = Patience {
            limit: statement_timeout(options) + ANSWER_MARGIN,
            outdated: outdated.clone(),
        };
        let connections = deadpool_postgres::Pool::builder(manager)
            .config(pool_config)
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(move |client, _| {
                let session = session.clone();
                Box::pin(async move { client.batch_execute(&session).await.map_err(HookError::Backend) })
            }))
            .pre_recycle(Hook::sync_fn(move |_, metrics| {
                if replaced.contains(metrics.created) {
                    return Err(HookError::message(
                        "made before the database went away or took no writes",
                    ));
                }
                Ok(())
            }))
            .build()
            .map_err(|error| StoreError::Database(Box::new(error)))?;
        Ok(Self {
            connections,
            requests: Arc::new(Semaphore::new(REQUESTS_MAX as usize)),
            is_closed: AtomicBool::new(false),
            repeats: tokio::sync::Mutex::new(()),
            outdated,
            patience,
        })
    }

    /// Begins a request, which [`Pool::close`] waits for.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(StoreError::Busy);
        }
        Arc::clone(&self.requests)
            .try_acquire_owned()
            .map_err(|_| StoreError::Busy)
    }

    /// See [`Outdated::set`].
    pub(super) fn renew(&self) {
        self.outdated.set();
    }

    /// The right to repeat a transaction after a conflict, before a connection is taken for it.
    pub(super) async fn repeat(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.repeats.lock().await
    }

    /// A connection outside of any transaction: each statement is one.
    pub(super) async fn single(&self) -> Result<Connection, StoreError> {
        let client = self.connections.get().await.map_err(not_acquired)?;
        Ok(Connection::new(client, self.patience.clone()))
    }

    /// The same, for small work that must not wait long.
    pub(super) async fn brief(&self) -> Result<Connection, StoreError> {
        Ok(self.single().await?.briefly())
    }

    /// A connection whose next statement begins a transaction.
    pub(super) async fn begin(&self, isolation: Isolation) -> Result<Connection, StoreError> {
        Ok(self.single().await?.begin(isolation))
    }

    /// Requests that wait for a connection.
    pub(super) fn waiting(&self) -> usize {
        self.connections.status().waiting
    }

    /// Takes no more requests, waits for those that began, and disconnects. A statement that gets no answer is not waited for
    /// longer than for any other.
    pub(super) async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        // The semaphore is never closed.
        let _all = timeout(self.patience.limit, self.requests.acquire_many(REQUESTS_MAX)).await;
        self.connections.close();
    }
}

/// How a connection is made.
pub(super) fn config(url: &PostgresUrl, options: &PostgresOptions) -> Config {
    let mut config = (*url.config).clone();
    config.connect_timeout(options.connect_timeout);
    // A host that is gone answers nothing: without these the system waits for a quarter of an hour, or two hours if idle.
    config.tcp_user_timeout(SILENCE_MAX);
    config.keepalives_idle(SILENCE_MAX);
    config.keepalives_interval(KEEPALIVE_EVERY);
    config.keepalives_retries(KEEPALIVES);
    if config.get_application_name().is_none() {
        config.application_name("synckit");
    }
    // A connection to a standby would stay one after the address names the new primary.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    config
}

/// The time limit of PostgreSQL for one statement.
fn statement_timeout(options: &PostgresOptions) -> Duration {
    options
        .statement_timeout
        .clamp(Duration::from_millis(1), PostgresOptions::STATEMENT_TIMEOUT_MAX)
}

/// What every session begins with.
fn session(options: &PostgresOptions) -> String {
    // Under SERIALIZABLE a transaction conflicts with writes to all that it read. The plan for a small table would be to
    // read all of it, and every two sign-ins would conflict. Where no index helps, PostgreSQL then takes the plan for a very
    // expensive one, and would compile each statement for a quarter of a second.
    format!(
        "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; SET enable_seqscan = off;
         SET jit = off",
        statement_timeout(options).as_millis(),
        IDLE_IN_TRANSACTION.as_millis()
    )
}

/// Refuses a database that cannot hold every text, and a pooler that shares sessions.
///
/// Looks whether two connections ever share a session, as behind PgBouncer in transaction mode: prepared statements and
/// settings would be those of another request. While the second is in a transaction, the first must still have its own
/// session. A pooler hands out the session that was used last, so that one look finds it unless others use it, too.
async fn probe<T>(config: &Config, tls: T) -> Result<(), StoreError>
where
    T: MakeTlsConnect<Socket> + Clone,
    T::Stream: Send + 'static,
{
    let (first, other) = (connected(config, tls.clone()).await?, connected(config, tls).await?);
    match answer(&first, "SHOW server_encoding").await? {
        Some(encoding) if encoding == "UTF8" => {}
        encoding => return Err(StoreError::Encoding(encoding.unwrap_or_default())),
    }
    for _ in 0..PROBES {
        let before = session_id(&first).await?;
        let begun = other.batch_execute("BEGIN").await;
        if begun.as_ref().is_err_and(|error| error.as_db_error().is_some()) {
            // Statement mode allows no transaction at all.
            return Err(StoreError::Pooler);
        }
        begun.map_err(not_connected)?;
        let others = session_id(&other).await?;
        let after = session_id(&first).await?;
        other.batch_execute("ROLLBACK").await.map_err(not_connected)?;
        if before == others || before != after {
            return Err(StoreError::Pooler);
        }
    }
    Ok(())
}

async fn connected<T>(config: &Config, tls: T) -> Result<Client, StoreError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await.map_err(not_connected)?;
    // It ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

async fn session_id(client: &Client) -> Result<Option<String>, StoreError> {
    answer(client, "SELECT pg_backend_pid()").await
}

/// By the simple protocol: a prepared statement may be in another session already.
async fn answer(client: &Client, sql: &str) -> Result<Option<String>, StoreError> {
    let messages = client.simple_query(sql).await.map_err(not_connected)?;
    let answer = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(answer.map(str::to_owned))
}
