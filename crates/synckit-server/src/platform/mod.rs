//! Everything that comes from the operating system, the process or the runtime: time, randomness, process figures, panics,
//! work that outlives its request.

mod clock;
mod compute;
mod panics;
mod process;
mod random;
mod to_the_end;

pub use clock::Clock;
pub(crate) use compute::compute;
pub(crate) use panics::caught;
pub use panics::{PanicReport, report_panics};
pub use process::count_lost_log_line;
pub(crate) use process::{ProcessFigures, disk_of, is_out_of_descriptors, lost_log_lines, raise_descriptor_limit};
pub(crate) use random::{random_bytes, random_id};
pub(crate) use to_the_end::ToTheEnd;
