//! Everything that comes from the operating system or the process: time, randomness, process figures, panics.

mod clock;
mod compute;
mod panics;
mod process;
mod random;

pub use clock::Clock;
pub(crate) use compute::compute;
pub(crate) use panics::caught;
pub use panics::{PanicReport, report_panics};
pub use process::count_lost_log_line;
pub(crate) use process::{ProcessFigures, disk_of, is_out_of_descriptors, lost_log_lines, raise_descriptor_limit};
pub(crate) use random::{random_bytes, random_id};
