//! The disk reserve: free space for the writes that must work on a full disk.
//!
//! Pushes, snapshots and files are refused while some space is still free, so that small writes that must not fail have
//! room: sign-ins, deletions, key changes. And the write-ahead log must fit into the database file, or it could never be
//! emptied.
//!
//! What it deliberately is not: a promise. Others write to the same disk, and a disk without a single free byte refuses
//! every write with `server_full`.

use std::path::PathBuf;

use crate::startup::DataDir;

/// The most that is kept.
const RESERVE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The part of a small disk that is kept: one in so many bytes.
const RESERVE_DIVISOR: u64 = 20;

/// Looks at the disk of a data directory.
#[derive(Debug)]
pub(crate) struct DiskReserve {
    data_dir: PathBuf,
    write_ahead_log: PathBuf,
}

/// What is to be stored does not fit beside the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the disk is nearly full")]
pub(crate) struct DiskNearlyFull;

impl DiskReserve {
    pub(crate) fn new(data_dir: &DataDir) -> Self {
        let mut write_ahead_log = data_dir.database().into_os_string();
        write_ahead_log.push("-wal");
        Self {
            data_dir: data_dir.root().to_owned(),
            write_ahead_log: write_ahead_log.into(),
        }
    }

    /// Whether so many bytes more leave the reserve alone. Costs two system calls, which do not wait for the disk.
    pub(crate) fn check(&self, more_bytes: u64) -> Result<(), DiskNearlyFull> {
        let Some((free_bytes, total_bytes)) = self.measure() else {
            // A file system that does not say: it refuses when it is full.
            return Ok(());
        };
        let unwritten_bytes = std::fs::metadata(&self.write_ahead_log).map_or(0, |log| log.len());
        let reserve_bytes = (total_bytes / RESERVE_DIVISOR).min(RESERVE_BYTES_MAX);
        if free_bytes >= reserve_bytes.saturating_add(unwritten_bytes).saturating_add(more_bytes) {
            return Ok(());
        }
        Err(DiskNearlyFull)
    }

    /// Free bytes and all bytes.
    #[cfg(unix)]
    fn measure(&self) -> Option<(u64, u64)> {
        let disk = rustix::fs::statvfs(&self.data_dir).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some((bytes(disk.f_bavail), bytes(disk.f_blocks)))
    }

    #[cfg(not(unix))]
    fn measure(&self) -> Option<(u64, u64)> {
        let _ = &self.data_dir;
        None
    }
}
