//! The store from outside: what [`synckit_store::Store`] promises, and what each engine adds.
//!
//! The conformance suite of `synckit_store::conformance` runs on SQLite in `sqlite`, on PostgreSQL in `postgres_server`.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests fail by panicking, like the tests"
)]

use synckit_store::conformance::{fixture, whole_account};

mod account_life;
mod conformance;
mod copies;
#[cfg(target_os = "linux")]
mod database;
mod durability;
mod group_commit;
#[cfg(target_os = "linux")]
mod inspection;
mod model;
#[cfg(target_os = "linux")]
mod nodes;
mod objects;
#[cfg(target_os = "linux")]
mod postgres;
#[cfg(target_os = "linux")]
mod postgres_server;
#[cfg(target_os = "linux")]
mod round_trips;
mod rules;
mod sqlite;
#[cfg(target_os = "linux")]
mod transfer;
