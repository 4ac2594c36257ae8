//! What the bench found.

use serde::Serialize;

use super::{machine::Machine, process::MemoryGrowth};
use crate::{screen, units};

/// The whole report, as `--json` prints it. `null` stands for what this system does not tell.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) debug_build: bool,
    pub(super) machine: Machine,
    pub(super) rows: Rows,
    pub(super) blobs: Option<Blobs>,
}

/// One user pushes, a second device pulls.
#[derive(Debug, Serialize)]
pub(super) struct Rows {
    pub(super) records: u64,
    /// Row data as JSON, without row id, table, time and operation.
    pub(super) row_bytes_per_record: f64,
    pub(super) push: Transfer,
    pub(super) pull: Transfer,
    pub(super) server_peak_memory_bytes: Option<u64>,
    /// Growth of the data directory, after the server was stopped.
    pub(super) disk_bytes_per_record: f64,
}

/// Records in one direction, through the SDK, encryption included.
#[derive(Debug, Serialize)]
pub(super) struct Transfer {
    pub(super) seconds: f64,
    pub(super) records_per_second: f64,
    pub(super) server_cpu_us_per_record: Option<f64>,
    /// HTTP heads and bodies in this direction; TCP and IP are not counted.
    pub(super) wire_bytes_per_record: f64,
}

/// A random file up and down, encryption included.
#[derive(Debug, Serialize)]
pub(super) struct Blobs {
    pub(super) bytes: u64,
    pub(super) up_mb_per_second: f64,
    pub(super) down_mb_per_second: f64,
    pub(super) up_growth: MemoryGrowth,
    pub(super) down_growth: MemoryGrowth,
}

impl Report {
    /// As a table, for people.
    pub(super) fn print(&self) {
        let Self { machine, rows, .. } = self;
        let mut lines = vec![
            [
                "push through the SDK, one user".to_owned(),
                format!("{} records/s", whole(rows.push.records_per_second)),
            ],
            [
                "pull through the SDK, second device".to_owned(),
                format!("{} records/s", whole(rows.pull.records_per_second)),
            ],
            ["server CPU, push".to_owned(), cpu(rows.push.server_cpu_us_per_record)],
            ["server CPU, pull".to_owned(), cpu(rows.pull.server_cpu_us_per_record)],
            ["server memory, peak".to_owned(), memory(rows.server_peak_memory_bytes)],
            [
                "on disk".to_owned(),
                format!("{:.1} B/record", rows.disk_bytes_per_record),
            ],
            [
                "on the wire, up".to_owned(),
                format!("{:.1} B/record", rows.push.wire_bytes_per_record),
            ],
            [
                "on the wire, down".to_owned(),
                format!("{:.1} B/record", rows.pull.wire_bytes_per_record),
            ],
        ];
        if let Some(blobs) = &self.blobs {
            let growth = |growth: MemoryGrowth| {
                format!(
                    "client {}, server {}",
                    memory(growth.client_bytes),
                    memory(growth.server_bytes)
                )
            };
            let size = units::bytes(blobs.bytes);
            lines.push([
                format!("a blob of {size}, up"),
                format!("{} MB/s", whole(blobs.up_mb_per_second)),
            ]);
            lines.push(["    memory grew by".to_owned(), growth(blobs.up_growth)]);
            lines.push([
                format!("a blob of {size}, down"),
                format!("{} MB/s", whole(blobs.down_mb_per_second)),
            ]);
            lines.push(["    memory grew by".to_owned(), growth(blobs.down_growth)]);
        }
        let appends = whole(machine.synced_appends_per_second);
        lines.push([
            "this machine: appends of 120 kB, each synced".to_owned(),
            format!("{appends} /s"),
        ]);
        lines.push([
            "this machine: XChaCha20-Poly1305, one core".to_owned(),
            format!("{} MB/s", whole(machine.seal_mb_per_second)),
        ]);
        lines.push([
            "this machine: SHA-256, one core".to_owned(),
            format!("{} MB/s", whole(machine.sha256_mb_per_second)),
        ]);
        let head = format!(
            "{} of {:.0} B, {}",
            units::counted(rows.records, "record"),
            rows.row_bytes_per_record,
            units::counted(machine.cores as u64, "core")
        );
        let lines: Vec<Vec<String>> = lines.into_iter().map(Vec::from).collect();
        screen::table(&[&head, "figure"], &lines, &[1]);
    }
}

fn whole(number: f64) -> String {
    units::count(number.round() as u64)
}

fn cpu(microseconds: Option<f64>) -> String {
    microseconds.map_or_else(|| "not measured here".to_owned(), |cpu| format!("{cpu:.2} µs/record"))
}

fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(
        || "not measured here".to_owned(),
        |bytes| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    )
}
