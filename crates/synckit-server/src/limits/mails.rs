//! Limits of mails, so that a stranger cannot flood a mailbox, nor keep its owner from a mail.
//!
//! Two allowances, each a token bucket: codes for a reset of the password, and mails about a registration. Strangers who
//! register an address therefore use up no mail that its owner needs for a reset.
//!
//! Registrations are counted by mailbox, which is an address without its `+` suffix: anybody can register any suffix, and each
//! registration is a mail. Resets are counted by address. Only an address that has an account gets a mail, and its owner made
//! that account. If resets were counted by mailbox, strangers would use them up with suffixes that have no account, and no code
//! would be in the mailbox.
//!
//! Strangers can use up the resets of an address that has an account, too. They then mailed the owner a code that is valid:
//! with the default settings a further mail is allowed as soon as the code of the last one expires, and a newer code ends no
//! older one. Therefore nothing is counted unless the queue of mails has a place.
//!
//! Addresses without an account are counted like those with one, so that a refusal reveals no account.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use synckit_protocol::{UserId, limits::LOGIN_SECONDS, wire::UnixSeconds};

use super::{
    guesses::TooManyGuesses,
    once::Once,
    token_buckets::{Allowances, Rule},
};
use crate::startup::config::MailLimits;

const DAY_SECONDS: f64 = 24.0 * 3600.0;

/// A mailbox, as a keyed hash: addresses are not kept in memory.
pub(crate) type Mailbox = [u8; 16];

/// An address, as a keyed hash, too.
pub(crate) type Address = [u8; 16];

/// The counters of one node.
#[derive(Debug)]
pub(crate) struct Mails {
    limits: MailLimits,
    tables: Mutex<Tables>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Tables {
    resets: Allowances<Address>,
    registrations: Allowances<Mailbox>,
    /// Registrations that were counted, for as long as their requests can be repeated.
    counted: Once,
}

/// Whether a request is the first one of its registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    First,
    /// Its answer was lost, and the client sent it again.
    Repeated,
}

impl Mails {
    pub(crate) fn new(limits: MailLimits) -> Self {
        Self {
            limits,
            tables: Mutex::default(),
            refused: AtomicU64::new(0),
        }
    }

    /// Counts a request for a code.
    pub(crate) fn count_reset(&self, address: Address, now: UnixSeconds) -> Result<(), TooManyGuesses> {
        let rule = rule(self.limits.reset_burst, self.limits.resets_per_day);
        self.draw(&mut self.tables.lock().resets, address, rule, now)
    }

    /// Counts a registration, once: repeats of its last request cause no further mail.
    pub(crate) fn count_registration(
        &self,
        mailbox: Mailbox,
        registration: UserId,
        now: UnixSeconds,
    ) -> Result<Attempt, TooManyGuesses> {
        let rule = rule(self.limits.registration_burst, self.limits.registrations_per_day);
        let id = *registration.as_bytes();
        let mut tables = self.tables.lock();
        if tables.counted.contains(&id, now) {
            return Ok(Attempt::Repeated);
        }
        self.draw(&mut tables.registrations, mailbox, rule, now)?;
        // If there is no room, a repeat counts again, which is the safe side.
        tables.counted.insert(id, LOGIN_SECONDS, now);
        Ok(Attempt::First)
    }

    /// Refused requests since the start, for the metrics.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn draw(
        &self,
        allowances: &mut Allowances<[u8; 16]>,
        key: [u8; 16],
        rule: Rule,
        now: UnixSeconds,
    ) -> Result<(), TooManyGuesses> {
        let taken = allowances.take(key, rule, Duration::from_secs(now));
        taken.map_err(|wait| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            TooManyGuesses::after(wait)
        })
    }
}

fn rule(burst: u32, per_day: u32) -> Rule {
    Rule {
        allowance: f64::from(burst),
        per_second: f64::from(per_day) / DAY_SECONDS,
    }
}

#[cfg(test)]
mod tests {
    use synckit_protocol::limits::RESET_CODE_SECONDS;

    use super::*;

    const MAILBOX: Mailbox = [1; 16];
    const HOUR: u64 = 3600;

    fn registration(n: u8) -> UserId {
        UserId::from_bytes([n; 16])
    }

    #[test]
    fn address_gets_a_burst_and_then_a_daily_number() {
        let mails = Mails::new(MailLimits::default());
        let mut sent = 0;
        // A request a minute for ten days.
        for minute in 0..10 * 24 * 60 {
            sent += u32::from(mails.count_reset(MAILBOX, minute * 60).is_ok());
            if minute == 24 * 60 - 1 {
                assert_eq!(sent, 5 + 23);
            }
        }
        assert_eq!(sent, 5 + 10 * 24 - 1);
        assert_eq!(mails.count_reset([2; 16], 0), Ok(()));
    }

    /// Otherwise strangers could keep an owner from a reset all day.
    #[test]
    fn refused_reset_means_that_a_code_is_valid() {
        let mails = Mails::new(MailLimits::default());
        let mut last = None;
        for now in (0..48 * HOUR).step_by(7) {
            match mails.count_reset(MAILBOX, now) {
                Ok(()) => last = Some(now),
                Err(_) => assert!(
                    last.unwrap() + RESET_CODE_SECONDS > now,
                    "at {now}, the last one at {last:?}"
                ),
            }
        }
    }

    #[test]
    fn resets_and_registrations_are_counted_apart() {
        let mails = Mails::new(MailLimits::default());
        for n in 0..5 {
            mails.count_registration(MAILBOX, registration(n), 0).unwrap();
        }
        let refused = mails.count_registration(MAILBOX, registration(5), 0).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(2 * HOUR));
        for _ in 0..5 {
            mails.count_reset(MAILBOX, 0).unwrap();
        }
        let refused = mails.count_reset(MAILBOX, 0).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(HOUR));
        mails.count_registration(MAILBOX, registration(6), 2 * HOUR).unwrap();
    }

    #[test]
    fn repeated_registration_counts_once() {
        let mails = Mails::new(MailLimits::default());
        for n in 0..5 {
            for expected in [Attempt::First, Attempt::Repeated, Attempt::Repeated] {
                assert_eq!(mails.count_registration(MAILBOX, registration(n), 0), Ok(expected));
            }
        }
        mails.count_registration(MAILBOX, registration(9), 0).unwrap_err();
        // A refused one was not counted.
        mails.count_registration(MAILBOX, registration(9), 1).unwrap_err();
        let later = 2 * HOUR;
        assert_eq!(
            mails.count_registration(MAILBOX, registration(9), later),
            Ok(Attempt::First)
        );
    }
}
