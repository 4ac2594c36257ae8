//! The limits of concurrent work in one server: the pools that requests take from.

use synckit_protocol::limits;

use super::{Exhausted, Owners, Permit, Pool};
use crate::startup::config::Config;

/// Bodies up to this size have memory of their own, so that no large one keeps them waiting.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = limits::BODY_BYTES_MAX;
/// Exports of accounts at once. They are rare, each may be slow, and each account has one.
const EXPORTS_MAX: u64 = 16;
/// Password logins that the server runs itself.
const PASSWORD_LOGINS_MAX: u64 = 2;

/// The bounded resources of concurrent requests. Memory is counted in KiB.
#[derive(Debug)]
pub(crate) struct Capacity {
    /// Requests with a token whose body has arrived.
    requests: Pool,
    /// Requests without a token whose body has arrived: a quarter as many, so that strangers never block users who
    /// sync.
    strangers: Pool,
    /// Bodies of up to [`SMALL_BODY_BYTES_MAX`] of requests with a token.
    small_bodies: Pool,
    /// Bodies of requests without a token.
    strangers_bodies: Pool,
    /// Larger bodies.
    large_bodies: Pool,
    /// Pages and parts of snapshots, until they are sent.
    pub(crate) pages: Pool,
    pub(crate) transfers: Pool,
    /// Exports of accounts: each holds one line of up to 6 MB, and 20 MB while it makes it, for as long as the
    /// connection needs.
    pub(crate) exports: Pool,
    /// Password logins that this server runs itself: each takes 64 MiB and a core for a while.
    pub(crate) password_logins: Pool,
    /// Open connections.
    pub(crate) connections: Pool,
    /// Open event streams. A node that has no more is still ready: it answers requests, and clients poll.
    pub(crate) event_streams: Pool,
}

impl Capacity {
    /// The capacity of a server that may have so many connections.
    pub(crate) fn new(config: &Config, connections: usize) -> Self {
        let bounds = config.bounds;
        let requests = bounds.requests as u64;
        let large = kib(limits::PUSH_BODY_BYTES_MAX as u64);
        let small = kib(SMALL_BODY_BYTES_MAX as u64);
        // A page holds one batch, however large, and a part of a snapshot is as large as a batch.
        let page = kib(u64::from(limits::PAGE_BYTES_MAX).max(limits::BATCH_SEALED_BYTES_MAX as u64));
        Self {
            requests: Pool::new("requests", requests, 1),
            strangers: Pool::new("requests without a token", (requests / 4).max(1), 1),
            small_bodies: Pool::new("memory of small bodies", bounds.push_body_bytes / 2 / 1024, small),
            strangers_bodies: Pool::new(
                "memory of bodies without a token",
                bounds.push_body_bytes / 8 / 1024,
                small,
            ),
            large_bodies: Pool::new("memory of large bodies", bounds.push_body_bytes / 1024, large),
            pages: Pool::new("memory of pages", bounds.page_bytes / 1024, page),
            transfers: Pool::new("transfers of blobs", bounds.transfers as u64, 1),
            exports: Pool::new("exports", EXPORTS_MAX, 1),
            password_logins: Pool::new("password logins", PASSWORD_LOGINS_MAX, 1),
            connections: Pool::new("connections", connections as u64, 1),
            event_streams: Pool::with_account_share(
                "event streams",
                // They must leave connections to requests, also where the system allows fewer than configured.
                (bounds.event_streams as u64).min(connections as u64 / 2),
                bounds.event_streams_per_account as u64,
            ),
        }
    }

    /// Takes the place of a request that is about to work.
    pub(crate) fn begin_request(&self, owners: Owners) -> Result<Permit, Exhausted> {
        let pool = if owners.has_session() {
            &self.requests
        } else {
            &self.strangers
        };
        pool.try_take(owners, 1)
    }

    /// The memory for a body of this size: its pool and amount.
    pub(crate) fn body_memory(&self, owners: Owners, bytes: usize) -> (&Pool, u64) {
        let pool = if bytes > SMALL_BODY_BYTES_MAX {
            &self.large_bodies
        } else if owners.has_session() {
            &self.small_bodies
        } else {
            &self.strangers_bodies
        };
        (pool, kib(bytes as u64))
    }

    /// Requests in progress.
    pub(crate) fn requests_at_work(&self) -> u64 {
        self.requests.taken() + self.strangers.taken()
    }

    /// Memory that bodies hold, in bytes.
    pub(crate) fn body_bytes(&self) -> u64 {
        (self.small_bodies.taken() + self.strangers_bodies.taken() + self.large_bodies.taken()) * 1024
    }

    /// The pools that turned somebody away within the last seconds because all of them is held.
    pub(crate) fn used_up(&self) -> impl Iterator<Item = &Pool> {
        [
            &self.requests,
            &self.strangers,
            &self.small_bodies,
            &self.strangers_bodies,
            &self.large_bodies,
            &self.pages,
            &self.transfers,
            &self.exports,
            &self.password_logins,
            &self.connections,
        ]
        .into_iter()
        .filter(|pool| pool.is_used_up())
    }
}

/// So many bytes in KiB, and one more for the small things around.
pub(crate) const fn kib(bytes: u64) -> u64 {
    bytes / 1024 + 1
}
