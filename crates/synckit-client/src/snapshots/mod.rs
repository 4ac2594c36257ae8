//! Snapshots: the folded state of a stream, in place of the edits that led to it.
//!
//! This module deliberately does not check that the device folded correctly. A device that holds the master key seals
//! the snapshot, and is trusted with the rows as with its own edits. The check is that the server changed nothing in
//! the snapshot, and that the snapshot belongs to its place in the history.
//!
//! Invariant: no row of a snapshot reaches the app before its manifest and its whole part were verified.

pub(crate) mod fold;
mod history;
pub(crate) mod read;
