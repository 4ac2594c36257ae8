//! Checkpoints, off the path of any request.
//!
//! The write-ahead log grows with every commit until its pages are copied into the database file. A thread with a
//! connection of its own copies them after every few megabytes, and at the latest after a pause; a copy neither waits for
//! readers nor stops the writer. SQLite writes over the log from its start only when every page is copied and no
//! transaction reads from it. Under a writer that never pauses that moment never comes. So when the log is
//! long and little of it is left to copy, the writer, between two transactions, copies the rest and starts the log over:
//! milliseconds. When nothing was written for a while, the thread empties the log.
//!
//! A transaction that reads for long (an export by another process, a backup) keeps the log from both. No request
//! waits for it: the log grows meanwhile, and the first copy after its end leads to a restart, which also shortens the file.
//!
//! Invariant: a commit waits for a checkpoint only if the log is long enough to start over and no long reader keeps it
//! from that. A small one then waits for at most [`LOCKS_WAIT`] and the copy of the remaining pages, a large one for
//! [`THREAD_WAIT`] more; a large one past twice [`WAL_BYTES_MAX`], and every one past four times, for the copy that the
//! thread has begun.

use std::{
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, ffi};

use crate::TaskLost;

/// Written bytes after which the thread copies.
const CHECKPOINT_EVERY_BYTES: u64 = 4 * 1024 * 1024;
/// The most that may remain to be copied when the writer starts the log over. More than this after a copy means that a
/// reader holds it.
const RESTART_TAIL_BYTES: u64 = 256 * 1024;
/// Copies in a row, each of the pages written during the one before, until [`RESTART_TAIL_BYTES`] remain.
const COPIES_IN_A_ROW_MAX: u32 = 4;
/// The length from which on the log is started over. Also the written bytes since the last copy from which on the writer
/// is slowed down: it writes faster than the thread copies. Twice as long, a file is cut when the log starts over.
pub(super) const WAL_BYTES_MAX: u64 = 48 * 1024 * 1024;
/// About the size of the pages of tables and indexes that one job writes beside the bytes that it carries.
const JOB_PAGES_BYTES: u64 = 8 * 1024;
/// How long a start over waits for transactions that read. A page of a pull is read in milliseconds.
pub(super) const LOCKS_WAIT: Duration = Duration::from_millis(10);
/// How long a large job waits for the thread, at most.
const THREAD_WAIT: Duration = Duration::from_millis(50);

/// How far the log has grown, shared by the writer and the thread.
#[derive(Debug)]
pub(super) struct WalGauge {
    /// The database file, to write back what was copied. Closed after all connections: POSIX ends a process's locks on a
    /// file when the process closes any descriptor of it.
    database: File,
    busy_timeout: Duration,
    empty_after: Duration,
    /// About all bytes written since the start.
    written_bytes: AtomicU64,
    /// `written_bytes` when the thread was last asked for a checkpoint. Only the writer uses it.
    asked_at_bytes: AtomicU64,
    checkpoints: AtomicU64,
    /// The log is long, and the thread copies what was written during its first copy.
    is_catching_up: AtomicBool,
    /// The thread has copied what it could, and the writer is to start the log over.
    restart: AtomicBool,
    known: Mutex<Known>,
    /// Held during a checkpoint: SQLite does not let one wait for another.
    turn: Mutex<()>,
    request: Mutex<Request>,
    changed: Condvar,
}

/// The state of the log after the last checkpoint.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    log_bytes: u64,
    /// Its bytes that were not copied, because a transaction still read older pages.
    held_bytes: u64,
    /// `written_bytes` at that moment.
    at_bytes: u64,
}

impl Known {
    /// Whether a long reader keeps the log from starting over.
    fn is_held(&self) -> bool {
        self.held_bytes > RESTART_TAIL_BYTES
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Nothing,
    Checkpoint,
    Stop,
}

impl WalGauge {
    /// A gauge for the connections to this file with this time-out, and a log that is emptied when it rested for so long.
    pub(super) fn new(database: File, busy_timeout: Duration, empty_after: Duration) -> Self {
        Self {
            database,
            busy_timeout,
            empty_after,
            written_bytes: AtomicU64::new(0),
            asked_at_bytes: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            is_catching_up: AtomicBool::new(false),
            restart: AtomicBool::new(false),
            known: Mutex::new(Known::default()),
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

    /// Whether large jobs have to wait for the copy that the thread has begun; `waited` is for how long they did. For
    /// the writer, between two transactions.
    pub(super) fn must_wait(&self, waited: Duration) -> bool {
        // Each of them pays a little of a copy. Past twice the bound they wait for the thread, or a busy machine could
        // let the log grow without end.
        self.turn.is_locked()
            && (self.is_longer_than(2 * WAL_BYTES_MAX)
                || waited < THREAD_WAIT && (self.is_catching_up.load(Ordering::Relaxed) || self.is_too_long()))
            && !self.is_longer_than(4 * WAL_BYTES_MAX)
    }

    /// Starts the log over if it is time. For the writer, between two transactions.
    pub(super) fn restart_if_due(&self, writer: &Connection) {
        if !self.restart.load(Ordering::Relaxed) && !self.is_too_long() && !self.is_longer_than(2 * WAL_BYTES_MAX) {
            return;
        }
        // Small jobs did not wait. Many of them lengthen the log as well: past four times the bound they wait, too.
        let turn = if self.is_longer_than(4 * WAL_BYTES_MAX) {
            Some(self.turn.lock())
        } else {
            self.turn.try_lock()
        };
        let Some(_turn) = turn else {
            return;
        };
        self.restart.store(false, Ordering::Relaxed);
        // The thread may have found a reader, or an empty log, meanwhile.
        let at_bytes = self.written_bytes.load(Ordering::Relaxed);
        if self.known.lock().is_held() {
            return;
        }
        let restart = || -> rusqlite::Result<Progress> {
            writer.busy_timeout(LOCKS_WAIT)?;
            let progress = checkpoint(writer, "PRAGMA wal_checkpoint(RESTART)");
            writer.busy_timeout(self.busy_timeout)?;
            progress
        };
        match restart() {
            Ok(progress) if !progress.blocked => {
                self.checkpoints.fetch_add(1, Ordering::Relaxed);
                *self.known.lock() = Known {
                    at_bytes,
                    ..Known::default()
                };
            }
            // Not for the next transaction again: each attempt costs its wait. The thread's next copy asks for it.
            Ok(progress) => {
                tracing::debug!("a transaction reads from the write-ahead log, which starts over later");
                *self.known.lock() = progress.known(at_bytes);
            }
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log could not be started over");
                // As if it were short: the next attempt comes after as many bytes again.
                *self.known.lock() = Known {
                    at_bytes,
                    ..Known::default()
                };
            }
        }
    }

    /// Whether the thread does not keep up with the writer.
    fn is_too_long(&self) -> bool {
        let known = *self.known.lock();
        let since = self
            .written_bytes
            .load(Ordering::Relaxed)
            .saturating_sub(known.at_bytes);
        // Only bytes since the last copy: `restart` deals with the earlier ones.
        !known.is_held() && since > WAL_BYTES_MAX
    }

    /// Whether the log has grown past so many bytes, and no long reader is the cause.
    fn is_longer_than(&self, bytes: u64) -> bool {
        let known = *self.known.lock();
        let written = self.written_bytes.load(Ordering::Relaxed);
        let since = written.saturating_sub(known.at_bytes);
        !known.is_held() && known.log_bytes.saturating_add(since) > bytes
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

    /// Brings the copied pages to the disk. SQLite does so only when it has copied the last page of the log, so that the
    /// writer, when it starts the log over, would wait for megabytes.
    fn write_back(&self) -> rusqlite::Result<()> {
        self.database.sync_data().map_err(|error| {
            rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), Some(error.to_string()))
        })
    }

    /// Copies all pages that need no waiting, and asks the writer to start a long log over. Returns whether every page
    /// is copied.
    fn copy(&self, connection: &Connection) -> bool {
        let turn = self.turn.lock();
        let mut copies = 0;
        let known = loop {
            // Read first: bytes that are written during the copy count twice rather than never.
            let at_bytes = self.written_bytes.load(Ordering::Relaxed);
            let copied = checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)");
            let known = match copied.and_then(|progress| self.write_back().map(|()| progress)) {
                Ok(progress) => progress.known(at_bytes),
                // Most likely the disk is full. Commits continue as long as the log can grow.
                Err(error) => {
                    tracing::warn!(%error, "a checkpoint failed");
                    self.is_catching_up.store(false, Ordering::Relaxed);
                    return false;
                }
            };
            self.checkpoints.fetch_add(1, Ordering::Relaxed);
            *self.known.lock() = known;
            copies += 1;
            let since = self.written_bytes.load(Ordering::Relaxed).saturating_sub(at_bytes);
            if known.is_held()
                || known.log_bytes < WAL_BYTES_MAX
                || since <= RESTART_TAIL_BYTES
                || copies == COPIES_IN_A_ROW_MAX
            {
                break known;
            }
            self.is_catching_up.store(true, Ordering::Relaxed);
        };
        if !known.is_held() && known.log_bytes >= WAL_BYTES_MAX {
            self.restart.store(true, Ordering::Relaxed);
        }
        self.is_catching_up.store(false, Ordering::Relaxed);
        drop(turn);
        known.held_bytes == 0
    }

    /// Leaves an empty log, after everything was copied. `false` if it was in use.
    fn empty(&self, connection: &Connection) -> bool {
        let _turn = self.turn.lock();
        let at_bytes = self.written_bytes.load(Ordering::Relaxed);
        match checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)") {
            Ok(progress) if !progress.blocked => {
                self.checkpoints.fetch_add(1, Ordering::Relaxed);
                self.restart.store(false, Ordering::Relaxed);
                *self.known.lock() = progress.known(at_bytes);
                return true;
            }
            Ok(_) => tracing::debug!("the write-ahead log is in use and was not emptied"),
            Err(error) => tracing::warn!(%error, "the write-ahead log could not be emptied"),
        }
        false
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
        let request = gauge.wait();
        if request == Request::Stop {
            return;
        }
        // Without this thread the log would grow until the next start: a panic costs one round and no more.
        let round = catch_unwind(AssertUnwindSafe(|| {
            let written = gauge.written_bytes.load(Ordering::Relaxed);
            let has_rested = request == Request::Nothing && written == seen;
            seen = written;
            if emptied_at != Some(written) && gauge.copy(connection) && has_rested && gauge.empty(connection) {
                emptied_at = Some(written);
            }
        }));
        if let Err(panic) = round {
            tracing::error!(cause = %TaskLost::by_panic(&*panic), "a checkpoint panicked and is tried again later");
        }
    }
}

/// The result of a checkpoint.
struct Progress {
    /// Whether a lock of another connection kept it from finishing.
    blocked: bool,
    /// The length of the log.
    log_bytes: u64,
    /// Its bytes that are in the database file.
    copied_bytes: u64,
}

impl Progress {
    fn known(&self, at_bytes: u64) -> Known {
        Known {
            log_bytes: self.log_bytes,
            held_bytes: self.log_bytes.saturating_sub(self.copied_bytes),
            at_bytes,
        }
    }
}

fn checkpoint(connection: &Connection, sql: &str) -> rusqlite::Result<Progress> {
    let page_bytes: i64 = connection
        .prepare_cached("PRAGMA page_size")?
        .query_row([], |row| row.get(0))?;
    connection.prepare_cached(sql)?.query_row([], |row| {
        // -1 without a log.
        let bytes = |pages: i64| u64::try_from(pages.saturating_mul(page_bytes)).unwrap_or(0);
        Ok(Progress {
            blocked: row.get::<_, i64>(0)? != 0,
            log_bytes: bytes(row.get(1)?),
            copied_bytes: bytes(row.get(2)?),
        })
    })
}

/// Copies every page and leaves an empty log: the last step before the database is closed.
pub(super) fn finish(connection: &Connection) {
    match checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)") {
        Ok(progress) if !progress.blocked => {}
        // Nothing is lost: the next process that opens the database reads the log.
        Ok(_) => tracing::info!("another process has the database open: its write-ahead log stays"),
        Err(error) => tracing::warn!(%error, "the last checkpoint failed: the write-ahead log stays"),
    }
}
