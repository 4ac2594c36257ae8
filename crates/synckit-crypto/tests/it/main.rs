//! Tests of the cryptography from outside, and the vectors that other implementations must match.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batch;
mod blob;
mod canonical;
mod corpus;
mod envelope;
mod fixtures;
mod padding;
mod properties;
mod recovery_code;
mod ring;
#[path = "../../../synckit-login/tests/it/rng.rs"]
mod rng;
mod snapshot;
#[path = "../../../../fuzz/src/targets.rs"]
mod targets;
mod threads;
mod vault;
mod vectors;
