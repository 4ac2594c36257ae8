//! What a plan holds and costs, and what an app leaves to each of its users. `docs/pricing.md` has the model.
//!
//! This module deliberately meters nothing and limits nothing: it is the arithmetic.

pub mod plan;
mod user_limit;

pub use plan::{Burst, Gigabytes, MicroDollars, Plan, PlanError, Term};
pub use user_limit::{Megabytes, UserLimit};
