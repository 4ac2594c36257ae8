//! Event streams: the time until another device hears of a push, the memory of an idle subscriber, and the throughput of
//! pushes with and without subscribers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use http::HeaderValue;
use synckit_client::{SyncKitConfig, transport::HttpTransport};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    account::Client,
    arrival::percentile,
    crowd::{Member, PUSH, Run},
    figures::{Row, Unit, with_separators},
    idle,
    machine::Machine,
    records::Records,
    server::ServerProcess,
};
use crate::cli::{Load, MeasureArgs};

/// Of so many connections, the server lets one be an event stream.
const STREAMS_ONE_IN: u64 = 2;
/// Number of pushes that another device hears of.
const PUSHES: u64 = 300;
/// Rounds of pushes, fewer if there are fewer pushes, with subscribers in every second one: what drifts on the machine falls on both alike.
const ROUNDS: usize = 16;

/// The time from a push to its event on another device, through the SDK.
pub(super) async fn delays(load: &Load, machine: &Machine, from: &Client, to: &Client) -> anyhow::Result<Vec<Row>> {
    let mut news = to.client.subscribe().await?;
    news.changed().await?;
    let mut records = Records::new(load.seed.wrapping_add(2), load.record_bytes);
    let mut delays = Vec::new();
    for _ in 0..PUSHES {
        let change = records.take(1);
        let started = Instant::now();
        let hearing = async {
            news.changed().await?;
            anyhow::Ok(started.elapsed())
        };
        let pushing = async { anyhow::Ok(from.client.push(from.id, change).await?) };
        let (delay, _) = tokio::try_join!(hearing, pushing)?;
        delays.push(delay);
    }
    delays.sort();
    // A request, an event half as long, and a sync.
    let least = 1e3 * (1.5 / machine.loopback_round_trips_per_second + 1.0 / machine.synced_pages_per_second);
    let row = |id, name, percent| {
        Row::new(id, name, Unit::Milliseconds, percentile(&delays, percent))
            .beside("one and a half round trips and a sync", least)
    };
    Ok(vec![
        row("event_p50", "a push heard by another device, p50", 50),
        row("event_p95", "    p95", 95).at_most(10.0),
        row("event_p99", "    p99", 99),
    ])
}

/// The rows that need a crowd of their own.
pub(super) async fn measure(
    args: &MeasureArgs,
    server: &mut ServerProcess,
    config: &SyncKitConfig,
) -> anyhow::Result<Vec<Row>> {
    let members = prepare(args, config).await?;
    let mut rows = throughput(server, &members).await?;
    // Of one account, which is all the same to a stream.
    let member = members.first().context("a crowd of nobody")?;
    let authorization = member.recorder.authorization()?;
    let memory = idle::memory_of(args, server, "event streams", STREAMS_ONE_IN, async |address| {
        subscribe(&address, &authorization).await
    });
    let memory = memory.await?;
    let name = format!("server memory of {} idle event streams{}", memory.count, memory.fewer);
    rows.push(Row::new("idle_event_stream", name, Unit::BytesPerConnection, memory.bytes_each).at_most(12.0 * 1000.0));
    Ok(rows)
}

async fn prepare(args: &MeasureArgs, config: &SyncKitConfig) -> anyhow::Result<Vec<Member>> {
    let mut records = Records::new(args.load.seed, args.load.record_bytes);
    let changes = Arc::new(records.take(u64::from(args.load.pushes_per_stream)));
    let transport = Arc::new(HttpTransport::new(Duration::from_secs(10)));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    stream::iter(0..args.streams)
        .map(|number| {
            let email = format!("subscriber-{number}@example.com");
            Member::prepare(config.clone(), Arc::clone(&transport), email, &[], &changes)
        })
        .buffered(cores)
        .try_collect()
        .await
}

/// Single entries from many streams at once, with two subscribers for each stream and without any.
async fn throughput(server: &ServerProcess, members: &[Member]) -> anyhow::Result<Vec<Row>> {
    let pushes = members.first().map_or(0, |member| member.singles.len());
    ensure!(
        pushes >= 2,
        "a stream needs two pushes: one with subscribers, one without"
    );
    let rounds = ROUNDS.min(pushes - pushes % 2);
    let mut alone = (0, Duration::ZERO);
    let mut subscribed = (0, Duration::ZERO);
    for round in 0..rounds {
        let mut subscribers = JoinSet::new();
        let total = if round % 2 == 1 {
            let twice = members.iter().chain(members);
            let opened = twice.map(async |member| subscribe(server.address(), &member.recorder.authorization()?).await);
            for stream in try_join_all(opened).await? {
                subscribers.spawn(read_on(stream));
            }
            &mut subscribed
        } else {
            &mut alone
        };
        let part = round * pushes / rounds..(round + 1) * pushes / rounds;
        let work = members.iter().map(|member| {
            let singles = &member.singles[part.clone()];
            (member, singles.iter().map(|single| single.body.clone()).collect())
        });
        let run = Run::drive(server, PUSH, work.collect()).await?;
        total.0 += run.requests;
        total.1 += run.elapsed;
        subscribers.shutdown().await;
    }
    let per_second = |(requests, elapsed): (u64, Duration)| requests as f64 / elapsed.as_secs_f64();
    let (alone, subscribed) = (per_second(alone), per_second(subscribed));
    let streams = with_separators(members.len() as u64);
    Ok(vec![
        Row::new(
            "push_unsubscribed",
            format!("push of single entries, {streams} streams, without subscribers"),
            Unit::PushesPerSecond,
            alone,
        ),
        Row::new(
            "push_subscribed",
            "    with two subscribers of each stream, in turns",
            Unit::PushesPerSecond,
            subscribed,
        )
        .at_least(alone * 0.95),
    ])
}

/// Opens an event stream, and reads its first position.
async fn subscribe(address: &str, authorization: &HeaderValue) -> anyhow::Result<TcpStream> {
    let mut connection = TcpStream::connect(address)
        .await
        .context("the server takes no more connections")?;
    let authorization = authorization.to_str()?;
    let request = format!("GET /api/sync/events HTTP/1.1\r\nhost: {address}\r\nauthorization: {authorization}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.windows(6).any(|text| text == b"data: ") {
        ensure!(connection.read_buf(&mut answer).await? > 0, "an event stream ended");
        ensure!(
            answer.len() < 4096 && (answer.len() < 12 || answer.starts_with(b"HTTP/1.1 200")),
            "no event stream: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(connection)
}

async fn read_on(mut connection: TcpStream) {
    let mut events = [0; 4096];
    while connection.read(&mut events).await.is_ok_and(|bytes| bytes > 0) {}
}
