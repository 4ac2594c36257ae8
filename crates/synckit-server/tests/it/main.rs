//! The server from outside: real HTTP on loopback, a real database, a real OPAQUE client.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod account_data;
mod accounts;
mod admin;
mod auth;
mod blobs;
mod config;
mod contract;
mod devices;
mod guesses;
mod keys;
mod life;
mod log;
mod logs;
mod metrics;
mod openapi;
mod overload;
mod owner_keys;
mod problems;
mod rates;
mod snapshots;
mod support;
mod tenant_matrix;
mod tenants;
mod tokens;
