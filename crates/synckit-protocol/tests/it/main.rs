//! What stands on the wire, seen from outside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chain;
mod cursor;
mod encodings;
mod problems;
