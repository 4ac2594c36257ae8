//! The local-first layer: what a row of an app's SQLite file is in the log.
//!
//! [`rows`] is the convention of `docs/rows.md`: every value that SQLite can store, as an entry of the log holds it, and the
//! ids of rows. It is pure: no I/O, no clock, no randomness of its own. So another language can have the same, held to
//! the same vectors.

pub mod rows;
