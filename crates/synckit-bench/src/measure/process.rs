//! The resources of a process, from Linux's accounting in `/proc`. On other systems nothing is measured, and the report
//! says so.

use std::{collections::BTreeMap, fs, time::Duration};

/// The processor time of each thread of a process since its start, in nanoseconds, in user and kernel mode.
///
/// By thread, because Linux counts nanoseconds for threads, but only hundredths of a second for the whole process,
/// which is as much as some measurements take altogether.
#[derive(Debug, Clone)]
pub(super) struct Usage(BTreeMap<u32, u64>);

impl Usage {
    /// The time used since `earlier`. A thread that ended in between is not counted; the server's threads rest for ten
    /// seconds before they end.
    pub(super) fn since(&self, earlier: &Self) -> Duration {
        let used = self.0.iter().map(|(thread, now)| {
            let before = earlier.0.get(thread).copied().unwrap_or(0);
            now.saturating_sub(before)
        });
        Duration::from_nanos(used.sum())
    }

    /// The time of both.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// Resident memory in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) now: u64,
    pub(super) peak: u64,
}

/// The resources of a process; `None` if unknown.
pub(super) fn usage(pid: u32) -> Option<Usage> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let entry = entry.ok()?;
        let thread = entry.file_name().to_str()?.parse().ok()?;
        // A thread may end while they are listed. The first field is the time on a core, in nanoseconds (Linux,
        // Documentation/scheduler/sched-stats.rst).
        if let Ok(stat) = fs::read_to_string(entry.path().join("schedstat")) {
            threads.insert(thread, stat.split_whitespace().next()?.parse().ok()?);
        }
    }
    (!threads.is_empty()).then_some(Usage(threads))
}

/// The resources of every process of a program.
pub(super) fn usage_of_program(name: &str) -> Usage {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_named = fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        let pid = entry.file_name().to_str().and_then(|pid| pid.parse().ok());
        if let (true, Some(pid)) = (is_named, pid) {
            threads.extend(usage(pid).into_iter().flat_map(|usage| usage.0));
        }
    }
    Usage(threads)
}

/// The memory of a process; `None` if unknown.
pub(super) fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':')
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    };
    Some(Memory {
        now: field("VmRSS")?,
        peak: field("VmHWM")?,
    })
}

/// The maximum growth of the client and the server during an action.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryGrowth {
    /// Of this process, in bytes.
    pub(super) client_bytes: Option<u64>,
    /// Of the server's, in bytes.
    pub(super) server_bytes: Option<u64>,
}

/// Watches both processes.
#[derive(Debug)]
pub(super) struct Growth {
    server: u32,
    before: [Option<Memory>; 2],
}

impl Growth {
    /// Begins to watch: peaks count from here.
    pub(super) fn begin(server: u32) -> Self {
        let before = [std::process::id(), server].map(|pid| {
            // proc(5): writing 5 resets the peak to the present size.
            fs::write(format!("/proc/{pid}/clear_refs"), "5").ok()?;
            memory(pid)
        });
        Self { server, before }
    }

    /// How far the peaks lie above the beginning.
    pub(super) fn end(self) -> MemoryGrowth {
        let growth = |pid: u32, before: Option<Memory>| Some(memory(pid)?.peak.saturating_sub(before?.now));
        let [client, server] = self.before;
        MemoryGrowth {
            client_bytes: growth(std::process::id(), client),
            server_bytes: growth(self.server, server),
        }
    }
}
