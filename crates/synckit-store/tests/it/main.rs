//! The store from outside: what [`synckit_store::Store`] promises, and what the SQLite one adds.
//!
//! The conformance suite of `synckit_store::conformance` runs on SQLite in `sqlite`.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests fail by panicking, like the tests"
)]

use synckit_store::conformance::{fixture, whole_account};

mod account_life;
mod conformance;
mod copies;
mod durability;
mod group_commit;
mod model;
#[cfg(target_os = "linux")]
mod postgres;
mod rules;
mod sqlite;
