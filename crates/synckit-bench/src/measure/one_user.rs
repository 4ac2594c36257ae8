//! One user pushes records through the SDK, a second device pulls them.

use std::time::{Duration, Instant};

use anyhow::ensure;
use synckit_client::Cursor;

use super::{
    account::Client,
    bar,
    figures::{Row, Unit, per},
    machine::Machine,
    records::{self, Records},
    server::ServerProcess,
};
use crate::cli::MeasureArgs;

/// Records that are made and pushed at a time; the SDK makes batches of 500 of them.
const RECORDS_AT_ONCE: u64 = 25_000;
/// Records of a full batch.
const BATCH_RECORDS: f64 = 500.0;

pub(super) async fn measure(
    args: &MeasureArgs,
    machine: &Machine,
    server: &mut ServerProcess,
    push: &Client,
    pull: &Client,
) -> anyhow::Result<Vec<Row>> {
    let empty_bytes = server.restart_and_measure().await?;
    let up = push_all(args, server, push).await?;
    let down = pull_all(args.records, server, pull).await?;
    let peak_memory = server.memory().map(|memory| memory.peak as f64);
    let disk_bytes = server.restart_and_measure().await?.saturating_sub(empty_bytes);
    let disk = per(disk_bytes as f64, args.records);
    Ok(vec![
        Row::new(
            "push",
            "push through the SDK, one user",
            Unit::RecordsPerSecond,
            up.records_per_second(),
        )
        .at_least(250_000.0)
        .beside("synced appends", machine.synced_appends_per_second * BATCH_RECORDS)
        .beside("sealing", machine.sealed_records(up.wire_bytes))
        .beside("loopback", machine.carried_records(up.wire_bytes)),
        Row::new(
            "pull",
            "pull through the SDK, second device",
            Unit::RecordsPerSecond,
            down.records_per_second(),
        )
        .at_least(600_000.0)
        .beside("opening seals", machine.sealed_records(down.wire_bytes))
        .beside("loopback", machine.carried_records(down.wire_bytes)),
        Row::new(
            "push_cpu",
            "server CPU, push",
            Unit::MicrosecondsPerRecord,
            up.server_cpu,
        )
        .at_most(1.0),
        Row::new(
            "pull_cpu",
            "server CPU, pull",
            Unit::MicrosecondsPerRecord,
            down.server_cpu,
        )
        .at_most(0.3),
        Row::new("disk", "on disk", Unit::BytesPerRecord, disk).at_most(260.0),
        Row::new("wire_up", "on the wire, up", Unit::BytesPerRecord, up.wire_bytes).at_most(270.0),
        Row::new("wire_down", "on the wire, down", Unit::BytesPerRecord, down.wire_bytes).at_most(270.0),
        Row::new(
            "row_data",
            "row data of a record as JSON",
            Unit::BytesPerRecord,
            up.row_bytes,
        ),
        Row::new(
            "memory",
            "server memory, peak of push and pull",
            Unit::Bytes,
            peak_memory,
        )
        .at_most(60.0 * f64::from(1 << 20)),
    ])
}

/// Pushes all records without measuring, for later measurements.
pub(super) async fn fill(args: &MeasureArgs, push: &Client) -> anyhow::Result<()> {
    let mut records = Records::new(args.load.seed, args.load.record_bytes);
    let mut left = args.records;
    while left > 0 {
        let count = RECORDS_AT_ONCE.min(left);
        push.client.push(push.id, records.take(count)).await?;
        left -= count;
    }
    Ok(())
}

/// Records in one direction, through the SDK, encryption included.
struct Transfer {
    records: u64,
    elapsed: Duration,
    /// Microseconds a record.
    server_cpu: Option<f64>,
    /// HTTP heads and bodies in this direction, a record; TCP and IP are not counted.
    wire_bytes: f64,
    /// Row data as JSON, a record; without row id, table, time and operation.
    row_bytes: f64,
}

impl Transfer {
    fn records_per_second(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }
}

async fn push_all(args: &MeasureArgs, server: &ServerProcess, push: &Client) -> anyhow::Result<Transfer> {
    let mut records = Records::new(args.load.seed, args.load.record_bytes);
    let bar = bar("push", args.records);
    let (mut elapsed, mut row_bytes, mut pushed) = (Duration::ZERO, 0, 0);
    let usage = server.usage();
    let sent = push.wire.sent();
    while pushed < args.records {
        let batch = records.take(RECORDS_AT_ONCE.min(args.records - pushed));
        row_bytes += records::data_bytes(&batch);
        let count = batch.len() as u64;
        pushed += count;
        let started = Instant::now();
        push.client.push(push.id, batch).await?;
        elapsed += started.elapsed();
        bar.inc(count);
    }
    bar.finish_and_clear();
    Ok(Transfer {
        records: pushed,
        elapsed,
        server_cpu: server.cpu_since(&usage).map(|cpu| per(cpu.as_secs_f64() * 1e6, pushed)),
        wire_bytes: per((push.wire.sent() - sent) as f64, pushed),
        row_bytes: per(row_bytes as f64, pushed),
    })
}

async fn pull_all(records: u64, server: &ServerProcess, pull: &Client) -> anyhow::Result<Transfer> {
    let progress = bar("pull", records);
    let usage = server.usage();
    let received = pull.wire.received();
    let (mut cursor, mut pulled) = (Cursor::START, 0);
    let started = Instant::now();
    loop {
        let (changes, next, has_more) = pull.client.pull(pull.id, cursor).await?;
        cursor = next;
        pulled += changes.len() as u64;
        progress.inc(changes.len() as u64);
        if !has_more {
            break;
        }
    }
    let elapsed = started.elapsed();
    progress.finish_and_clear();
    ensure!(
        pulled == records,
        "{pulled} records came back of {records} that were pushed"
    );
    Ok(Transfer {
        records,
        elapsed,
        server_cpu: server
            .cpu_since(&usage)
            .map(|cpu| per(cpu.as_secs_f64() * 1e6, records)),
        wire_bytes: per((pull.wire.received() - received) as f64, records),
        row_bytes: 0.0,
    })
}
