//! What the protocol decides: pure functions of what is stored and what is asked.
//!
//! A store reads rows, asks a rule, and writes rows. Each rule stands here once, for every engine. Nothing in this module
//! knows a database, a clock or a task.

pub mod accounts;
pub mod devices;
pub mod envelopes;
pub mod log;
pub mod positions;
pub mod quotas;
pub mod retention;
pub mod sessions;
pub mod snapshots;
