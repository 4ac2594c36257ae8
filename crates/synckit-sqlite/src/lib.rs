//! The local-first layer: what a row of an app's SQLite file is in the log, and how rows of several devices merge.
//!
//! [`rows`] is the convention of `docs/rows.md`: every value that SQLite can store, as an entry of the log holds it, and the
//! ids of rows. [`merge`] puts what a device has not sent yet onto what the log has. Both are pure: no I/O, no clock, no
//! randomness of their own.
//!
//! This crate deliberately opens no database: images of rows come in, and steps to take come out.

pub mod merge;
pub mod rows;
