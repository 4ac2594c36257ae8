//! The simulator's runs and attacks, as tests.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
#[cfg(target_os = "linux")]
mod canaries;
#[cfg(target_os = "linux")]
mod drills;
mod runs;
mod strangers;
mod world;
