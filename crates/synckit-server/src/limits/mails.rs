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

use std::{fmt, sync::Arc};

use synckit_protocol::{UserId, limits::LOGIN_SECONDS, wire::UnixSeconds};
use synckit_store::{Allowance, Charge, Draw, Store};

use super::{
    disk_reserve::DiskReserve,
    guesses::{Counter, NotCounted},
};
use crate::startup::{MacKey, config::MailLimits};

const DAY_SECONDS: u64 = 24 * 3600;

/// A mailbox, as a keyed hash: addresses are not kept in memory.
pub(crate) type Mailbox = [u8; 16];

/// An address, as a keyed hash, too.
pub(crate) type Address = [u8; 16];

/// The limits of mails. The store counts, for every node.
pub(crate) struct Mails {
    limits: MailLimits,
    counter: Counter,
}

/// Whether a request is the first one of its registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registering {
    First,
    /// Its answer was lost, and the client sent it again.
    Repeated,
}

impl Mails {
    pub(crate) fn new(limits: MailLimits, store: Arc<dyn Store>, key: MacKey, disk: Option<Arc<DiskReserve>>) -> Self {
        Self {
            limits,
            counter: Counter::new(store, key, disk),
        }
    }

    /// Counts a request for a code.
    pub(crate) async fn count_reset(&self, address: Address, now: UnixSeconds) -> Result<(), NotCounted> {
        let attempt = Charge {
            once: None,
            draws: vec![Draw {
                of: self.counter.name(b"reset\0\0\0", &[&address]),
                allowance: allowance(self.limits.reset_burst, self.limits.resets_per_day),
            }],
            from_strangers: None,
            may_grow: self.counter.has_room_for_strangers(),
        };
        self.counter.count(attempt, now).await.map(|_| ())
    }

    /// Counts a mail about another address for an account, as a registration of it.
    pub(crate) async fn count_address(&self, mailbox: Mailbox, now: UnixSeconds) -> Result<(), NotCounted> {
        let attempt = self.registration(mailbox, None);
        self.counter.count(attempt, now).await.map(|_| ())
    }

    fn registration(&self, mailbox: Mailbox, once: Option<Draw>) -> Charge {
        Charge {
            once,
            draws: vec![Draw {
                of: self.counter.name(b"mailbox\0", &[&mailbox]),
                allowance: allowance(self.limits.registration_burst, self.limits.registrations_per_day),
            }],
            from_strangers: None,
            may_grow: self.counter.has_room_for_strangers(),
        }
    }

    /// Counts a registration, once: repeats of its last request cause no further mail.
    pub(crate) async fn count_registration(
        &self,
        mailbox: Mailbox,
        registration: UserId,
        now: UnixSeconds,
    ) -> Result<Registering, NotCounted> {
        let once = Draw {
            of: self.counter.name(b"once\0\0\0\0", &[registration.as_bytes()]),
            // Twice as long as the request can be repeated, for clocks that are set back.
            allowance: Allowance {
                tokens: 1,
                window_seconds: 2 * LOGIN_SECONDS,
            },
        };
        let attempt = self.registration(mailbox, Some(once));
        let is_first = self.counter.count(attempt, now).await?;
        Ok(if is_first {
            Registering::First
        } else {
            Registering::Repeated
        })
    }

    /// Refused requests since the start of this node, for the metrics.
    pub(crate) fn refused(&self) -> u64 {
        self.counter.totals().refused
    }
}

impl fmt::Debug for Mails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mails").finish_non_exhaustive()
    }
}

/// A burst, and then so many a day.
fn allowance(burst: u32, per_day: u32) -> Allowance {
    Allowance {
        tokens: burst,
        window_seconds: DAY_SECONDS * u64::from(burst) / u64::from(per_day.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use synckit_protocol::limits::RESET_CODE_SECONDS;

    use super::*;

    /// Otherwise strangers could keep an owner from a reset: a code is valid for as long as no further one is sent.
    #[test]
    fn refused_reset_means_that_a_code_is_valid() {
        let limits = MailLimits::default();
        let allowance = allowance(limits.reset_burst, limits.resets_per_day);
        let mut left = allowance.left(None, 0);
        while allowance.wait(left, 0).is_none() {
            left = allowance.drawn(left);
        }
        assert_eq!(allowance.wait(left, 0), Some(RESET_CODE_SECONDS));
    }
}
