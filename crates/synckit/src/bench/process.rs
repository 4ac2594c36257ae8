//! What a process has used, as Linux accounts for it in `/proc`. Elsewhere nothing is measured, and the report says so.

use std::{fs, time::Duration};

use serde::Serialize;

/// What a process has used since it started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Time on a core, of its own and in the kernel for it.
    pub(super) cpu: Duration,
}

/// Resident memory in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) now: u64,
    pub(super) peak: u64,
}

/// The clock tick of `/proc`, which Linux fixes at a hundredth of a second for programs.
const TICKS_PER_SECOND: u64 = 100;

/// What a process has used; `None` where it cannot be known.
pub(super) fn usage(pid: u32) -> Option<Usage> {
    // The name of the program stands in parentheses and may hold anything, so fields are counted after the last one.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // proc(5): utime and stime are fields 14 and 15; what is left begins with field 3.
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Usage {
        cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
    })
}

/// The memory of a process; `None` where it cannot be known.
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

/// How much the client and the server grew at most while something ran.
#[derive(Debug, Clone, Copy, Serialize)]
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
            // proc(5): 5 resets the peak to what is resident now.
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
