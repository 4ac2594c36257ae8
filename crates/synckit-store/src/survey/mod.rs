//! What an operator's check reads from a database of either engine: its facts, its logs, and its objects.
//!
//! Nothing here writes, begins a transaction, or knows an engine: the caller opens a transaction for each step.

mod facts;
mod logs;
mod objects;

pub use self::{
    facts::DatabaseFacts,
    logs::{DamagedLog, LogDamage, LogSurvey},
    objects::{ObjectExtent, ObjectSurvey},
};
pub(crate) use self::{facts::read as facts, logs::LogWalk, objects::ObjectWalk};
