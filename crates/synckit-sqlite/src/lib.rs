//! The local-first layer: what a row of an app's SQLite file is in the log, and how rows of several devices merge.
//!
//! [`rows`] is the convention of `docs/rows.md`: every value that SQLite can store, as an entry of the log holds it, and the
//! ids of rows. [`merge`] puts what a device has not sent yet onto what the log has. Both are pure: no I/O, no clock, no
//! randomness of their own.
//!
//! [`inspect`] looks at an app's database and tells what can be synced, and what the app must declare: [`track`]. It reads a
//! connection of the app and writes nothing. The merge deliberately knows no database: images of rows come in, and steps
//! to take come out.

pub mod inspect;
pub mod merge;
pub mod rows;
pub mod track;
