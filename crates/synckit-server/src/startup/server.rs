//! The life of a server: open, serve, stop.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use synckit_store::{
    AcceptNewSeed, SeedClaim, Store, StoreError,
    objects::{Bucket, BucketError},
};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    DataDir, DataDirError, KeyFileError, MissingLogin, Readiness, ServeLock, ServerKeys,
    config::{BlobPlace, Config, Database, PublicUrl},
    database::open_for_server,
    descriptors::connections_to_serve,
    open_login,
};
use crate::{
    admin::Admin,
    api,
    blobs::{ObjectDirectory, Objects, UrlSigner},
    http::serve_connections,
    jobs::{
        end_event_streams_until_stopped, hear_other_nodes_until_stopped, meter_until_stopped, retain_until_stopped,
        retention_step, sweep_until_stopped, tell_other_nodes_until_stopped,
    },
    limits::{Capacity, DeviceCodes, DiskReserve, Guesses, Mails, Rates},
    live::Outbox,
    mail::{MailConfigError, MailWorker, Mailer},
    metering::Meter,
    metrics::Metrics,
    oauth::Pages,
    platform::random_bytes,
    sign_in::{SealedStates, SessionCache, Tokens},
    state::ServerState,
    web,
};

/// The least time that background jobs have to end after the last connection: they tell other nodes of the last pushes.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Why a server does not start, or stopped.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use synckit_server::{Config, ServeError, Server};
///
/// let _running = Server::open(Config::new(directory.path())).await?;
/// // Two servers on one directory would not know of each other's sessions.
/// assert!(matches!(Server::open(Config::new(directory.path())).await, Err(ServeError::DataDir(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The data directory cannot be used, or another process serves from it.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A key file cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The database cannot be used.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// The directory of objects cannot be used.
    #[error("the directory of blobs cannot be used")]
    Blobs(#[source] io::Error),
    /// The bucket cannot be used as configured.
    #[error("the bucket of blobs cannot be used")]
    Bucket(#[from] BucketError),
    /// The passwords in the database were registered under another OPRF seed.
    #[error(
        "the database was made under another OPRF seed than the one in keys/opaque.key: restore that file from a backup. \
         --accept-new-oprf-seed continues with this one, and every password must be reset"
    )]
    OtherSeed,
    /// Mails cannot be sent as configured.
    #[error(transparent)]
    Mail(#[from] MailConfigError),
    /// The listener has no address.
    #[error("the listener cannot be used")]
    Listener(#[source] io::Error),
}

/// Serves on a listener until `shutdown` resolves, then finishes running requests within the grace time and closes the
/// store.
///
/// If [`Config::public_url`] is unset, clients get the listener's own address.
///
/// # Errors
/// [`ServeError`], before the first connection is accepted, or if the store fails to close.
pub async fn serve(
    mut config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    let issuer = config.public_url.clone();
    config.public_url.get_or_insert_with(|| reachable_url(address));
    Server::open_as(config, issuer).await?.serve(listener, shutdown).await
}

/// A URL that reaches a listener from this machine. One that listens everywhere is reached by loopback.
fn reachable_url(address: SocketAddr) -> PublicUrl {
    let ip = match address.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    PublicUrl::of_address(SocketAddr::new(ip, address.port()))
}

/// A server that is open: its data directory is locked, its keys are read, its store is up to date.
///
/// [`serve`] is the usual way. This type is for callers that drive the router without a network, such as the simulator.
#[derive(Debug)]
pub struct Server {
    state: Arc<ServerState>,
    data_dir: DataDir,
    mail: Option<MailWorker>,
    /// Given back last, after the store is closed.
    lock: ServeLock,
}

impl Server {
    /// Opens a server. Without [`Config::public_url`], presigned URLs begin with `http://` and [`Config::listen`].
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn open(mut config: Config) -> Result<Self, ServeError> {
        let issuer = config.public_url.clone();
        let listen = config.listen;
        config.public_url.get_or_insert_with(|| reachable_url(listen));
        Self::open_as(config, issuer).await
    }

    /// Opens a server whose tokens name `issuer`. Without a configured URL they name the server's own id, so that
    /// tokens survive a restart on another port.
    async fn open_as(config: Config, issuer: Option<PublicUrl>) -> Result<Self, ServeError> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let opening = data_dir.begin_opening().await?;
        let lock = data_dir.lock(&opening)?;
        let now = config.clock.now();
        let store = open_for_server::<ServeError>(&config, &data_dir).await?;
        let keys = open_keys(&config, &data_dir, store.as_ref(), now).await?;
        drop(opening);
        let ServerKeys { login, tokens, derived } = keys;
        let issuer = issuer.map_or_else(
            || format!("urn:synckit:server:{}", URL_SAFE_NO_PAD.encode(derived.server_id)),
            |url| url.as_str().to_owned(),
        );
        let public_url = config.public_url.as_ref().map_or("", PublicUrl::as_str).to_owned();
        let objects = match &config.blobs {
            BlobPlace::Directory => Objects::Directory {
                files: ObjectDirectory::open(data_dir.blobs()).map_err(ServeError::Blobs)?,
                urls: UrlSigner::new(&public_url, derived.urls.clone()),
            },
            BlobPlace::Bucket(access) => Objects::Bucket(Bucket::new(access)?),
        };
        let (mailer, mail) = Mailer::new(
            &config.mail,
            data_dir.mail(),
            &public_url,
            Arc::clone(&store),
            config.clock.clone(),
        )?;
        let disk = Arc::new(DiskReserve::new(&data_dir));
        let disk_of_database = matches!(config.database, Database::Embedded).then(|| Arc::clone(&disk));
        let state = ServerState {
            login,
            tokens: Tokens::new(issuer, &tokens),
            states: SealedStates::new(&derived.sealing),
            sessions: SessionCache::default(),
            guesses: Guesses::new(
                config.guesses,
                Arc::clone(&store),
                derived.counted.clone(),
                disk_of_database.clone(),
            ),
            mails: Mails::new(
                config.mails,
                Arc::clone(&store),
                derived.counted.clone(),
                disk_of_database.clone(),
            ),
            device_codes: DeviceCodes::new(Arc::clone(&store), derived.counted.clone(), disk_of_database),
            rates: Rates::new(config.rates),
            meter: Meter::new(random_bytes(), config.meter_interval),
            metrics: Metrics::new(),
            objects,
            mailer,
            pages: Pages::new(&public_url),
            live: Arc::default(),
            outbox: matches!(config.database, Database::Postgres(_)).then(Outbox::new),
            capacity: Capacity::new(&config, connections_to_serve(&config.bounds)),
            readiness: Readiness::default(),
            disk,
            stopping: CancellationToken::new(),
            derived,
            store,
            config,
        };
        Ok(Self {
            state: Arc::new(state),
            data_dir,
            mail: Some(mail),
            lock,
        })
    }

    /// The routes, as a service that needs no network.
    pub fn router(&self) -> Router {
        api::router(Arc::clone(&self.state), web::operations())
    }

    /// The administration of this server.
    pub fn admin(&self) -> Admin {
        Admin::of(
            self.data_dir.clone(),
            Arc::clone(&self.state.store),
            self.state.config.clock.clone(),
        )
    }

    /// Deletes a bounded amount of unneeded data; returns whether more remains. [`serve`] does this in the background;
    /// this method is for callers that drive the router and the clock.
    ///
    /// # Errors
    /// [`StoreError`]; a later call deletes the piece.
    pub async fn retain(&self) -> Result<bool, StoreError> {
        retention_step(&self.state).await
    }

    /// Serves on a listener until `shutdown` resolves, as [`serve`] does.
    ///
    /// # Errors
    /// [`ServeError::Store`] if the store fails to close.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let stopping = self.state.stopping.clone();
        // Dropping this future must stop everything that it started, too.
        let _stop_when_dropped = stopping.clone().drop_guard();
        let sweeping = tokio::spawn(sweep_until_stopped(Arc::clone(&self.state)));
        let retaining = tokio::spawn(retain_until_stopped(Arc::clone(&self.state)));
        let metering = tokio::spawn(meter_until_stopped(Arc::clone(&self.state)));
        let ending = tokio::spawn(end_event_streams_until_stopped(Arc::clone(&self.state)));
        let telling_nodes = tokio::spawn(tell_other_nodes_until_stopped(Arc::clone(&self.state)));
        let hearing = tokio::spawn(hear_other_nodes_until_stopped(Arc::clone(&self.state)));
        let mailing = self
            .mail
            .take()
            .map(|worker| tokio::spawn(worker.run_until(stopping.clone())));
        tracing::info!(
            public_url = self.state.config.public_url.as_ref().map(PublicUrl::as_str),
            "serving"
        );

        let serving = serve_connections(listener, self.router(), &self.state, stopping.clone());
        let grace = self.state.config.timeouts.shutdown_grace;
        let telling = async {
            shutdown.await;
            stopping.cancel();
            Instant::now() + grace
        };
        // Serving ends only after it was told to.
        let ((), deadline) = tokio::join!(serving, telling);

        let jobs = [sweeping, retaining, metering, ending, hearing, telling_nodes];
        finish(
            jobs.into_iter().chain(mailing),
            deadline.max(Instant::now() + LAST_MOMENT),
        )
        .await;
        self.state.store.close().await?;
        tracing::info!("stopped");
        drop(self.lock);
        Ok(())
    }
}

/// Waits for background jobs, which end by themselves once the server stops. Those that wait for a database that does not
/// answer are cut short: what they do is done again by any later run.
async fn finish(jobs: impl Iterator<Item = JoinHandle<()>>, deadline: Instant) {
    for mut job in jobs {
        // A task that panicked has nothing left to finish.
        if timeout_at(deadline, &mut job).await.is_err() {
            tracing::warn!("background work was cut short, because the server stops");
            job.abort();
            let _ = job.await;
        }
    }
}

/// Reads the keys, and checks that the database was made under them. Makes no key file for a database that was not.
async fn open_keys(config: &Config, data_dir: &DataDir, store: &dyn Store, now: u64) -> Result<ServerKeys, ServeError> {
    let directory = data_dir.keys();
    let accept = if config.accept_new_oprf_seed {
        AcceptNewSeed::Yes
    } else {
        AcceptNewSeed::No
    };
    // New login secrets would strand every password without a word.
    let missing_login = if accept == AcceptNewSeed::Yes || store.seed_id().await?.is_none() {
        MissingLogin::Generate
    } else {
        MissingLogin::Refuse
    };
    let login = open_login(&directory, missing_login)?;
    match store.claim_seed(login.seed_id(), accept).await? {
        SeedClaim::Bound => {}
        SeedClaim::OtherSeed => return Err(ServeError::OtherSeed),
        SeedClaim::Rebound { stale_records } => {
            tracing::warn!(
                stale_records,
                "a new OPRF seed was accepted: these passwords must be reset"
            );
        }
    }
    Ok(ServerKeys::open(&directory, login, now)?)
}
