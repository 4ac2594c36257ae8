//! Background jobs: deleting unneeded log entries and snapshots, the remains of deleted accounts, and unused objects; ending
//! the event streams of ended sessions; news of other nodes; the use of apps.
//!
//! Invariant: a job that fails, or panics, runs again at the next interval and ends no other job.

mod background;
mod ended_sessions;
mod metering;
mod other_nodes;
mod retention;
mod sweep;

use background::repeat_until_stopped;
pub(crate) use ended_sessions::end_event_streams_until_stopped;
pub(crate) use metering::meter_until_stopped;
pub(crate) use other_nodes::{hear_other_nodes_until_stopped, tell_other_nodes_until_stopped};
pub(crate) use retention::{pause_after, retain_until_stopped, step as retention_step};
pub(crate) use sweep::sweep_until_stopped;
