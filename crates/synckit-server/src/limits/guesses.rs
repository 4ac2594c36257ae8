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
//! Invariant: memory is bounded. When a table is full, the entries that matter least, those with the most left, go.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use synckit_protocol::{limits, wire::UnixSeconds};

use super::{
    once::Once,
    token_buckets::{Allowances, ENTRIES_MAX, Rule},
};
use crate::{
    platform::random_bytes,
    startup::config::{GuessLimits, network_of},
};

/// How long an address stays familiar.
const FAMILIAR_SECONDS: u64 = 90 * 24 * 3600;
/// Familiar addresses that are remembered of one account; the newest stay.
const FAMILIAR_PER_ACCOUNT_MAX: usize = 8;

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
}

/// A guess that was counted, to be given back when it turns out to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Random, so that a ticket is given back once.
    id: [u8; 16],
    account: AccountKey,
    address: AddressPrefix,
}

impl Ticket {
    pub(crate) fn to_bytes(self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..16].copy_from_slice(&self.id);
        bytes[16..32].copy_from_slice(&self.account);
        bytes[32..].copy_from_slice(&self.address.0);
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; 48]) -> Self {
        let part = |from: usize| {
            let mut part = [0; 16];
            part.copy_from_slice(&bytes[from..from + 16]);
            part
        };
        Self {
            id: part(0),
            account: part(16),
            address: AddressPrefix(part(32)),
        }
    }
}

/// How long to wait before the next guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyGuesses {
    pub(crate) retry_after: Duration,
}

impl TooManyGuesses {
    /// After this time, in whole seconds.
    pub(super) fn after(wait: Duration) -> Self {
        Self {
            retry_after: Duration::from_secs(wait.as_secs_f64().ceil().max(1.0) as u64),
        }
    }
}

/// The counters of one node.
#[derive(Debug)]
pub(crate) struct Guesses {
    limits: GuessLimits,
    tables: Mutex<Tables>,
    counted: AtomicU64,
    refused: AtomicU64,
}

/// Numbers of guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuessTotals {
    pub(crate) counted: u64,
    pub(crate) refused: u64,
}

#[derive(Debug, Default)]
struct Tables {
    account_and_address: Allowances<(AccountKey, AddressPrefix)>,
    address: Allowances<AddressPrefix>,
    account_from_strangers: Allowances<AccountKey>,
    /// When an account was last used from an address.
    familiar: HashMap<AccountKey, Vec<(AddressPrefix, UnixSeconds)>>,
    /// Tickets that were given back, until their login has expired.
    given_back: Once,
}

impl Guesses {
    pub(crate) fn new(limits: GuessLimits) -> Self {
        Self {
            limits,
            tables: Mutex::default(),
            counted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Counts a guess at an account.
    pub(crate) fn count(
        &self,
        account: AccountKey,
        address: AddressPrefix,
        now: UnixSeconds,
    ) -> Result<Ticket, TooManyGuesses> {
        let at = Duration::from_secs(now);
        let mut tables = self.tables.lock();
        let stranger = !tables.is_familiar(account, address, now);
        let pair_rule = self.rule(self.limits.per_account_and_address);
        let address_rule = self.rule(self.limits.per_address);
        let account_rule = self.rule(self.limits.per_account_from_strangers);
        // All are looked at before any is drawn on: a refused guess costs no allowance, so that a client that keeps
        // trying is not shut out for ever.
        let mut wait = tables.account_and_address.wait(&(account, address), pair_rule, at);
        wait = wait.max(tables.address.wait(&address, address_rule, at));
        if stranger {
            wait = wait.max(tables.account_from_strangers.wait(&account, account_rule, at));
        }
        if let Some(wait) = wait {
            return Err(self.refuse(wait));
        }
        self.counted.fetch_add(1, Ordering::Relaxed);
        tables.account_and_address.draw((account, address), pair_rule, at);
        tables.address.draw(address, address_rule, at);
        if stranger {
            tables.account_from_strangers.draw(account, account_rule, at);
        }
        Ok(Ticket {
            id: random_bytes(),
            account,
            address,
        })
    }

    /// Counts an attempt that names no account (a registration, a mailed code) against its address alone.
    pub(crate) fn count_address(&self, address: AddressPrefix, now: UnixSeconds) -> Result<(), TooManyGuesses> {
        let at = Duration::from_secs(now);
        let mut tables = self.tables.lock();
        let rule = self.rule(self.limits.per_address);
        let taken = tables.address.take(address, rule, at);
        taken.map_err(|wait| self.refuse(wait))?;
        self.counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Counts an attempt by a client that has shown more than an address: a token of the account, or a mailed code.
    /// Strangers cannot exhaust this allowance, so it does not lock the owner out.
    pub(crate) fn count_account(
        &self,
        account: AccountKey,
        address: AddressPrefix,
        now: UnixSeconds,
    ) -> Result<(), TooManyGuesses> {
        let at = Duration::from_secs(now);
        let mut tables = self.tables.lock();
        let rule = self.rule(self.limits.per_account_and_address);
        let taken = tables.account_and_address.take((account, address), rule, at);
        taken.map_err(|wait| self.refuse(wait))
    }

    /// Gives a guess back that turned out to be right, and makes its address familiar. A ticket counts once: who
    /// repeats the last message of one good login must not earn guesses by it.
    pub(crate) fn give_back(&self, ticket: Ticket, now: UnixSeconds) {
        let mut tables = self.tables.lock();
        if !tables.given_back.insert(ticket.id, limits::LOGIN_SECONDS, now) {
            return;
        }
        let pair_rule = self.rule(self.limits.per_account_and_address);
        let address_rule = self.rule(self.limits.per_address);
        let account_rule = self.rule(self.limits.per_account_from_strangers);
        let stranger = !tables.is_familiar(ticket.account, ticket.address, now);
        tables
            .account_and_address
            .restore(&(ticket.account, ticket.address), pair_rule);
        tables.address.restore(&ticket.address, address_rule);
        if stranger {
            tables.account_from_strangers.restore(&ticket.account, account_rule);
        }
        tables.make_familiar(ticket.account, ticket.address, now);
    }

    /// Notes that an account is used from an address with a valid token.
    pub(crate) fn note_use(&self, account: AccountKey, address: AddressPrefix, now: UnixSeconds) {
        self.tables.lock().make_familiar(account, address, now);
    }

    /// Guesses that were let through and refused since the start, for the metrics.
    pub(crate) fn totals(&self) -> GuessTotals {
        GuessTotals {
            counted: self.counted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn refuse(&self, wait: Duration) -> TooManyGuesses {
        self.refused.fetch_add(1, Ordering::Relaxed);
        TooManyGuesses::after(wait)
    }

    fn rule(&self, allowance: u32) -> Rule {
        Rule {
            allowance: f64::from(allowance),
            per_second: f64::from(allowance) / self.limits.window.as_secs_f64(),
        }
    }
}

impl Tables {
    fn is_familiar(&self, account: AccountKey, address: AddressPrefix, now: UnixSeconds) -> bool {
        self.familiar.get(&account).is_some_and(|addresses| {
            addresses
                .iter()
                .any(|(known, at)| *known == address && at.saturating_add(FAMILIAR_SECONDS) > now)
        })
    }

    fn make_familiar(&mut self, account: AccountKey, address: AddressPrefix, now: UnixSeconds) {
        if self.familiar.len() >= ENTRIES_MAX && !self.familiar.contains_key(&account) {
            let newest = |addresses: &[(AddressPrefix, UnixSeconds)]| addresses.iter().map(|(_, at)| *at).max();
            let mut times: Vec<_> = self.familiar.values().map(|addresses| newest(addresses)).collect();
            let tenth = times.len() / 10;
            let (_, cut, _) = times.select_nth_unstable(tenth);
            let cut = *cut;
            self.familiar.retain(|_, addresses| newest(addresses) > cut);
        }
        let addresses = self.familiar.entry(account).or_default();
        addresses.retain(|(known, _)| *known != address);
        if addresses.len() >= FAMILIAR_PER_ACCOUNT_MAX {
            addresses.remove(0);
        }
        addresses.push((address, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: AccountKey = [1; 16];

    fn guesses() -> Guesses {
        Guesses::new(GuessLimits::default())
    }

    fn address(last: u16) -> AddressPrefix {
        let [high, low] = last.to_be_bytes();
        AddressPrefix::of(IpAddr::from([192, 0, high, low]))
    }

    #[test]
    fn one_address_has_ten_guesses_at_one_account() {
        let guesses = guesses();
        for _ in 0..10 {
            guesses.count(ACCOUNT, address(1), 0).unwrap();
        }
        let refused = guesses.count(ACCOUNT, address(1), 0).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(90));
        guesses.count(ACCOUNT, address(1), 90).unwrap();
        guesses.count(ACCOUNT, address(1), 90).unwrap_err();
        guesses.count(ACCOUNT, address(2), 90).unwrap();
        guesses.count([2; 16], address(1), 90).unwrap();
    }

    #[test]
    fn corrected_clock_locks_nobody_out() {
        let guesses = guesses();
        let ahead = 8 * 24 * 3600;
        for _ in 0..10 {
            guesses.count(ACCOUNT, address(1), ahead).unwrap();
        }
        let refused = guesses.count(ACCOUNT, address(1), 0).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(90));
        guesses.count(ACCOUNT, address(1), 90).unwrap();
        guesses.count(ACCOUNT, address(1), 90).unwrap_err();
    }

    #[test]
    fn one_address_has_sixty_guesses_at_all_accounts() {
        let guesses = guesses();
        for account in 0..60 {
            guesses.count([account; 16], address(1), 0).unwrap();
        }
        guesses.count([99; 16], address(1), 0).unwrap_err();
        guesses.count_address(address(1), 0).unwrap_err();
    }

    #[test]
    fn strangers_do_not_lock_out_a_familiar_address() {
        let guesses = guesses();
        guesses.note_use(ACCOUNT, address(1), 0);
        for stranger in 0..100 {
            guesses.count(ACCOUNT, address(1000 + stranger), 1).unwrap();
        }
        guesses.count(ACCOUNT, address(2000), 1).unwrap_err();
        guesses.count(ACCOUNT, address(1), 1).unwrap();
        guesses.count(ACCOUNT, address(1), FAMILIAR_SECONDS - 1).unwrap();
        assert!(!guesses.tables.lock().is_familiar(ACCOUNT, address(1), FAMILIAR_SECONDS));
    }

    #[test]
    fn a_good_finish_gives_the_guess_back_once() {
        let guesses = guesses();
        let mut tickets: Vec<_> = (0..10)
            .map(|_| guesses.count(ACCOUNT, address(1), 0).unwrap())
            .collect();
        let ticket = tickets.pop().unwrap();
        let ticket = Ticket::from_bytes(ticket.to_bytes());
        guesses.give_back(ticket, 0);
        guesses.give_back(ticket, 0);
        guesses.count(ACCOUNT, address(1), 0).unwrap();
        guesses.count(ACCOUNT, address(1), 0).unwrap_err();
    }

    #[test]
    fn a_refused_guess_costs_nothing() {
        let guesses = guesses();
        for _ in 0..10 {
            guesses.count(ACCOUNT, address(1), 0).unwrap();
        }
        for _ in 0..1000 {
            guesses.count(ACCOUNT, address(1), 0).unwrap_err();
        }
        guesses.count(ACCOUNT, address(1), 90).unwrap();
    }

    #[test]
    fn ipv6_addresses_of_one_household_are_one_guesser() {
        let prefix = |text: &str| AddressPrefix::of(text.parse().unwrap());
        assert_eq!(prefix("2001:db8:1:2::1"), prefix("2001:db8:1:2:ffff::9"));
        assert_ne!(prefix("2001:db8:1:2::1"), prefix("2001:db8:1:3::1"));
        assert_eq!(prefix("::ffff:192.0.2.1"), prefix("192.0.2.1"));
    }
}
