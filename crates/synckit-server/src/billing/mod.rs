//! What a plan holds and costs. `docs/pricing.md` has the model.
//!
//! This module deliberately meters nothing and limits nothing yet: it is the arithmetic that an estimate shows.

pub mod plan;

pub use plan::{Burst, Gigabytes, MicroDollars, Plan, PlanError, Term};
