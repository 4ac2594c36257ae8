//! What stands on the wire, seen from outside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api_key;
mod cbor;
mod chain;
mod cursor;
mod encodings;
mod events;
mod name;
mod problems;
mod vault;
