//! Rows in the log, from outside.

mod properties;
mod refused;
mod vectors;
