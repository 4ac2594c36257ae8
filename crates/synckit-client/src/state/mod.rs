//! What a client holds in memory. Nothing here does I/O, reads a clock or waits.
//!
//! Invariant: each lock is private to the file of what it guards, and none is held when a method returns.

pub(crate) mod keys;
pub(crate) mod prefetch;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod stream;
pub(crate) mod uploads;
