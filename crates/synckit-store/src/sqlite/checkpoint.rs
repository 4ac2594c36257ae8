//! Checkpoints, off the path of any request.
//!
//! The write-ahead log grows with every commit until somebody copies its pages into the database file. A thread with a
//! connection of its own does so whenever a few megabytes were written; that neither waits for readers nor stops the
//! writer. Because it may never catch up with a writer that never pauses, the log has a second bound: past it the writer
//! itself, between two transactions, waits for the thread, copies the rest and starts the log over. And when nothing was
//! written for a while, the thread empties the log, so that an idle server occupies no more of the disk than its data.
//!
//! Invariant: no commit waits for a checkpoint as long as the log is below its hard bound, and none is begun above it,
//! unless somebody reads from the log for longer than [`RESTART_TIMEOUT`].

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

/// Written bytes after which the thread takes a checkpoint.
const CHECKPOINT_EVERY_BYTES: u64 = 4 * 1024 * 1024;
/// The length of the log from which on the writer starts it over.
const WAL_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// What one job writes beside the bytes that it carries, about: a few pages of tables and indexes.
const JOB_PAGES_BYTES: u64 = 8 * 1024;
/// How long a checkpoint that starts the log over waits for readers to leave it. A reader is done in milliseconds; one of another process that
/// takes longer must not stop this server.
pub(super) const RESTART_TIMEOUT: Duration = Duration::from_millis(250);

/// How far the log has grown, shared by the writer and the thread.
#[derive(Debug)]
pub(super) struct WalGauge {
    busy_timeout: Duration,
    empty_after: Duration,
    /// All that was ever written, about.
    written_bytes: AtomicU64,
    /// `written_bytes` when the thread was last asked for a checkpoint. Only the writer uses it.
    asked_at_bytes: AtomicU64,
    checkpoints: AtomicU64,
    known: Mutex<Known>,
    /// Held by whoever takes a checkpoint: SQLite lets nobody wait for another's.
    turn: Mutex<()>,
    request: Mutex<Request>,
    changed: Condvar,
}

/// The last that was known for certain of the length of the log.
#[derive(Debug, Clone, Copy)]
struct Known {
    log_bytes: u64,
    /// `written_bytes` at that moment.
    at_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Nothing,
    Checkpoint,
    Stop,
}

impl WalGauge {
    /// A gauge for connections with this time-out, and a log that is emptied when it rested for so long.
    pub(super) fn new(busy_timeout: Duration, empty_after: Duration) -> Self {
        Self {
            busy_timeout,
            empty_after,
            written_bytes: AtomicU64::new(0),
            asked_at_bytes: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            known: Mutex::new(Known {
                log_bytes: 0,
                at_bytes: 0,
            }),
            turn: Mutex::new(()),
            request: Mutex::new(Request::Nothing),
            changed: Condvar::new(),
        }
    }

    /// Notes a commit of so many jobs and bytes, and wakes the thread when it is time. For the writer.
    pub(super) fn written(&self, jobs: usize, size_bytes: usize) {
        // Bytes and counts of this process fit into 64 bits on every platform.
        let added = size_bytes as u64 + jobs as u64 * JOB_PAGES_BYTES;
        let written = self.written_bytes.fetch_add(added, Ordering::Relaxed) + added;
        if written - self.asked_at_bytes.load(Ordering::Relaxed) >= CHECKPOINT_EVERY_BYTES {
            self.asked_at_bytes.store(written, Ordering::Relaxed);
            self.ask(Request::Checkpoint);
        }
    }

    /// Starts the log over if it has passed its hard bound. For the writer, between two transactions.
    pub(super) fn restart_if_too_long(&self, writer: &Connection) {
        let at_bytes = self.written_bytes.load(Ordering::Relaxed);
        let known = *self.known.lock();
        // SQLite starts the log over by itself when everything is copied and nobody reads, so this may be too much.
        if known.log_bytes + at_bytes.saturating_sub(known.at_bytes) <= WAL_BYTES_MAX {
            return;
        }
        let _turn = self.turn.lock();
        let restart = || -> rusqlite::Result<Progress> {
            writer.busy_timeout(RESTART_TIMEOUT)?;
            let progress = checkpoint(writer, "PRAGMA wal_checkpoint(RESTART)");
            writer.busy_timeout(self.busy_timeout)?;
            progress
        };
        let log_bytes = match restart() {
            Ok(progress) if !progress.blocked => {
                self.checkpoints.fetch_add(1, Ordering::Relaxed);
                0
            }
            Ok(_) => {
                tracing::warn!("somebody reads from the write-ahead log for long, and it grows past its bound");
                // Not for every transaction again: each attempt costs its time-out.
                WAL_BYTES_MAX / 2
            }
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log could not be started over");
                WAL_BYTES_MAX / 2
            }
        };
        *self.known.lock() = Known { log_bytes, at_bytes };
    }

    /// Checkpoints that were taken.
    pub(super) fn checkpoints(&self) -> u64 {
        self.checkpoints.load(Ordering::Relaxed)
    }

    fn ask(&self, wanted: Request) {
        let mut request = self.request.lock();
        if *request != Request::Stop {
            *request = wanted;
            self.changed.notify_one();
        }
    }

    /// The next request; [`Request::Nothing`] when none came for `empty_after`.
    fn wait(&self) -> Request {
        let mut request = self.request.lock();
        if *request == Request::Nothing {
            self.changed.wait_for(&mut request, self.empty_after);
        }
        match *request {
            Request::Stop => Request::Stop,
            _ => std::mem::replace(&mut *request, Request::Nothing),
        }
    }

    /// Copies what can be copied without waiting for anybody.
    fn checkpoint_in_passing(&self, connection: &Connection) {
        let _turn = self.turn.lock();
        // Read first: what is written meanwhile counts twice rather than not at all.
        let at_bytes = self.written_bytes.load(Ordering::Relaxed);
        match checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)") {
            Ok(Progress { log_bytes, .. }) => {
                self.checkpoints.fetch_add(1, Ordering::Relaxed);
                *self.known.lock() = Known { log_bytes, at_bytes };
            }
            // Most likely the disk is full. Commits go on as long as the log can grow.
            Err(error) => tracing::warn!(%error, "a checkpoint failed"),
        }
    }

    /// Copies everything and leaves an empty log. One attempt for each rest: if somebody reads, the log stays as it is.
    fn empty(&self, connection: &Connection) {
        let _turn = self.turn.lock();
        let at_bytes = self.written_bytes.load(Ordering::Relaxed);
        match checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)") {
            Ok(Progress {
                blocked: false,
                log_bytes,
            }) => {
                self.checkpoints.fetch_add(1, Ordering::Relaxed);
                *self.known.lock() = Known { log_bytes, at_bytes };
            }
            Ok(_) => tracing::debug!("somebody uses the write-ahead log, which was not emptied"),
            Err(error) => tracing::warn!(%error, "the write-ahead log could not be emptied"),
        }
    }
}

/// The handle of the thread.
#[derive(Debug)]
pub(super) struct Checkpointer {
    gauge: Arc<WalGauge>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpointer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection, gauge: Arc<WalGauge>) -> io::Result<Self> {
        let shared = Arc::clone(&gauge);
        let thread = thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || run(&connection, &shared))?;
        Ok(Self {
            gauge,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Stops the thread and closes its connection. Blocks.
    pub(super) fn join(&self) {
        self.gauge.ask(Request::Stop);
        if let Some(Err(_)) = self.thread.lock().take().map(JoinHandle::join) {
            tracing::error!("the checkpoint thread had panicked");
        }
    }
}

fn run(connection: &Connection, gauge: &WalGauge) {
    let mut seen = 0;
    let mut emptied_at = None;
    loop {
        match gauge.wait() {
            Request::Stop => return,
            Request::Checkpoint => gauge.checkpoint_in_passing(connection),
            Request::Nothing => {
                let written = gauge.written_bytes.load(Ordering::Relaxed);
                let has_rested = written == seen;
                if has_rested && emptied_at != Some(written) {
                    gauge.empty(connection);
                    emptied_at = Some(written);
                }
                seen = written;
            }
        }
    }
}

/// What a checkpoint answered.
struct Progress {
    /// Whether somebody else kept it from finishing.
    blocked: bool,
    /// The length of the log.
    log_bytes: u64,
}

fn checkpoint(connection: &Connection, sql: &str) -> rusqlite::Result<Progress> {
    let page_bytes: i64 = connection
        .prepare_cached("PRAGMA page_size")?
        .query_row([], |row| row.get(0))?;
    connection.prepare_cached(sql)?.query_row([], |row| {
        let log_pages: i64 = row.get(1)?;
        Ok(Progress {
            blocked: row.get::<_, i64>(0)? != 0,
            // -1 when there is no log at all.
            log_bytes: u64::try_from(log_pages.saturating_mul(page_bytes)).unwrap_or(0),
        })
    })
}

/// Copies everything and leaves an empty log: the last thing before the database is closed.
pub(super) fn finish(connection: &Connection) {
    match checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)") {
        Ok(progress) if !progress.blocked => {}
        // Nothing is lost: whoever opens the database next reads the log.
        Ok(_) => tracing::info!("another process has the database open: its write-ahead log stays"),
        Err(error) => tracing::warn!(%error, "the last checkpoint failed: the write-ahead log stays"),
    }
}
