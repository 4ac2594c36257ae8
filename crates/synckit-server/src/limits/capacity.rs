//! How much may happen at once in one server: permits that requests hold.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::startup::config::Config;

/// Exports of accounts at once. They are rare, and each may be slow.
const EXPORTS_MAX: usize = 4;

/// How much may happen at once.
#[derive(Debug)]
pub(crate) struct Capacity {
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) transfers: Arc<Semaphore>,
    /// One permit a KiB.
    pub(crate) push_memory: Arc<Semaphore>,
    /// One permit a KiB.
    pub(crate) page_memory: Arc<Semaphore>,
    /// Exports of accounts: each holds one line of up to 6 MB, and 20 MB while it makes it, for as long as the
    /// connection needs.
    pub(crate) exports: Arc<Semaphore>,
    /// Password logins that this server runs itself: each takes 64 MiB and a core for a while.
    pub(crate) password_logins: Arc<Semaphore>,
}

impl Capacity {
    pub(crate) fn new(config: &Config) -> Self {
        let kib = |bytes: u64| {
            let permits = usize::try_from(bytes / 1024).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
        };
        Self {
            requests: Arc::new(Semaphore::new(config.bounds.requests)),
            transfers: Arc::new(Semaphore::new(config.bounds.transfers)),
            push_memory: kib(config.bounds.push_body_bytes),
            page_memory: kib(config.bounds.page_bytes),
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
            password_logins: Arc::new(Semaphore::new(2)),
        }
    }
}
