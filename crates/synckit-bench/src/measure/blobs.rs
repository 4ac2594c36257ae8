//! A random file up and down, encryption included.

use std::{
    array,
    io::{BufWriter, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use synckit_protocol::limits;

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
    let size = args.blob_mb * 1_000_000;
    write_random_file(&original, size, args.load.seed)?;

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
    let mut rows = vec![
        speed("blob_up", "up", up),
        memory("blob_up_client_memory", "client", up_client),
        memory("blob_up_server_memory", "server", up_server),
        speed("blob_down", "down", down),
        memory("blob_down_client_memory", "client", down_client),
        memory("blob_down_server_memory", "server", down_server),
    ];
    if args.blob_rounds > 0 {
        rows.extend(whole_and_in_parts(args, directory, machine, push).await?);
    }
    Ok(rows)
}

/// The largest file that goes as a whole, and one with a byte more, which goes in parts: in turns, each round with another
/// file.
async fn whole_and_in_parts(
    args: &MeasureArgs,
    directory: &Path,
    machine: &Machine,
    push: &Client,
) -> anyhow::Result<[Row; 2]> {
    let file = directory.join("round");
    let whole = limits::UPLOAD_WHOLE_BYTES_MAX - limits::SEAL_OVERHEAD_BYTES as u64;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..args.blob_rounds {
        let mut turns = [(whole, 0), (whole + 1, 1)];
        if round % 2 == 1 {
            turns.reverse();
        }
        for (size, way) in turns {
            write_random_file(&file, size, args.load.seed.wrapping_add(1 + u64::from(round)))?;
            let started = Instant::now();
            push.client.blob_put(file.as_path(), |_| {}).await?;
            times[way].push(started.elapsed());
        }
    }
    std::fs::remove_file(file)?;
    let names = [
        ("blob_up_whole", "a file of 64 MiB, up as a whole"),
        ("blob_up_in_parts", "    and a byte, up in parts"),
    ];
    Ok(array::from_fn(|way| {
        times[way].sort_unstable();
        let median = times[way][times[way].len() / 2];
        let value = whole as f64 / 1e6 / median.as_secs_f64();
        let (id, name) = names[way];
        Row::new(id, name, Unit::MegabytesPerSecond, value).beside("sealing", machine.seal_mb_per_second)
    }))
}

/// Writes a file of random bytes, in pieces, so that this process does not grow by it.
fn write_random_file(path: &Path, size: u64, seed: u64) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let mut piece = vec![0; 1_000_000];
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        random.fill_bytes(&mut piece[..length]);
        file.write_all(&piece[..length])?;
        left -= length as u64;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}
