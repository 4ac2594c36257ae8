//! The store from outside: what [`synckit_store::Store`] promises, and what the SQLite one adds.
//!
//! `conformance` is for every implementation and knows none. The other modules are about SQLite.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests fail by panicking, like the tests"
)]

mod account_life;
mod conformance;
mod durability;
mod fixture;
mod group_commit;
mod model;
#[cfg(target_os = "linux")]
mod postgres;
mod rules;
mod sqlite;
mod whole_account;
