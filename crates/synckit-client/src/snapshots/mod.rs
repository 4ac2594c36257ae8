//! Snapshots: the folded state of a stream, in place of the edits that led to it.
//!
//! What this module deliberately is not: it does not check that the device folded correctly. A snapshot is sealed by a
//! device that holds the master key, and such a device is trusted with the rows as it is with its own edits; what is
//! checked is that the server changed nothing of it, and that it belongs to its place in the history.
//!
//! Invariant: no row of a snapshot reaches the app before its manifest and its whole part were verified.

pub(crate) mod fold;
mod history;
pub(crate) mod read;
