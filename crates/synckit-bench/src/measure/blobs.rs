//! A random file up and down, encryption included.

use std::{
    io::{BufWriter, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};

use super::{
    account::Client,
    bar,
    figures::{Row, Unit},
    machine::Machine,
    process::{Growth, MemoryGrowth},
    server::ServerProcess,
};
use crate::cli::MeasureArgs;

const GROWTH_TARGET: f64 = 32.0 * 1024.0 * 1024.0;

pub(super) async fn measure(
    args: &MeasureArgs,
    directory: &Path,
    machine: &Machine,
    server: &ServerProcess,
    push: &Client,
    pull: &Client,
) -> anyhow::Result<Vec<Row>> {
    let (original, copy) = (directory.join("original"), directory.join("copy"));
    write_random_file(&original, args.blob_mb, args.load.seed)?;
    let size = args.blob_mb * 1_000_000;

    let progress = bar("upload", size);
    let watch = Growth::begin(server.pid());
    let started = Instant::now();
    let hash = push
        .client
        .blob_put(original.as_path(), |at| progress.set_position(at.done_bytes))
        .await?;
    let up = started.elapsed();
    let up_growth = watch.end();
    progress.finish_and_clear();

    let progress = bar("download", size);
    let watch = Growth::begin(server.pid());
    let started = Instant::now();
    pull.client
        .blob_get(&hash, copy.as_path(), |at| progress.set_position(at.done_bytes))
        .await?;
    let down = started.elapsed();
    let down_growth = watch.end();
    progress.finish_and_clear();
    std::fs::remove_file(original)?;
    std::fs::remove_file(copy)?;

    let speed = |id, direction: &str, elapsed: Duration| {
        let value = args.blob_mb as f64 / elapsed.as_secs_f64();
        Row::new(
            id,
            format!("a blob of {} MB, {direction}", args.blob_mb),
            Unit::MegabytesPerSecond,
            value,
        )
        .at_least(400.0)
        .beside("sealing", machine.seal_mb_per_second)
        .beside("loopback", machine.loopback_mb_per_second)
    };
    let memory = |id, who: &str, bytes: Option<u64>| {
        Row::new(
            id,
            format!("    {who} memory grew by"),
            Unit::Bytes,
            bytes.map(|bytes| bytes as f64),
        )
        .at_most(GROWTH_TARGET)
    };
    let MemoryGrowth {
        client_bytes: up_client,
        server_bytes: up_server,
    } = up_growth;
    let MemoryGrowth {
        client_bytes: down_client,
        server_bytes: down_server,
    } = down_growth;
    Ok(vec![
        speed("blob_up", "up", up),
        memory("blob_up_client_memory", "client", up_client),
        memory("blob_up_server_memory", "server", up_server),
        speed("blob_down", "down", down),
        memory("blob_down_client_memory", "client", down_client),
        memory("blob_down_server_memory", "server", down_server),
    ])
}

/// Writes a file of random bytes, in pieces, so that this process does not grow by it.
fn write_random_file(path: &Path, megabytes: u64, seed: u64) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let mut piece = vec![0; 1_000_000];
    for _ in 0..megabytes {
        random.fill_bytes(&mut piece);
        file.write_all(&piece)?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}
