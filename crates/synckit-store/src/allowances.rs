//! Allowances that every node of a server draws on: guesses at passwords, and mails.

use synckit_protocol::{UserId, wire::UnixSeconds};

pub use crate::rules::allowances::Allowance;

/// Names an allowance, or an address, by a keyed hash, so that the database tells of nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountedKey(pub [u8; 16]);

/// One token of an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Which allowance.
    pub of: CountedKey,
    /// How large it is.
    pub allowance: Allowance,
}

/// A place that an account is used from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The account. One that does not exist is used from nowhere.
    pub user_id: UserId,
    /// The network address.
    pub address: CountedKey,
}

/// Something that is counted before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Counts once: while this one has no token left, the attempt is a repeated one, and draws on nothing.
    pub once: Option<Draw>,
    /// One token of each, or of none: a refused attempt costs nothing, so that a client that keeps trying is let in at the
    /// same rate.
    pub draws: Vec<Draw>,
    /// Drawn on as well, unless the place is familiar to its account.
    pub from_strangers: Option<(Draw, Place)>,
    /// Whether it may make rows wherever it comes from. Else only one from a familiar place may, and every other that needs a new
    /// row is [`StoreError::Full`](crate::StoreError::Full): strangers must not use up the last of a disk.
    pub may_grow: bool,
}

/// The answer of [`crate::Store::count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// The tokens were drawn.
    First,
    /// It was counted before.
    Repeated,
    /// An allowance is used up.
    Refused {
        /// Seconds until all have a token.
        wait_seconds: UnixSeconds,
    },
}
