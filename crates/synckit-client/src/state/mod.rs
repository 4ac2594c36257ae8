//! The state of a client in memory. No I/O, no clock, no waiting.
//!
//! Invariant: a lock is private to the file of the state that it guards, and is released before a method returns.

pub(crate) mod keys;
pub(crate) mod line;
pub(crate) mod news;
pub(crate) mod pending;
pub(crate) mod prefetch;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod stream;
pub(crate) mod uploads;
