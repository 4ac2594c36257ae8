//! What this device knows of the stream's history. Nothing here does I/O.

pub(crate) mod ledger;
pub(crate) mod walk;
