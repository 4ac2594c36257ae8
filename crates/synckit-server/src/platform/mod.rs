//! Everything that comes from the operating system or the process: time, randomness, process figures, panics.

mod clock;
mod panics;
mod process;
mod random;

pub use clock::Clock;
pub(crate) use panics::caught;
pub use panics::log_panics;
pub(crate) use process::{ProcessFigures, disk_of};
pub(crate) use random::{random_bytes, random_id};
