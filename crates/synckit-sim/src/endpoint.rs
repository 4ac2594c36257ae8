//! The real server in this process: its router, called as a service, on a clock that the simulation sets.
//!
//! This is deliberately not a network. A request that is passed in here arrives, whole or cut, at once.
//!
//! Invariant: simulated time stops while the server works. The store writes on a thread that the runtime does not know
//! of; without this, the paused clock would jump to the next time-out whenever a request waits for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context as _;
use axum::{Router, body::Body};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use parking_lot::RwLock;
use synckit_server::{Clock, Config, Server};
use tower::ServiceExt as _;

/// The URL under which the simulated server is reached. Nothing listens there.
pub const SERVER_URL: &str = "https://sync.example.test";

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status and headers.
    pub head: http::response::Parts,
    /// The body.
    pub body: Bytes,
}

/// The clock of the simulated server. Clones show the same time.
#[derive(Debug, Clone)]
pub struct SimClock(Arc<Time>);

#[derive(Debug)]
struct Time {
    /// Seconds since 1970 at the start, with everything by which the clock jumped.
    base: AtomicU64,
    /// Simulated seconds since the start.
    elapsed: AtomicU64,
}

impl SimClock {
    /// A clock that shows `now`, in seconds since 1970, until it is moved.
    #[must_use]
    pub fn starting_at(now: u64) -> Self {
        Self(Arc::new(Time {
            base: AtomicU64::new(now),
            elapsed: AtomicU64::new(0),
        }))
    }

    /// Lets the clock jump forward.
    pub fn jump(&self, by: Duration) {
        self.0.base.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    /// Sets the simulated time since the start.
    pub fn set_elapsed(&self, elapsed: Duration) {
        self.0.elapsed.store(elapsed.as_secs(), Ordering::SeqCst);
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.0.base.load(Ordering::SeqCst) + self.0.elapsed.load(Ordering::SeqCst)
    }

    fn for_server(&self) -> Clock {
        let clock = self.clone();
        Clock::from_fn(move || UNIX_EPOCH + Duration::from_secs(clock.now()))
    }
}

/// A server that runs in this process.
#[derive(Debug)]
pub struct Endpoint {
    clock: SimClock,
    configure: fn(&mut Config),
    running: RwLock<Running>,
}

#[derive(Debug)]
struct Running {
    router: Router,
    data_dir: PathBuf,
    /// Keeps the store open and the data directory locked.
    server: Option<Server>,
}

impl Endpoint {
    /// Opens a server on a data directory.
    ///
    /// # Errors
    /// If the server does not start.
    pub async fn open(data_dir: &Path, clock: SimClock) -> anyhow::Result<Self> {
        Self::open_as(data_dir, clock, |_| {}).await
    }

    /// Opens a server with changed settings, which it also has after a crash or a restore.
    ///
    /// # Errors
    /// If the server does not start.
    pub async fn open_as(data_dir: &Path, clock: SimClock, configure: fn(&mut Config)) -> anyhow::Result<Self> {
        let server = open_server(data_dir, &clock, configure).await?;
        Ok(Self {
            clock,
            configure,
            running: RwLock::new(Running {
                router: server.router(),
                data_dir: data_dir.to_owned(),
                server: Some(server),
            }),
        })
    }

    /// The server's clock.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// Where the server keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.running.read().data_dir.clone()
    }

    /// Creates an app, and returns its id and its key.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn create_app(&self, name: &str) -> anyhow::Result<synckit_server::admin::CreatedApp> {
        let admin = self.running.read().server.as_ref().map(Server::admin);
        Ok(admin.context("the server is closed")?.create_app(name).await?)
    }

    /// Ends the server like a crash: another one starts from a copy of the disk at this moment, in `new_data_dir`, and
    /// only then the old one is closed. No request may be in progress.
    ///
    /// # Errors
    /// If the copy cannot be made or the new server does not start.
    pub async fn crash_and_restart(&self, new_data_dir: &Path) -> anyhow::Result<()> {
        let old = self.data_dir();
        let _standing = StandingClock::hold();
        copy_data_dir(&old, new_data_dir)?;
        self.go_over_to(new_data_dir).await
    }

    /// Replaces the data directory by an older copy, as an operator does who restores a backup. No request may be in
    /// progress.
    ///
    /// # Errors
    /// If the server does not start on it.
    pub async fn restore(&self, copy: &Path) -> anyhow::Result<()> {
        let _standing = StandingClock::hold();
        self.go_over_to(copy).await
    }

    async fn go_over_to(&self, data_dir: &Path) -> anyhow::Result<()> {
        let server = open_server(data_dir, &self.clock, self.configure).await?;
        let new = Running {
            router: server.router(),
            data_dir: data_dir.to_owned(),
            server: Some(server),
        };
        let before = std::mem::replace(&mut *self.running.write(), new);
        drop(before);
        Ok(())
    }

    /// Deletes one piece of the logs that snapshots cover. `false` if nothing was left to delete.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn retain(&self) -> anyhow::Result<bool> {
        let _standing = StandingClock::hold();
        let server = self.running.write().server.take();
        let server = server.context("the server is closed")?;
        let retained = server.retain().await;
        self.running.write().server = Some(server);
        Ok(retained?)
    }

    /// Closes the server in good order.
    pub fn close(&self) {
        let mut running = self.running.write();
        running.server = None;
        running.router = Router::new();
    }

    /// Makes a request and reads the whole answer. Simulated time stops until then.
    ///
    /// # Errors
    /// If the answer breaks off, which the server does only when its disk fails.
    pub async fn call(&self, request: http::Request<Body>) -> anyhow::Result<Answer> {
        let _standing = StandingClock::hold();
        let router = self.running.read().router.clone();
        let (mut head, body) = request.into_parts();
        // A server sees the path only; the host is in a header.
        if let Some(path) = head.uri.path_and_query() {
            head.uri = path.as_str().parse().context("not a path")?;
        }
        let response = match router.oneshot(http::Request::from_parts(head, body)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("the answer broke off")?.to_bytes();
        // As a network does: the server's own bytes hold its memory until they are sent.
        let body = Bytes::copy_from_slice(&body);
        Ok(Answer { head, body })
    }
}

async fn open_server(data_dir: &Path, clock: &SimClock, configure: fn(&mut Config)) -> anyhow::Result<Server> {
    let mut config = Config::new(data_dir);
    config.public_url = Some(SERVER_URL.parse().context("the URL of the simulation")?);
    config.clock = clock.for_server();
    configure(&mut config);
    Server::open(config).await.context("the server does not start")
}

/// Copies a data directory while it is open and nothing writes to it.
///
/// # Errors
/// If a file cannot be copied.
pub fn copy_data_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    // The log before the database: a checkpoint in between only copies pages that the log holds as well.
    for name in ["synckit.db-wal", "synckit.db"] {
        match fs::copy(from.join(name), to.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => drop(copied?),
        }
    }
    for folder in ["keys", "blobs"] {
        copy_folder(&from.join(folder), &to.join(folder))?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Keeps the paused clock of the runtime from advancing until it is dropped: the clock does not move during a blocking
/// task of the runtime, and this is such a task, which waits.
struct StandingClock {
    _release: std::sync::mpsc::Sender<()>,
}

impl StandingClock {
    fn hold() -> Self {
        let (release, released) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || {
            // Ends with an error when the other side is dropped, which is the event to wait for.
            let _ = released.recv();
        });
        Self { _release: release }
    }
}
