//! Records: tables whose statements are written once and run on every engine.
//!
//! Accounts, apps, sessions, devices and codes are read and written a few times for each request or less. Their
//! statements are plain SQL of the dialect that SQLite and PostgreSQL share (numbered parameters `$1`, `ON CONFLICT`,
//! `RETURNING`, `IS DISTINCT FROM`), and run through the thin [`Executor`] of an engine. The hot path (append, page,
//! chain, snapshot parts, uploads) is not here: each engine has statements of its own for it. See
//! `docs/adr/0017-records-are-written-once.md`.
//!
//! Each function runs inside a transaction that it neither begins nor ends. It may read first and write accordingly,
//! because an engine runs it under serializable isolation.

mod executor;

pub mod accounts;
pub mod allowances;
pub mod apps;
pub mod blobs;
pub mod device_grants;
pub mod devices;
pub mod envelopes;
pub mod export;
pub mod pending_accounts;
pub mod plans;
pub mod sessions;
pub mod streams;
pub mod teams;
pub mod usage;

pub(crate) use executor::params;
pub use executor::{Column, EachRow, Executor, FromColumn, ImpossibleValue, Row, Value};
