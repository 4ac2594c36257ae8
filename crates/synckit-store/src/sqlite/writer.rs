//! The one thread that writes.
//!
//! It collects queued jobs into one transaction, so that many requests share one sync of the disk. Every job but the
//! first runs in its own savepoint, and a first one that fails begins the transaction again: a failed job does not affect
//! the others. Transactions are small in bytes, and the queue is fair ([`FairQueue`]), so a stream at full speed delays no
//! other.
//!
//! Invariant: a job is answered only after the COMMIT of its group returned.

use std::{
    cell::Cell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rusqlite::Connection;
use synckit_protocol::{SessionId, UserId};
use tokio::sync::oneshot;

use super::{
    checkpoint::WalGauge,
    failure::{Abandoned, Failure, database, shared},
    queue::FairQueue,
};
use crate::{EndSessions, StoreError, StreamId, TaskLost};

/// Jobs in one transaction.
const GROUP_JOBS_MAX: usize = 256;
/// Bytes of sealed batches in one transaction, unless its only job is larger: bounds the wait of the next jobs.
const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// The same where a small job was written lately: the next one waits half as long.
const GROUP_BYTES_BESIDE_SMALL_MAX: usize = 512 * 1024;
/// So many transactions after a small job, the next small one is expected no more: about a second of large ones.
const SMALL_JOB_TRANSACTIONS: u32 = 256;

/// A job that carries no more bytes is small: a row or a few, or the change of an account. Small jobs wait neither for
/// the checkpoint thread nor for large jobs that come after them.
const SMALL_JOB_BYTES: usize = 16 * 1024;

/// How often the writer looks whether the checkpoint thread has caught up.
const CHECKPOINT_POLL: Duration = Duration::from_millis(1);

/// The sizes of transactions that are told apart, by the most jobs of each.
pub(super) const GROUP_SIZES: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, GROUP_JOBS_MAX as u64];

/// The writer's work since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WriteStatistics {
    /// Jobs that were answered, failed ones included.
    pub jobs: u64,
    /// Transactions that were committed.
    pub commits: u64,
    /// Checkpoints that were taken, on either thread.
    pub checkpoints: u64,
}

/// Whose write it is: each lane gets the same share of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// The server's own: apps, invitations, retention, codes from mails.
    Server,
    /// The counts of guesses and mails, which strangers cause: a flood of them fills its own share of the queue.
    Guesses,
    /// A session's.
    Session(SessionId),
    /// An account's.
    Account(UserId),
    /// A stream's.
    Stream(StreamId),
}

impl From<SessionId> for Lane {
    fn from(id: SessionId) -> Self {
        Self::Session(id)
    }
}

impl From<UserId> for Lane {
    fn from(id: UserId) -> Self {
        Self::Account(id)
    }
}

impl From<StreamId> for Lane {
    fn from(id: StreamId) -> Self {
        Self::Stream(id)
    }
}

impl From<EndSessions> for Lane {
    fn from(which: EndSessions) -> Self {
        match which {
            EndSessions::One(id) => Self::Session(id),
            EndSessions::OneOfUser(id, _) | EndSessions::OfUser(id) | EndSessions::OthersOfUser(id, _) => {
                Self::Account(id)
            }
        }
    }
}

/// The jobs that wait.
type Queue = FairQueue<Lane, Box<dyn Job>>;

/// The handle of the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
    load: Arc<Load>,
    /// Returns the connection, so that it can be the last that is closed.
    thread: Mutex<Option<JoinHandle<Connection>>>,
}

/// Counters that both sides of the queue see.
#[derive(Debug, Default)]
struct Load {
    queued_bytes: AtomicUsize,
    queued_jobs: AtomicUsize,
    jobs: AtomicU64,
    commits: AtomicU64,
    groups: GroupSizes,
}

/// The number of transactions with up to 1, 2, 4, ... jobs: a counter for each of [`GROUP_SIZES`].
#[derive(Debug, Default)]
struct GroupSizes([AtomicU64; GROUP_SIZES.len()]);

impl GroupSizes {
    fn count(&self, jobs: usize) {
        let place = GROUP_SIZES.iter().position(|size| jobs as u64 <= *size);
        if let Some(counter) = self.0.get(place.unwrap_or(GROUP_SIZES.len() - 1)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection, gauge: Arc<WalGauge>) -> io::Result<Self> {
        let queue = Arc::new(Queue::new());
        let load = Arc::new(Load::default());
        let group_commit = GroupCommit {
            connection,
            queue: Arc::clone(&queue),
            load: Arc::clone(&load),
            gauge,
            small_expected: Cell::new(0),
        };
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || group_commit.run())?;
        Ok(Self {
            queue,
            load,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Runs a job in the next transaction and returns its result once that is durable. `size_bytes` is the size of the
    /// job's data.
    pub(super) async fn write<T, F>(&self, lane: Lane, size_bytes: usize, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            size_bytes,
            work,
            result: None,
            reply: Some(reply),
        };
        self.enqueue(lane, Box::new(request))?;
        answer.await.unwrap_or_else(|_| Err(database(Abandoned)))
    }

    /// Runs a job some time, if the queue has room for it: for facts that need not be exact.
    pub(super) fn write_eventually<F>(&self, lane: Lane, work: F)
    where
        F: Fn(&Connection) -> Result<(), Failure> + Send + 'static,
    {
        let request = Request {
            size_bytes: 0,
            work,
            result: None,
            reply: None,
        };
        if self.enqueue(lane, Box::new(request)).is_err() {
            tracing::debug!("the write queue is full: a last-seen time was not recorded");
        }
    }

    fn enqueue(&self, lane: Lane, job: Box<dyn Job>) -> Result<(), StoreError> {
        let size = job.size_bytes();
        self.load.queued_bytes.fetch_add(size, Ordering::Relaxed);
        self.load.queued_jobs.fetch_add(1, Ordering::Relaxed);
        self.queue.push(lane, size, job).map_err(|_| {
            self.load.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            self.load.queued_jobs.fetch_sub(1, Ordering::Relaxed);
            StoreError::Busy
        })
    }

    /// Jobs that are not answered yet, and the bytes that they carry.
    pub(super) fn queued(&self) -> (usize, usize) {
        (
            self.load.queued_jobs.load(Ordering::Relaxed),
            self.load.queued_bytes.load(Ordering::Relaxed),
        )
    }

    /// The number of transactions of each of [`GROUP_SIZES`].
    pub(super) fn groups(&self) -> [u64; GROUP_SIZES.len()] {
        self.load.groups.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Jobs answered and transactions committed so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        (
            self.load.jobs.load(Ordering::Relaxed),
            self.load.commits.load(Ordering::Relaxed),
        )
    }

    /// Takes no more jobs. Queued jobs are still done.
    pub(super) fn refuse(&self) {
        self.queue.close();
    }

    /// Waits until the queue is done, and hands over the connection to the first caller. Blocks.
    pub(super) fn join(&self) -> Option<Connection> {
        let mut thread = self.thread.lock();
        thread.take().and_then(|thread| thread.join().ok())
    }
}

/// One queued job, of any result type.
trait Job: Send {
    /// Bytes that it carries.
    fn size_bytes(&self) -> usize;

    /// Does the work and keeps the result. Returns whether the job's changes may stay. Runs again if a neighbour ended
    /// the transaction.
    fn run(&mut self, connection: &Connection) -> Verdict;

    /// Sends the result, or the error that undid it.
    fn answer(self: Box<Self>, undone_by: Option<&Arc<rusqlite::Error>>);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keep,
    Undo,
}

struct Request<T, F> {
    size_bytes: usize,
    work: F,
    result: Option<Result<T, Failure>>,
    reply: Option<oneshot::Sender<Result<T, StoreError>>>,
}

impl<T, F> Job for Request<T, F>
where
    T: Send,
    F: Fn(&Connection) -> Result<T, Failure> + Send,
{
    fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    fn run(&mut self, connection: &Connection) -> Verdict {
        // A panic must not take the writer with it: the server could never store anything again.
        self.result = match catch_unwind(AssertUnwindSafe(|| (self.work)(connection))) {
            Ok(result) => Some(result),
            Err(panic) => {
                tracing::error!(cause = %TaskLost::by_panic(&*panic), "a job of the store panicked");
                None
            }
        };
        if matches!(self.result, Some(Ok(_))) {
            Verdict::Keep
        } else {
            Verdict::Undo
        }
    }

    fn answer(self: Box<Self>, undone_by: Option<&Arc<rusqlite::Error>>) {
        let result = match (self.result, undone_by) {
            (Some(Err(failure)), _) => Err(failure.into()),
            (_, Some(error)) => Err(shared(error)),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(database(Abandoned)),
        };
        match self.reply {
            // The caller may have gone away; the work is done all the same.
            Some(reply) => drop(reply.send(result)),
            None => {
                if let Err(error) = result {
                    tracing::warn!(%error, "a write that nobody waits for failed");
                }
            }
        }
    }
}

/// The state of the thread.
struct GroupCommit {
    connection: Connection,
    queue: Arc<Queue>,
    load: Arc<Load>,
    gauge: Arc<WalGauge>,
    /// Transactions for which another small job is expected.
    small_expected: Cell<u32>,
}

/// The jobs of a transaction that changed rows. A job that is refused, or repeats an earlier one, lengthens the
/// write-ahead log by nothing.
#[derive(Debug, Default)]
struct Written {
    jobs: usize,
    size_bytes: usize,
}

/// Why a group was not committed.
enum Broken {
    /// The job at this index ended the transaction by its failure: a full disk, mostly. The others can continue without it.
    ByJob(usize),
    /// The transaction could not begin or end.
    ByError(rusqlite::Error),
}

impl From<rusqlite::Error> for Broken {
    fn from(error: rusqlite::Error) -> Self {
        Self::ByError(error)
    }
}

impl GroupCommit {
    fn run(self) -> Connection {
        loop {
            self.wait_for_checkpoint();
            let Some(first) = self.queue.next() else {
                return self.connection;
            };
            self.gauge.restart_if_due(&self.connection);
            self.write(first);
        }
    }

    /// Lets the checkpoint thread catch up where it has fallen behind. Small jobs are written meanwhile: they hardly
    /// lengthen the log.
    fn wait_for_checkpoint(&self) {
        let since = Instant::now();
        while self.gauge.must_wait(since.elapsed()) {
            if let Some(job) = self.queue.next_within_for(SMALL_JOB_BYTES, CHECKPOINT_POLL) {
                self.write(job);
            }
        }
    }

    /// Writes a job, and those that wait behind it.
    fn write(&self, first: Box<dyn Job>) {
        let mut group = vec![first];
        while !group.is_empty() {
            match self.commit(&mut group) {
                Ok(()) => self.answer(group.drain(..), None),
                Err(Broken::ByJob(index)) => self.answer(group.drain(index..=index), None),
                Err(Broken::ByError(error)) => {
                    tracing::error!(%error, jobs = group.len(), "a transaction was not committed");
                    self.answer(group.drain(..), Some(&Arc::new(error)));
                }
            }
        }
    }

    /// Runs the group and the jobs that wait behind it in one transaction.
    fn commit(&self, group: &mut Vec<Box<dyn Job>>) -> Result<(), Broken> {
        // IMMEDIATE: the write lock is taken before anything is read, so the rows that a job read are unchanged when it writes.
        self.execute("BEGIN IMMEDIATE")?;
        let committed = self.run_group(group).and_then(|written| {
            self.execute("COMMIT")?;
            Ok(written)
        });
        match committed {
            Ok(written) => {
                self.load.commits.fetch_add(1, Ordering::Relaxed);
                self.load.groups.count(group.len());
                self.gauge.written(written.jobs, written.size_bytes);
                Ok(())
            }
            Err(broken) => {
                if !self.connection.is_autocommit() {
                    self.execute("ROLLBACK")?;
                }
                Err(broken)
            }
        }
    }

    fn run_group(&self, group: &mut Vec<Box<dyn Job>>) -> Result<Written, Broken> {
        let mut written = Written::default();
        let mut size_bytes = 0;
        let mut has_small = false;
        let mut next = 0;
        let expected = self.small_expected.get();
        self.small_expected.set(expected.saturating_sub(1));
        let bytes_max = if expected > 0 {
            GROUP_BYTES_BESIDE_SMALL_MAX
        } else {
            GROUP_BYTES_MAX
        };
        while let Some(job) = group.get_mut(next) {
            let changes = self.connection.total_changes();
            let Some(verdict) = self.run_job(job.as_mut(), next == 0)? else {
                return Err(Broken::ByJob(next));
            };
            size_bytes += job.size_bytes();
            if job.size_bytes() <= SMALL_JOB_BYTES {
                has_small = true;
                self.small_expected.set(SMALL_JOB_TRANSACTIONS);
            }
            if verdict == Verdict::Keep && self.connection.total_changes() != changes {
                written.jobs += 1;
                written.size_bytes += job.size_bytes();
            }
            next += 1;
            if next == group.len() && next < GROUP_JOBS_MAX {
                let room = bytes_max.saturating_sub(size_bytes);
                let room = if has_small { room.min(SMALL_JOB_BYTES) } else { room };
                group.extend(self.queue.next_within(room));
            }
        }
        Ok(written)
    }

    /// Runs a job so that it can be undone alone. `None` if it ended the whole transaction, as some errors do, a full disk
    /// above all.
    fn run_job(&self, job: &mut dyn Job, is_first: bool) -> rusqlite::Result<Option<Verdict>> {
        // The first one is undone by beginning again: under light load, when it is the only one, a savepoint is a seventh
        // of its cost.
        if !is_first {
            self.execute("SAVEPOINT job")?;
        }
        let verdict = job.run(&self.connection);
        if verdict == Verdict::Undo {
            if self.connection.is_autocommit() {
                return Ok(None);
            }
            if is_first {
                self.execute("ROLLBACK")?;
                self.execute("BEGIN IMMEDIATE")?;
                return Ok(Some(verdict));
            }
            self.execute("ROLLBACK TO job")?;
        }
        if !is_first {
            self.execute("RELEASE job")?;
        }
        Ok(Some(verdict))
    }

    fn answer(&self, jobs: impl Iterator<Item = Box<dyn Job>>, undone_by: Option<&Arc<rusqlite::Error>>) {
        for job in jobs {
            self.load.queued_bytes.fetch_sub(job.size_bytes(), Ordering::Relaxed);
            self.load.queued_jobs.fetch_sub(1, Ordering::Relaxed);
            self.load.jobs.fetch_add(1, Ordering::Relaxed);
            job.answer(undone_by);
        }
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}
