//! Limits of sign-ins of machines without a browser: how many are asked for, and how many wrong codes are typed.
//!
//! A code has 34 bits and lives ten minutes (RFC 8628, section 5.1). With all 100,000 sign-ins waiting that a server keeps, one guess
//! finds one with a chance of 1 in 256,000. Only people who are signed in can guess. Wrong codes are counted by account, because
//! further sessions of it must give no further guesses, and by network address, because anybody can have many accounts.
//!
//! A code that was found is given back: who signs in many machines guesses nothing.

use std::{fmt, sync::Arc};

use synckit_protocol::{
    UserId,
    limits::{
        DEVICE_GRANT_SECONDS, DEVICE_GUESSES_PER_ACCOUNT_MAX, DEVICE_GUESSES_PER_ADDRESS_MAX,
        DEVICE_STARTS_PER_ADDRESS_MAX,
    },
    wire::UnixSeconds,
};
use synckit_store::{Allowance, Charge, Draw, Store, StoreError};

use super::{
    disk_reserve::DiskReserve,
    guesses::{AddressPrefix, Counter, NotCounted},
};
use crate::startup::MacKey;

/// The limits of sign-ins of machines. The store counts, for every node.
pub(crate) struct DeviceCodes {
    store: Arc<dyn Store>,
    counter: Counter,
}

/// A guess that was counted.
pub(crate) struct Guess(Charge);

impl DeviceCodes {
    pub(crate) fn new(store: Arc<dyn Store>, key: MacKey, disk: Option<Arc<DiskReserve>>) -> Self {
        Self {
            counter: Counter::new(Arc::clone(&store), key, disk),
            store,
        }
    }

    /// Counts a sign-in that a machine asks for.
    pub(crate) async fn count_start(&self, address: AddressPrefix, now: UnixSeconds) -> Result<(), NotCounted> {
        let start = Charge {
            once: None,
            draws: vec![self.draw(b"devstart", &address.bytes(), DEVICE_STARTS_PER_ADDRESS_MAX)],
            from_strangers: None,
            may_grow: self.counter.has_room_for_strangers(),
        };
        self.counter.count(start, now).await.map(|_| ())
    }

    /// Counts a code that somebody typed.
    pub(crate) async fn count_guess(
        &self,
        user_id: UserId,
        address: AddressPrefix,
        now: UnixSeconds,
    ) -> Result<Guess, NotCounted> {
        let guess = Charge {
            once: None,
            draws: vec![
                self.draw(b"devuser\0", user_id.as_bytes(), DEVICE_GUESSES_PER_ACCOUNT_MAX),
                self.draw(b"devaddr\0", &address.bytes(), DEVICE_GUESSES_PER_ADDRESS_MAX),
            ],
            from_strangers: None,
            may_grow: true,
        };
        self.counter.count(guess.clone(), now).await?;
        Ok(Guess(guess))
    }

    /// Gives a guess back that was none.
    pub(crate) async fn give_back(&self, Guess(guess): Guess, now: UnixSeconds) -> Result<(), StoreError> {
        self.store.give_back(guess, now).await
    }

    fn draw(&self, kind: &[u8; 8], of: &[u8; 16], tokens: u32) -> Draw {
        Draw {
            of: self.counter.name(kind, &[of]),
            allowance: Allowance {
                tokens,
                window_seconds: DEVICE_GRANT_SECONDS,
            },
        }
    }
}

impl fmt::Debug for DeviceCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCodes").finish_non_exhaustive()
    }
}
