//! The cost of a connection that sent one request and then rests.

use std::fs;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    bar,
    figures::{Row, Unit, per, with_separators},
    server::ServerProcess,
};
use crate::cli::MeasureArgs;

/// Descriptors that both processes need beside the connections.
const OTHER_FILES: u64 = 200;
/// Connections that are opened first, so that the server allocates its one-time resources.
const WARMING: u64 = 8;
/// Connections that are opened at once: fewer than any listener's queue.
const OPENED_AT_ONCE: usize = 64;

pub(super) async fn measure(args: &MeasureArgs, server: &mut ServerProcess) -> anyhow::Result<Vec<Row>> {
    let memory = memory_of(args, server, "connections", 1, async |address| ask_once(&address).await).await?;
    let name = format!("server memory of {} idle connections{}", memory.count, memory.fewer);
    Ok(vec![
        Row::new("idle_connection", name, Unit::BytesPerConnection, memory.bytes_each).at_most(12.0 * 1000.0),
    ])
}

/// The memory of the server for connections of a kind.
#[derive(Debug)]
pub(super) struct MemoryOfIdle {
    /// Their number, as text.
    pub(super) count: String,
    /// Why there are fewer than wanted; else empty.
    pub(super) fewer: String,
    pub(super) bytes_each: Option<f64>,
}

/// Opens connections by `open`, which gets the server's address, and measures the memory that they take. Restarts the
/// server first, so that memory from before does not hide that of the connections. The server lets one in so many of its
/// connections be of this kind.
pub(super) async fn memory_of(
    args: &MeasureArgs,
    server: &mut ServerProcess,
    what: &'static str,
    one_in: u64,
    open: impl AsyncFn(String) -> anyhow::Result<TcpStream>,
) -> anyhow::Result<MemoryOfIdle> {
    server.restart_and_measure().await?;
    let address = server.address().to_owned();
    let room = open_files_max().map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES));
    let wanted = u64::from(args.idle_connections);
    let count = wanted.min((room / one_in).saturating_sub(WARMING));
    let warm = stream::iter(0..WARMING)
        .then(|_| open(address.clone()))
        .try_collect::<Vec<_>>()
        .await?;
    let before = server.memory();
    let bar = bar(what, count);
    let idle = stream::iter(0..count)
        .map(|_| async {
            let connection = open(address.clone()).await;
            bar.inc(1);
            connection
        })
        .buffer_unordered(OPENED_AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    bar.finish_and_clear();
    let after = server.memory();
    drop((idle, warm));
    let growth = before
        .zip(after)
        .map(|(before, after)| after.now.saturating_sub(before.now) as f64);
    let fewer = if count < wanted {
        format!(" (the limit on open files allows no {})", with_separators(wanted))
    } else {
        String::new()
    };
    Ok(MemoryOfIdle {
        count: with_separators(count),
        fewer,
        bytes_each: growth.map(|bytes| per(bytes, count)),
    })
}

/// Opens a connection, sends one request, and reads its answer.
async fn ask_once(address: &str) -> anyhow::Result<TcpStream> {
    let mut connection = TcpStream::connect(address)
        .await
        .context("the server takes no more connections")?;
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = [0; 1024];
    let read = connection.read(&mut answer).await?;
    ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "the server is not healthy");
    Ok(connection)
}

/// The limit of open files of a process; `None` if it is unknown.
fn open_files_max() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
