//! What this device knows of the stream's history. No I/O.

pub(crate) mod ledger;
pub(crate) mod walk;
