//! Tests of the login protocol from outside: both sides, and the vectors that other implementations must match.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod exchange;
mod rfc9807;
mod rng;
mod vectors;
