//! The decisions of the protocol: pure functions of the stored rows and the request.
//!
//! A store reads rows, asks a rule, and writes rows. Each rule is written here once, for every engine. Nothing in this module
//! knows a database, a clock or a task.

pub mod accounts;
pub mod allowances;
pub mod device_grants;
pub mod devices;
pub mod envelopes;
pub mod log;
pub mod positions;
pub mod quotas;
pub mod retention;
pub mod sessions;
pub mod snapshots;
