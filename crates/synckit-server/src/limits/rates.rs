//! Limits of requests of one session, and of one address without a token.
//!
//! The limits are far above what an SDK does at full speed; they stop a client in a loop, and an attacker that would keep
//! the server busy with requests that need no token. Guesses at passwords have stricter limits of their own (`sign_in`).
//!
//! Requests with a token are counted by session, not by address: a campus is one address and many sessions.

use parking_lot::Mutex;
use synckit_protocol::SessionId;
use tokio::time::Instant;

use super::{
    AddressPrefix,
    token_buckets::{Allowances, Rule},
};
use crate::startup::config::RequestRates;

/// The counters of one server.
#[derive(Debug)]
pub(crate) struct Rates {
    started: Instant,
    sessions: Counter<SessionId>,
    addresses: Counter<AddressPrefix>,
}

#[derive(Debug)]
struct Counter<K> {
    rule: Rule,
    table: Mutex<Allowances<K>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyRequests {
    /// Seconds until the next one, rounded up.
    pub(crate) retry_after_seconds: u64,
}

impl Rates {
    pub(crate) fn new(rates: RequestRates) -> Self {
        Self {
            started: Instant::now(),
            sessions: Counter::new(rates.session_per_second, rates.session_burst),
            addresses: Counter::new(rates.address_per_second, rates.address_burst),
        }
    }

    pub(crate) fn count_session(&self, id: SessionId) -> Result<(), TooManyRequests> {
        self.sessions.count(id, self.started)
    }

    /// Counts a request that needs no token.
    pub(crate) fn count_address(&self, address: AddressPrefix) -> Result<(), TooManyRequests> {
        self.addresses.count(address, self.started)
    }
}

impl<K: Copy + Eq + std::hash::Hash> Counter<K> {
    fn new(per_second: u32, burst: u32) -> Self {
        Self {
            rule: Rule {
                allowance: f64::from(burst),
                per_second: f64::from(per_second),
            },
            table: Mutex::default(),
        }
    }

    fn count(&self, key: K, started: Instant) -> Result<(), TooManyRequests> {
        let taken = self.table.lock().take(key, self.rule, started.elapsed());
        taken.map_err(|wait| TooManyRequests {
            retry_after_seconds: wait.as_secs_f64().ceil().max(1.0) as u64,
        })
    }
}
