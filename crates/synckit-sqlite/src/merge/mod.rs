//! The merge: what this device edited, onto what the log has, as a pure function of both.
//!
//! A device reads the log to its head ([`State::read`]), merges what is unsent onto it ([`State::settle`]), brings its tables
//! to what came out ([`State::view`], [`plan`]), and pushes strictly on top ([`State::freeze`]). If another device was faster, it does
//! all of it again. A local edit ([`State::capture`]) can give a waiting row its place, so tables are brought to the state after
//! it as well. Only the device that pushes decides a conflict, and all others read plain rows.
//!
//! Invariants, which `tests/it/model` checks in every world of a small model, and which fail without any one of the
//! [`Rule`]s: devices that have read the same log and have nothing unsent have the same tables; every edit is in the
//! tables, or was replaced by somebody who saw it, or is in [`State::conflicts`]; all is quiet after two rounds.
//!
//! This module does no I/O and reads no clock. It knows no integer keys: rows and references carry row ids.

mod capture;
mod columns;
mod foreign;
mod ledger;
mod log;
mod outbox;
mod plan;
mod recognize;
mod rejoin;
mod rules;
mod schema;
mod settle;
mod state;
mod unique;
mod view;

pub use capture::{DELETIONS_MIN, DELETIONS_ONE_IN, Found, Held, is_mass_deletion};
pub use ledger::Ledger;
pub use log::{Batch, Image};
pub use plan::{Step, plan};
pub use rules::{Rule, Rules};
pub use schema::{Column, ColumnMerge, OnDelete, Reference, Schema, Table, Unique, UniqueValues, ValuesOf};
pub use state::{Base, Conflict, Folded, Key, Outbox, State, Unsent};
pub use view::{Parked, View};
