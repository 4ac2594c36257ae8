//! Limits of failed sign-ins, counted so that guessing is slow and the owner is not locked out.
//!
//! A client learns at the second message of OPAQUE whether a password was right and need not send the third, so every
//! start counts as a guess, and a good finish gives it back, once. Three allowances must all have something left:
//!
//! - one account from one address: stops a guesser at one account;
//! - one address at any account: stops a guesser who tries one password at many accounts;
//! - one account from every *unfamiliar* address together: stops a guesser with many addresses.
//!
//! An address is familiar to an account for 90 days after the account signed in or synced from it. Familiar addresses
//! do not draw on the third allowance and are not stopped by it: strangers can use it up, but the owner's devices at
//! their usual places sign in all the same. Sessions that exist never guess, so they always continue to sync.
//!
//! An address is an IPv4 address or an IPv6 /64, the smallest block that one household has. Accounts that do not exist
//! are counted like those that do.
//!
//! The store counts, so that every node of a server draws on the same allowances, and a restart gives none back. It knows
//! accounts and addresses by keyed hashes.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use synckit_protocol::{UserId, wire::UnixSeconds};
use synckit_store::{Allowance, Charge, Counted, CountedKey, Draw, Place, Store, StoreError};

use super::{disk_reserve::DiskReserve, token_buckets::ENTRIES_MAX};
use crate::startup::{
    MacKey,
    config::{GuessLimits, network_of},
};

/// How often the use of an account from one address is written down. Others may push it out of the familiar ones meanwhile.
const NOTED_SECONDS: u64 = 3600;

/// The account of a guess: its id, or its stand-in.
type AccountKey = [u8; 16];

/// The block of addresses that counts as one guesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AddressPrefix([u8; 16]);

impl AddressPrefix {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => match network_of(address.into(), 64) {
                IpAddr::V6(network) => network.octets(),
                IpAddr::V4(network) => network.to_ipv6_mapped().octets(),
            },
        })
    }

    pub(super) const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

/// A guess that was counted, to be given back when it turns out to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    account: AccountKey,
    address: AddressPrefix,
}

impl Ticket {
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.account);
        bytes[16..].copy_from_slice(&self.address.0);
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        let part = |from: usize| {
            let mut part = [0; 16];
            part.copy_from_slice(&bytes[from..from + 16]);
            part
        };
        Self {
            account: part(0),
            address: AddressPrefix(part(16)),
        }
    }
}

/// How long to wait before the next guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyGuesses {
    pub(crate) retry_after: Duration,
}

/// Why an attempt was not counted, and must not be made.
#[derive(Debug)]
pub(crate) enum NotCounted {
    TooMany(TooManyGuesses),
    Store(StoreError),
}

impl From<StoreError> for NotCounted {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Counts attempts in the store.
pub(super) struct Counter {
    store: Arc<dyn Store>,
    key: MacKey,
    /// The disk of the database; `None` if that is another machine's.
    disk: Option<Arc<DiskReserve>>,
    counted: AtomicU64,
    refused: AtomicU64,
}

impl Counter {
    pub(super) fn new(store: Arc<dyn Store>, key: MacKey, disk: Option<Arc<DiskReserve>>) -> Self {
        Self {
            store,
            key,
            disk,
            counted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Whether strangers may make rows.
    pub(super) fn has_room_for_strangers(&self) -> bool {
        self.disk.as_ref().is_none_or(|disk| disk.has_room_for_strangers())
    }

    /// Names something that is counted: a kind of 8 bytes, and parts of fixed length.
    pub(super) fn name(&self, kind: &[u8; 8], parts: &[&[u8; 16]]) -> CountedKey {
        name(&self.key, kind, parts)
    }

    /// Counts an attempt; returns whether it is the first one.
    pub(super) async fn count(&self, attempt: Charge, now: UnixSeconds) -> Result<bool, NotCounted> {
        match self.store.count(attempt, now).await? {
            Counted::First => {
                self.counted.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
            Counted::Repeated => Ok(false),
            Counted::Refused { wait_seconds } => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(NotCounted::TooMany(TooManyGuesses {
                    retry_after: Duration::from_secs(wait_seconds.max(1)),
                }))
            }
        }
    }

    pub(super) fn totals(&self) -> GuessTotals {
        GuessTotals {
            counted: self.counted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// A keyed hash, so that the database tells of nobody. All of it: allowances that were shared would let strangers, who use up
/// many, lock out people they do not know.
fn name(key: &MacKey, kind: &[u8; 8], parts: &[&[u8; 16]]) -> CountedKey {
    let mut all: Vec<&[u8]> = vec![kind];
    all.extend(parts.iter().map(|part| part.as_slice()));
    let mut name = [0; 16];
    name.copy_from_slice(&key.sign(&all)[..16]);
    CountedKey(name)
}

/// The limits of guesses.
pub(crate) struct Guesses {
    limits: GuessLimits,
    counter: Counter,
    /// When the use of an account from an address was written down last.
    noted: Mutex<HashMap<Ticket, UnixSeconds>>,
}

/// Numbers of guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuessTotals {
    pub(crate) counted: u64,
    pub(crate) refused: u64,
}

impl Guesses {
    pub(crate) fn new(limits: GuessLimits, store: Arc<dyn Store>, key: MacKey, disk: Option<Arc<DiskReserve>>) -> Self {
        Self {
            limits,
            counter: Counter::new(store, key, disk),
            noted: Mutex::default(),
        }
    }

    /// Counts a guess at an account.
    pub(crate) async fn count(
        &self,
        account: AccountKey,
        address: AddressPrefix,
        now: UnixSeconds,
    ) -> Result<Ticket, NotCounted> {
        let ticket = Ticket { account, address };
        self.counter.count(self.attempt(ticket), now).await?;
        Ok(ticket)
    }

    /// Counts a guess by a client with a token of the account, which is no stranger.
    pub(crate) async fn count_own(
        &self,
        account: AccountKey,
        address: AddressPrefix,
        now: UnixSeconds,
    ) -> Result<Ticket, NotCounted> {
        let ticket = Ticket { account, address };
        let attempt = Charge {
            may_grow: true,
            ..self.attempt(ticket)
        };
        self.counter.count(attempt, now).await?;
        Ok(ticket)
    }

    /// Counts an attempt by a client with a token against its address.
    pub(crate) async fn count_own_address(&self, address: AddressPrefix, now: UnixSeconds) -> Result<(), NotCounted> {
        self.count_one(self.at_any_account(address), true, now).await
    }

    /// Counts an attempt that names no account (a registration, a mailed code) against its address alone.
    pub(crate) async fn count_address(&self, address: AddressPrefix, now: UnixSeconds) -> Result<(), NotCounted> {
        let may_grow = self.counter.has_room_for_strangers();
        self.count_one(self.at_any_account(address), may_grow, now).await
    }

    /// Counts an attempt by a client that has shown more than an address: a token of the account, or a mailed code.
    /// Strangers cannot exhaust this allowance, so it does not lock the owner out.
    pub(crate) async fn count_account(
        &self,
        account: AccountKey,
        address: AddressPrefix,
        now: UnixSeconds,
    ) -> Result<(), NotCounted> {
        self.count_one(self.at_one_account(Ticket { account, address }), true, now)
            .await
    }

    /// Gives a guess back that turned out to be right, and makes its address familiar. The caller does so once for each
    /// login: who repeats the last message of one good login must not earn guesses by it. The account must exist by then, or
    /// its address becomes familiar to nobody.
    ///
    /// A store that takes no writes costs the user a guess, not the sign-in.
    pub(crate) async fn give_back(&self, ticket: Ticket, now: UnixSeconds) {
        match self.counter.store.give_back(self.attempt(ticket), now).await {
            Ok(()) => _ = self.must_note(ticket, now),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "a right guess was not given back");
            }
        }
    }

    /// Notes that an account is used from an address with a valid token.
    pub(crate) async fn note_use(&self, account: AccountKey, address: AddressPrefix, now: UnixSeconds) {
        let ticket = Ticket { account, address };
        if !self.must_note(ticket, now) {
            return;
        }
        // A store that takes no writes still serves reads, and so does the request that this is a part of.
        if let Err(error) = self.counter.store.note_place(self.place(ticket), now).await {
            self.noted.lock().remove(&ticket);
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "the use of an account from an address was not noted");
        }
    }

    /// Attempts that were let through and refused since the start of this node, for the metrics.
    pub(crate) fn totals(&self) -> GuessTotals {
        self.counter.totals()
    }

    async fn count_one(&self, draw: Draw, may_grow: bool, now: UnixSeconds) -> Result<(), NotCounted> {
        let attempt = Charge {
            once: None,
            draws: vec![draw],
            from_strangers: None,
            may_grow,
        };
        self.counter.count(attempt, now).await.map(|_| ())
    }

    fn attempt(&self, ticket: Ticket) -> Charge {
        let at_account = Draw {
            of: self.counter.name(b"account\0", &[&ticket.account]),
            allowance: self.allowance(self.limits.per_account_from_strangers),
        };
        Charge {
            once: None,
            draws: vec![self.at_one_account(ticket), self.at_any_account(ticket.address)],
            from_strangers: Some((at_account, self.place(ticket))),
            may_grow: self.counter.has_room_for_strangers(),
        }
    }

    fn at_one_account(&self, ticket: Ticket) -> Draw {
        Draw {
            of: self
                .counter
                .name(b"pair\0\0\0\0", &[&ticket.account, &ticket.address.0]),
            allowance: self.allowance(self.limits.per_account_and_address),
        }
    }

    fn at_any_account(&self, address: AddressPrefix) -> Draw {
        Draw {
            of: self.counter.name(b"address\0", &[&address.0]),
            allowance: self.allowance(self.limits.per_address),
        }
    }

    fn place(&self, ticket: Ticket) -> Place {
        Place {
            user_id: UserId::from_bytes(ticket.account),
            address: self.counter.name(b"place\0\0\0", &[&ticket.account, &ticket.address.0]),
        }
    }

    fn allowance(&self, tokens: u32) -> Allowance {
        Allowance {
            tokens,
            window_seconds: self.limits.window.as_secs(),
        }
    }

    /// Whether the use of an account from an address was not written down lately. Bounded: a full table forgets all, which
    /// costs a write for each.
    fn must_note(&self, ticket: Ticket, now: UnixSeconds) -> bool {
        let mut noted = self.noted.lock();
        let is_fresh = |at: &UnixSeconds| now.checked_sub(*at).is_some_and(|age| age < NOTED_SECONDS);
        if noted.get(&ticket).is_some_and(is_fresh) {
            return false;
        }
        if noted.len() >= ENTRIES_MAX {
            noted.retain(|_, at| is_fresh(at));
            if noted.len() >= ENTRIES_MAX {
                noted.clear();
            }
        }
        noted.insert(ticket, now);
        true
    }
}

impl fmt::Debug for Guesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guesses").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_accounts_share_an_allowance() {
        let key = MacKey::from_bytes([7; 32]);
        let accounts = (0..20_000_u128).map(u128::to_be_bytes);
        let names: HashSet<_> = accounts.map(|account| name(&key, b"account\0", &[&account])).collect();
        assert_eq!(names.len(), 20_000);
        // Neither do two kinds, nor a pair and its halves the other way round.
        let (one, other) = ([1; 16], [2; 16]);
        assert_ne!(name(&key, b"account\0", &[&one]), name(&key, b"address\0", &[&one]));
        assert_ne!(
            name(&key, b"pair\0\0\0\0", &[&one, &other]),
            name(&key, b"pair\0\0\0\0", &[&other, &one])
        );
    }

    #[test]
    fn ipv6_addresses_of_one_household_are_one_guesser() {
        let prefix = |text: &str| AddressPrefix::of(text.parse().unwrap());
        assert_eq!(prefix("2001:db8:1:2::1"), prefix("2001:db8:1:2:ffff::9"));
        assert_ne!(prefix("2001:db8:1:2::1"), prefix("2001:db8:1:3::1"));
        assert_eq!(prefix("::ffff:192.0.2.1"), prefix("192.0.2.1"));
    }
}
