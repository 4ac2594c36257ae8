//! The stream of one user: its state on this device, and the questions to the server about it.
//!
//! Each file uses those before it: `handle` holds the state, `stored` is what the credential store keeps of it,
//! `snapshot` and `log` open what the server shows, `envelope` has the keys' envelope and the one answer to a key that this
//! device does not hold, `chain` verifies where the log is, `common` finds where two histories were last the same.

pub(crate) mod chain;
pub(crate) mod common;
pub(crate) mod envelope;
pub(crate) mod handle;
pub(crate) mod log;
pub(crate) mod snapshot;
pub(crate) mod stored;
