//! The last free bytes of the disk, reserved for writes that must succeed on a full one.
//!
//! The server refuses large writes (pushes, snapshots, files) before the disk is full, so that small necessary writes
//! still succeed: sign-ins, deletions, key changes, the times of devices. The reserve also holds the write-ahead log:
//! without room for it in the database file, a checkpoint could never empty it.
//!
//! Concurrent writes would all see the same free bytes. Each therefore reserves its own before it writes, and reserved
//! bytes count as taken.
//!
//! The reserve is deliberately no guarantee. Other programs write to the same disk, and a disk without a single free
//! byte refuses every write with `server_full`.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::startup::DataDir;

/// The most that is kept.
const RESERVE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The part of a small disk that is kept: one in so many bytes.
const RESERVE_DIVISOR: u64 = 20;

/// How many bytes of the disk an upload holds ahead of those that have arrived: who announces much and sends little keeps little
/// from others.
const AHEAD_BYTES: u64 = 1 << 20;

/// With so many free bytes to spare, the disk is looked at seldom: in [`LOOK_INTERVAL`] no disk writes as many.
const PLENTY_BYTES: u64 = 1 << 30;
/// How long a look at a disk with plenty of room counts.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The disk is nearly full: only the reserve is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the disk is nearly full")]
pub(crate) struct DiskNearlyFull;

/// The free space of the disk at one moment.
#[derive(Debug, Clone, Copy)]
struct Space {
    free_bytes: u64,
    total_bytes: u64,
    /// Of the write-ahead log, which the database file may still have to take.
    log_bytes: u64,
}

/// Looks at the disk of a data directory.
pub(crate) struct DiskReserve {
    measure: Box<dyn Fn() -> Option<Space> + Send + Sync>,
    /// Held while the disk is looked at, so that no two find the same room.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that are reserved and not written.
    reserved_bytes: u64,
    last_look: Option<(Instant, Space)>,
}

/// The right to so many bytes of the disk, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    of: Arc<Mutex<State>>,
    left_bytes: u64,
}

/// The room of an upload, which grows with what arrives.
#[derive(Debug)]
pub(crate) struct UploadRoom {
    size: u64,
    arrived: u64,
    /// Up to where there is room.
    until: u64,
    held: Reservation,
}

impl DiskReserve {
    pub(crate) fn new(data_dir: &DataDir) -> Self {
        let root = data_dir.root().to_owned();
        let mut write_ahead_log = data_dir.database().into_os_string();
        write_ahead_log.push("-wal");
        Self::measured_by(move || {
            let (free_bytes, total_bytes) = crate::platform::disk_of(&root)?;
            Some(Space {
                free_bytes,
                total_bytes,
                log_bytes: std::fs::metadata(&write_ahead_log).map_or(0, |log| log.len()),
            })
        })
    }

    fn measured_by(measure: impl Fn() -> Option<Space> + Send + Sync + 'static) -> Self {
        Self {
            measure: Box::new(measure),
            state: Arc::default(),
        }
    }

    /// Reserves a number of bytes, if they and all other reservations leave the reserve untouched. A look at the disk costs
    /// two system calls, which do not wait for it.
    pub(crate) fn reserve(&self, more_bytes: u64) -> Result<Reservation, DiskNearlyFull> {
        self.reserve_at(more_bytes, more_bytes, Instant::now())
    }

    /// Whether the requests of strangers may still make rows: until half of the reserve is used up. The rest is for people who have
    /// an account.
    pub(crate) fn has_room_for_strangers(&self) -> bool {
        (self.measure)().is_none_or(|space| {
            let half = space.kept_bytes() / 2;
            space.free_bytes >= space.log_bytes.saturating_add(half)
        })
    }

    /// Room for the first bytes of an upload, if all of it would fit now.
    pub(crate) fn begin_upload(&self, size: u64) -> Result<UploadRoom, DiskNearlyFull> {
        let until = size.min(AHEAD_BYTES);
        let held = self.reserve_at(size, until, Instant::now())?;
        Ok(UploadRoom {
            size,
            arrived: 0,
            until,
            held,
        })
    }

    /// Reserves `held_bytes`, if there is room for `more_bytes`.
    fn reserve_at(&self, more_bytes: u64, held_bytes: u64, now: Instant) -> Result<Reservation, DiskNearlyFull> {
        let mut state = self.state.lock();
        let seen = state
            .last_look
            .filter(|(at, _)| now.saturating_duration_since(*at) < LOOK_INTERVAL)
            .is_some_and(|(_, space)| space.spare(state.reserved_bytes, more_bytes) >= PLENTY_BYTES);
        if !seen {
            let space = (self.measure)();
            state.last_look = space.map(|space| (now, space));
            // A file system that does not say refuses when it is full.
            if space.is_some_and(|space| !space.has_room(state.reserved_bytes, more_bytes)) {
                return Err(DiskNearlyFull);
            }
        }
        state.reserved_bytes = state.reserved_bytes.checked_add(held_bytes).ok_or(DiskNearlyFull)?;
        Ok(Reservation {
            of: Arc::clone(&self.state),
            left_bytes: held_bytes,
        })
    }
}

impl Space {
    /// The bytes that must be free for a write and for all that was reserved before.
    fn needed(&self, reserved_bytes: u64, more_bytes: u64) -> u64 {
        [self.log_bytes, reserved_bytes, more_bytes]
            .into_iter()
            .fold(self.kept_bytes(), u64::saturating_add)
    }

    fn kept_bytes(&self) -> u64 {
        (self.total_bytes / RESERVE_DIVISOR).min(RESERVE_BYTES_MAX)
    }

    fn has_room(&self, reserved_bytes: u64, more_bytes: u64) -> bool {
        self.free_bytes >= self.needed(reserved_bytes, more_bytes)
    }

    /// The free bytes that nothing needs.
    fn spare(&self, reserved_bytes: u64, more_bytes: u64) -> u64 {
        self.free_bytes.saturating_sub(self.needed(reserved_bytes, more_bytes))
    }
}

impl Reservation {
    /// Gives back all but so many bytes: the others are written, and the disk itself counts them.
    pub(crate) fn keep(&mut self, left_bytes: u64) {
        let given_back = self.left_bytes.saturating_sub(left_bytes);
        self.left_bytes -= given_back;
        let mut state = self.of.lock();
        state.reserved_bytes = state.reserved_bytes.saturating_sub(given_back);
    }
}

impl UploadRoom {
    /// Makes room for bytes that have arrived, and for some after them.
    pub(crate) fn grow(&mut self, disk: &DiskReserve, arrived: u64) -> Result<(), DiskNearlyFull> {
        self.arrived = self.arrived.saturating_add(arrived).min(self.size);
        if self.arrived > self.until {
            let until = self.arrived.saturating_add(AHEAD_BYTES).min(self.size);
            let mut more = disk.reserve(until - self.until)?;
            self.held.left_bytes = self
                .held
                .left_bytes
                .saturating_add(std::mem::take(&mut more.left_bytes));
            self.until = until;
        }
        Ok(())
    }

    /// Gives back what is on the disk now: all but the last `missing` bytes of the upload.
    pub(crate) fn written(&mut self, missing: u64) {
        self.held
            .keep(self.until.saturating_sub(self.size.saturating_sub(missing)));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.keep(0);
    }
}

impl fmt::Debug for DiskReserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskReserve")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A disk of 1000 bytes, of which 50 are the reserve, with so many free ones and a log of 10.
    fn disk(free: &Arc<AtomicU64>) -> DiskReserve {
        let free = Arc::clone(free);
        DiskReserve::measured_by(move || {
            Some(Space {
                free_bytes: free.load(Ordering::Relaxed),
                total_bytes: 1000,
                log_bytes: 10,
            })
        })
    }

    #[test]
    fn bytes_reserved_by_others_are_taken() {
        let free = Arc::new(AtomicU64::new(160));
        let disk = disk(&free);
        let first = disk.reserve(60).unwrap();
        let second = disk.reserve(40).unwrap();
        assert!(matches!(disk.reserve(1), Err(DiskNearlyFull)));
        drop(disk.reserve(0).unwrap());
        drop(first);
        drop(disk.reserve(60).unwrap());
        assert!(disk.reserve(61).is_err());
        drop(second);
        drop(disk.reserve(100).unwrap());
        assert!(disk.reserve(101).is_err() && disk.reserve(u64::MAX).is_err());
        free.store(59, Ordering::Relaxed);
        assert!(disk.reserve(0).is_err());
    }

    #[test]
    fn written_bytes_are_not_counted_twice() {
        let free = Arc::new(AtomicU64::new(160));
        let disk = disk(&free);
        let mut upload = disk.reserve(80).unwrap();
        assert!(disk.reserve(21).is_err());
        // 50 of them are on the disk now.
        free.store(110, Ordering::Relaxed);
        upload.keep(30);
        assert!(disk.reserve(21).is_err());
        drop(disk.reserve(20).unwrap());
        // More than it has is not given back.
        upload.keep(70);
        assert_eq!(disk.state.lock().reserved_bytes, 30);
        drop(upload);
        assert_eq!(disk.state.lock().reserved_bytes, 0);
    }

    #[test]
    fn half_of_the_reserve_is_not_for_strangers() {
        let free = Arc::new(AtomicU64::new(35));
        let disk = disk(&free);
        assert!(disk.has_room_for_strangers());
        free.store(34, Ordering::Relaxed);
        assert!(!disk.has_room_for_strangers());
        assert!(DiskReserve::measured_by(|| None).has_room_for_strangers());
    }

    #[test]
    fn an_upload_holds_little_more_than_it_sends() {
        let free = Arc::new(AtomicU64::new(10 * AHEAD_BYTES + 60));
        let disk = disk(&free);
        let reserved = || disk.state.lock().reserved_bytes;
        assert!(disk.begin_upload(10 * AHEAD_BYTES + 1).is_err());
        let mut uploads: Vec<_> = (0..9).map(|_| disk.begin_upload(AHEAD_BYTES * 2).unwrap()).collect();
        assert_eq!(reserved(), 9 * AHEAD_BYTES);
        let first = &mut uploads[0];
        first.grow(&disk, AHEAD_BYTES).unwrap();
        assert_eq!(reserved(), 9 * AHEAD_BYTES);
        // Half a step is on the disk, and the rest of the upload is held.
        free.fetch_sub(AHEAD_BYTES / 2, Ordering::Relaxed);
        first.written(AHEAD_BYTES * 2 - AHEAD_BYTES / 2);
        assert_eq!(reserved(), 9 * AHEAD_BYTES - AHEAD_BYTES / 2);
        first.grow(&disk, 1).unwrap();
        assert_eq!(reserved(), 10 * AHEAD_BYTES - AHEAD_BYTES / 2);
        // No room is left for the rest of another one, which is refused then.
        assert!(uploads[1].grow(&disk, AHEAD_BYTES + 1).is_err());
        // More than was announced is not held.
        uploads[0].grow(&disk, u64::MAX).unwrap();
        uploads[0].written(0);
        assert_eq!(reserved(), 8 * AHEAD_BYTES);
        drop(uploads);
        assert_eq!(reserved(), 0);
    }

    #[test]
    fn a_disk_that_does_not_tell_refuses_nothing() {
        let disk = DiskReserve::measured_by(|| None);
        drop(disk.reserve(u64::MAX).unwrap());
    }

    #[test]
    fn disk_with_plenty_of_room_is_looked_at_seldom() {
        let (free, looks) = (Arc::new(AtomicU64::new(3 * PLENTY_BYTES)), Arc::new(AtomicU64::new(0)));
        let disk = {
            let (free, looks) = (Arc::clone(&free), Arc::clone(&looks));
            DiskReserve::measured_by(move || {
                looks.fetch_add(1, Ordering::Relaxed);
                Some(Space {
                    free_bytes: free.load(Ordering::Relaxed),
                    total_bytes: 100 * PLENTY_BYTES,
                    log_bytes: 10,
                })
            })
        };
        let start = Instant::now();
        let mut held = Vec::new();
        let mut reserve = |bytes, now| held.push(disk.reserve_at(bytes, bytes, now));
        for _ in 0..10 {
            reserve(1, start);
        }
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        reserve(1, start + LOOK_INTERVAL);
        assert_eq!(looks.load(Ordering::Relaxed), 2);
        // With less than plenty to spare, every time.
        let scarce = 2 * PLENTY_BYTES;
        reserve(scarce, start + LOOK_INTERVAL);
        reserve(1, start + LOOK_INTERVAL);
        assert_eq!(looks.load(Ordering::Relaxed), 4);
        assert!(held.iter().all(Result::is_ok));
        free.store(scarce, Ordering::Relaxed);
        assert!(disk.reserve_at(1, 1, start + LOOK_INTERVAL).is_err());
    }
}
