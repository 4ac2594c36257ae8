//! The SDK against a real server over real HTTP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account_data;
mod accounts;
#[path = "../../../../fuzz/src/answers.rs"]
mod answers;
mod blobs;
mod browser;
mod buckets;
mod configuration;
mod connections;
mod convergence;
mod corpus;
mod credential_files;
mod device_sign_in;
mod devices;
mod encryption;
mod gateways;
mod interference;
mod keychain;
#[path = "../../../synckit-server/tests/it/mail_server.rs"]
mod mail_server;
mod nginx;
mod outbox;
mod owner_keys;
mod parts;
mod pending_accounts;
mod plans;
mod processes;
mod product_page;
mod push_pull;
mod python;
mod rejoin;
mod rotation;
mod runtimes;
mod sessions;
mod snapshots;
mod subscribe;
mod tampering;
mod world;
