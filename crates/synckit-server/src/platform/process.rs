//! The resources of the process, as far as the system reports them: all on Linux, none elsewhere; and the number of
//! lost lines of its log.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// Lines of the log that were dropped. The log is the process's, so its figure is, too.
static LOST_LOG_LINES: AtomicU64 = AtomicU64::new(0);

/// Counts a line that the program could not log: its reader was too slow, or the write failed. `/metrics` shows the sum.
pub fn count_lost_log_line() {
    LOST_LOG_LINES.fetch_add(1, Ordering::Relaxed);
}

/// The lines that were dropped since the process started.
pub(crate) fn lost_log_lines() -> u64 {
    LOST_LOG_LINES.load(Ordering::Relaxed)
}

/// The resources of the process. Figures that the system does not report are absent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ProcessFigures {
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) open_fds: Option<u64>,
}

impl ProcessFigures {
    /// Reads `/proc/self`. Blocks for microseconds.
    #[cfg(target_os = "linux")]
    pub(crate) fn read() -> Self {
        let read = |name: &str| std::fs::read_to_string(Path::new("/proc/self").join(name)).ok();
        Self {
            cpu_seconds: read("stat").and_then(|stat| cpu_ticks(&stat)).map(|ticks| {
                let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
                ticks as f64 / ticks_per_second as f64
            }),
            resident_bytes: read("statm")
                .and_then(|statm| statm.split_whitespace().nth(1)?.parse::<u64>().ok())
                .map(|pages| pages * rustix::param::page_size() as u64),
            open_fds: std::fs::read_dir("/proc/self/fd")
                .ok()
                // Reading the directory takes a descriptor, too.
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn read() -> Self {
        Self::default()
    }
}

/// User and system time from `/proc/self/stat` (proc(5)), in ticks. The second field is the name of the program in
/// parentheses, which may hold anything, so counting begins after the last one.
#[cfg(target_os = "linux")]
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Free bytes for this user and all bytes of the disk that a path lies on.
#[cfg(unix)]
pub(crate) fn disk_of(path: &Path) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some((disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize))
}

#[cfg(not(unix))]
pub(crate) fn disk_of(_: &Path) -> Option<(u64, u64)> {
    None
}

/// Raises this process' limit of open descriptors to the system's maximum, and returns that number; `None` if it is
/// unlimited or not known.
#[cfg(unix)]
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if current != maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        return maximum;
    }
    current
}

#[cfg(not(unix))]
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    None
}

/// Whether the process or the system has no descriptors left.
pub(crate) fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let code = error.raw_os_error();
        code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn parentheses_in_a_name_do_not_shift_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu_ticks(stat), Some(42));
    }

    #[test]
    fn linux_tells_everything() {
        let figures = ProcessFigures::read();
        assert!(figures.cpu_seconds.is_some() && figures.resident_bytes > Some(0) && figures.open_fds > Some(0));
    }
}
