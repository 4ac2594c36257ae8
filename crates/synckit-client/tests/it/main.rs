//! The SDK against a real server over real HTTP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account_data;
mod blobs;
mod configuration;
mod convergence;
mod devices;
mod encryption;
mod gateways;
mod interference;
mod keychain;
mod owner_keys;
mod processes;
mod product_page;
mod push_pull;
mod python;
mod rejoin;
mod rotation;
mod runtimes;
mod sessions;
mod snapshots;
mod tampering;
mod world;
