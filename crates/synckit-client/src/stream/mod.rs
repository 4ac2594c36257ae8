//! The stream of one user: its state on this device, and its requests to the server.
//!
//! Each file uses those before it: `handle` holds the state, `stored` its records in the credential store; `snapshot`
//! and `log` open the server's data; `envelope` has the key envelope, and the only treatment of a key that this device
//! does not hold; `chain` verifies positions of the log; `common` finds the newest common position of two histories.

pub(crate) mod chain;
pub(crate) mod common;
pub(crate) mod envelope;
pub(crate) mod handle;
pub(crate) mod log;
pub(crate) mod snapshot;
pub(crate) mod stored;
