//! Rows in the log and their merge, from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod compaction;
mod inspect;
mod merge;
mod model;
mod properties;
mod refused;
mod schemas;
mod sync;
mod vectors;
