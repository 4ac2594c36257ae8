//! The log and the metrics.

mod logs;
mod metrics;
