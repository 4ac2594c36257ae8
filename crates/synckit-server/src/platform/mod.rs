//! Everything that comes from the operating system or the process: time, randomness, process figures, panics.

mod clock;
mod panics;
mod process;
mod random;

pub use clock::Clock;
pub(crate) use panics::caught;
pub use panics::{PanicReport, report_panics};
pub use process::count_lost_log_line;
pub(crate) use process::{ProcessFigures, disk_of, lost_log_lines};
pub(crate) use random::{random_bytes, random_id};
