//! The jobs that wait for the writer, in a fair order.
//!
//! Weighted fair queueing (Demers, Keshav and Shenker, SIGCOMM 1989) with one weight for all: a job finishes, in virtual
//! time, its size after the later of now and the finish of the job before it in its lane; the job that finishes first is
//! next. A small push of a quiet stream thus passes the large ones of its neighbours, the jobs of one lane stay in order,
//! and no job starves: virtual time advances with every job, so a job that waits long enough is before every new one.
//!
//! Invariant: jobs and bytes that wait are bounded, and no lane takes more than a quarter of either.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Jobs that may wait.
pub(super) const QUEUED_JOBS_MAX: usize = 1024;
/// Bytes of sealed batches that may wait: the bound on the memory of the queue.
pub(super) const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The part of either bound that one lane may take: one in so many.
const LANE_DIVISOR: usize = 4;
/// The cost of a job without the bytes that it carries: about the pages of tables and indexes that it writes.
const JOB_COST_BYTES: u64 = 8 * 1024;
/// Remembered lanes. Above this number, lanes without a waiting job are forgotten, together with their use.
const LANES_MAX: usize = 4096;

/// A queue of jobs of type `J` in lanes named by `L`.
pub(super) struct FairQueue<L, J> {
    state: Mutex<State<L, J>>,
    arrived: Condvar,
}

struct State<L, J> {
    /// By virtual finish, then by arrival.
    waiting: BTreeMap<(u64, u64), Waiting<L, J>>,
    waiting_bytes: usize,
    lanes: HashMap<L, Lane>,
    /// Lanes with a waiting job.
    busy_lanes: u64,
    /// Virtual time, in bytes that each busy lane was served.
    now: u64,
    arrivals: u64,
    closed: bool,
}

struct Waiting<L, J> {
    lane: L,
    size_bytes: usize,
    job: J,
}

#[derive(Debug, Default)]
struct Lane {
    /// The virtual finish of its last job.
    finish: u64,
    jobs: usize,
    bytes: usize,
}

impl<L, J> fmt::Debug for FairQueue<L, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairQueue").finish_non_exhaustive()
    }
}

/// Why a job was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too many jobs wait, in all or in its lane.
    Full,
    /// No more jobs are taken.
    Closed,
}

impl<L: Copy + Eq + Hash, J> FairQueue<L, J> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: BTreeMap::new(),
                waiting_bytes: 0,
                lanes: HashMap::new(),
                busy_lanes: 0,
                now: 0,
                arrivals: 0,
                closed: false,
            }),
            arrived: Condvar::new(),
        }
    }

    /// Queues a job that carries so many bytes.
    pub(super) fn push(&self, lane: L, size_bytes: usize, job: J) -> Result<(), Refused> {
        self.state.lock().push(lane, size_bytes, job)?;
        self.arrived.notify_one();
        Ok(())
    }

    /// The next job. Waits for one; `None` once the queue is closed and empty.
    pub(super) fn next(&self) -> Option<J> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.pop(usize::MAX) {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            self.arrived.wait(&mut state);
        }
    }

    /// The next job, if one waits that carries at most so many bytes.
    pub(super) fn next_within(&self, bytes_max: usize) -> Option<J> {
        self.state.lock().pop(bytes_max)
    }

    /// The next job, if it carries at most so many bytes. Waits up to `wait` for one.
    pub(super) fn next_within_for(&self, bytes_max: usize, wait: Duration) -> Option<J> {
        let deadline = Instant::now() + wait;
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.pop(bytes_max) {
                return Some(job);
            }
            if self.arrived.wait_until(&mut state, deadline).timed_out() {
                return None;
            }
        }
    }

    /// Accepts no more jobs. Queued ones are still returned.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }
}

impl<L: Copy + Eq + Hash, J> State<L, J> {
    fn push(&mut self, lane: L, size_bytes: usize, job: J) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        if self.lanes.len() >= LANES_MAX && !self.lanes.contains_key(&lane) {
            self.lanes.retain(|_, lane| lane.jobs > 0);
        }
        let of_lane = self.lanes.entry(lane).or_default();
        // A single job larger than a bound is let through where nothing else waits: it could never be stored otherwise.
        let fits = |taken: usize, bound: usize| taken == 0 || taken.saturating_add(size_bytes) <= bound;
        let has_room = self.waiting.len() < QUEUED_JOBS_MAX
            && of_lane.jobs < QUEUED_JOBS_MAX / LANE_DIVISOR
            && fits(self.waiting_bytes, QUEUED_BYTES_MAX)
            && fits(of_lane.bytes, QUEUED_BYTES_MAX / LANE_DIVISOR);
        if !has_room {
            return Err(Refused::Full);
        }
        let cost = (size_bytes as u64).saturating_add(JOB_COST_BYTES);
        of_lane.finish = of_lane.finish.max(self.now).saturating_add(cost);
        if of_lane.jobs == 0 {
            self.busy_lanes += 1;
        }
        of_lane.jobs += 1;
        of_lane.bytes = of_lane.bytes.saturating_add(size_bytes);
        self.waiting_bytes = self.waiting_bytes.saturating_add(size_bytes);
        self.arrivals += 1;
        let place = (of_lane.finish, self.arrivals);
        self.waiting.insert(place, Waiting { lane, size_bytes, job });
        Ok(())
    }

    fn pop(&mut self, bytes_max: usize) -> Option<J> {
        let first = self.waiting.first_entry()?;
        if first.get().size_bytes > bytes_max {
            return None;
        }
        let Waiting { lane, size_bytes, job } = first.remove();
        self.waiting_bytes -= size_bytes;
        let cost = (size_bytes as u64).saturating_add(JOB_COST_BYTES);
        self.now = self.now.saturating_add(cost / self.busy_lanes.max(1));
        if let Some(of_lane) = self.lanes.get_mut(&lane) {
            of_lane.jobs -= 1;
            of_lane.bytes -= size_bytes;
            if of_lane.jobs == 0 {
                self.busy_lanes -= 1;
            }
        }
        if self.waiting.is_empty() {
            // Nobody waits, so nobody is owed anything.
            self.lanes.clear();
            self.now = 0;
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = 4 << 20;

    fn order(queue: &FairQueue<&'static str, u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.next_within(usize::MAX)).collect()
    }

    #[test]
    fn small_job_passes_the_large_ones_of_others() {
        let queue = FairQueue::new();
        for (job, lane) in ["a", "b", "c"].into_iter().enumerate() {
            queue.push(lane, LARGE, job as u32).unwrap();
        }
        assert_eq!(queue.next(), Some(0));
        queue.push("quiet", 300, 9).unwrap();
        assert_eq!(order(&queue), [9, 1, 2]);
    }

    #[test]
    fn jobs_of_one_lane_stay_in_order() {
        let queue = FairQueue::new();
        queue.push("a", LARGE, 1).unwrap();
        queue.push("a", 0, 2).unwrap();
        queue.push("b", 0, 3).unwrap();
        assert_eq!(order(&queue), [3, 1, 2]);
    }

    #[test]
    fn busy_lane_takes_turns_with_the_others() {
        let queue = FairQueue::new();
        for job in 0..3 {
            queue.push("greedy", 100_000, job).unwrap();
        }
        for job in 10..13 {
            queue.push("other", 100_000, job).unwrap();
        }
        assert_eq!(order(&queue), [0, 10, 1, 11, 2, 12]);
    }

    #[test]
    fn large_job_does_not_starve_behind_new_lanes() {
        let queue = FairQueue::new();
        queue.push(u64::MAX, LARGE, u64::MAX).unwrap();
        // Without the passing of time every new lane would be before the large job.
        let served_before = (0..10_000).find(|lane| {
            queue.push(*lane, 0, *lane).unwrap();
            queue.next() == Some(u64::MAX)
        });
        assert!(served_before.is_some());
    }

    #[test]
    fn lane_takes_at_most_its_share_of_the_queue() {
        let queue = FairQueue::new();
        let taken = (0..QUEUED_JOBS_MAX as u32).take_while(|job| queue.push("greedy", 0, *job).is_ok());
        assert_eq!(taken.count(), QUEUED_JOBS_MAX / LANE_DIVISOR);
        assert_eq!(queue.push("other", 0, 1), Ok(()));
        let queue = FairQueue::new();
        let taken = (0..100).take_while(|job| queue.push("greedy", LARGE, *job).is_ok());
        assert_eq!(taken.count() * LARGE, QUEUED_BYTES_MAX / LANE_DIVISOR);
        assert_eq!(queue.push("other", LARGE, 1), Ok(()));
    }

    #[test]
    fn job_that_does_not_fit_waits_for_the_next_group() {
        let queue = FairQueue::new();
        queue.push("a", 300, 1).unwrap();
        queue.push("b", LARGE, 2).unwrap();
        assert_eq!(queue.next(), Some(1));
        assert_eq!(queue.next_within(1 << 20), None);
        assert_eq!(queue.next(), Some(2));
    }

    #[test]
    fn small_job_is_taken_while_a_large_one_waits() {
        let queue = FairQueue::new();
        queue.push("a", LARGE, 1).unwrap();
        assert_eq!(queue.next_within_for(300, Duration::ZERO), None);
        queue.push("b", 300, 2).unwrap();
        assert_eq!(queue.next_within_for(300, Duration::ZERO), Some(2));
        assert_eq!(queue.next(), Some(1));
    }

    #[test]
    fn closed_queue_gives_out_what_waits() {
        let queue = FairQueue::new();
        queue.push("a", 0, 1).unwrap();
        queue.close();
        assert_eq!(queue.push("a", 0, 2), Err(Refused::Closed));
        assert_eq!((queue.next(), queue.next()), (Some(1), None));
    }
}
