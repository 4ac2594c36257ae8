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

use std::{fmt, sync::Arc};

use parking_lot::Mutex;

use crate::startup::DataDir;

/// The most that is kept.
const RESERVE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The part of a small disk that is kept: one in so many bytes.
const RESERVE_DIVISOR: u64 = 20;

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
    /// Bytes that are reserved and not written. Held while the disk is looked at, so that no two find the same room.
    reserved_bytes: Arc<Mutex<u64>>,
}

/// The right to so many bytes of the disk, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    of: Arc<Mutex<u64>>,
    left_bytes: u64,
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
            reserved_bytes: Arc::default(),
        }
    }

    /// Reserves a number of bytes, if they and all other reservations leave the reserve untouched. Costs two system
    /// calls, which do not wait for the disk.
    pub(crate) fn reserve(&self, more_bytes: u64) -> Result<Reservation, DiskNearlyFull> {
        let mut reserved_bytes = self.reserved_bytes.lock();
        // A file system that does not say refuses when it is full.
        if let Some(space) = (self.measure)() {
            let kept_bytes = (space.total_bytes / RESERVE_DIVISOR).min(RESERVE_BYTES_MAX);
            let needed_bytes = [space.log_bytes, *reserved_bytes, more_bytes]
                .into_iter()
                .fold(kept_bytes, u64::saturating_add);
            if space.free_bytes < needed_bytes {
                return Err(DiskNearlyFull);
            }
        }
        let after = reserved_bytes.checked_add(more_bytes).ok_or(DiskNearlyFull)?;
        *reserved_bytes = after;
        Ok(Reservation {
            of: Arc::clone(&self.reserved_bytes),
            left_bytes: more_bytes,
        })
    }
}

impl Reservation {
    /// Gives back all but so many bytes: the others are written, and the disk itself counts them.
    pub(crate) fn keep(&mut self, left_bytes: u64) {
        let given_back = self.left_bytes.saturating_sub(left_bytes);
        self.left_bytes -= given_back;
        let mut reserved_bytes = self.of.lock();
        *reserved_bytes = reserved_bytes.saturating_sub(given_back);
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
            .field("reserved_bytes", &self.reserved_bytes)
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
        assert_eq!(*disk.reserved_bytes.lock(), 30);
        drop(upload);
        assert_eq!(*disk.reserved_bytes.lock(), 0);
    }

    #[test]
    fn a_disk_that_does_not_tell_refuses_nothing() {
        let disk = DiskReserve::measured_by(|| None);
        drop(disk.reserve(u64::MAX).unwrap());
    }
}
