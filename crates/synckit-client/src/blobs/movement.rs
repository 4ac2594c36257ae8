//! The progress of a transfer, and the detection of a stalled one.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    connection::transport::TransportError,
    error::{Error, Result},
    runtime,
};

/// The progress of a transfer, in bytes of the file.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use synckit_client::BlobProgress;
///
/// let percent = AtomicU64::new(0);
/// let show = |progress: BlobProgress| {
///     percent.store(progress.done_bytes * 100 / progress.total_bytes, Ordering::Relaxed);
/// };
/// client.blob_put(vec![7; 100_000], show).await?;
/// assert_eq!(percent.into_inner(), 100);
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobProgress {
    /// Bytes transferred in the current attempt, and in an upload that goes on the parts that the server has.
    pub done_bytes: u64,
    /// Size of the file in bytes.
    pub total_bytes: u64,
}

/// Counts transferred bytes, which distinguishes a stalled transfer from a slow one.
#[derive(Debug, Default)]
pub(super) struct Movement(AtomicU64);

impl Movement {
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for a transfer, and reports its progress, until it ends or stalls for `idle`.
    pub(super) async fn watch<T>(
        &self,
        idle: Duration,
        report: impl Fn(u64),
        transfer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        /// Interval between two reports of progress.
        const TICK: Duration = Duration::from_millis(50);
        let mut transfer = pin!(transfer);
        let mut last = (self.total(), runtime::now());
        loop {
            match runtime::timeout(TICK, &mut transfer).await {
                Some(result) => {
                    report(self.total());
                    return result;
                }
                None => {
                    let total = self.total();
                    if total != last.0 {
                        last = (total, runtime::now());
                        report(total);
                    } else if last.1.elapsed() >= idle {
                        return Err(Error::Network(TransportError::Timeout(idle)));
                    }
                }
            }
        }
    }
}
