//! A quiet user's pushes, alone and beside neighbours at full speed: the isolation of users.
//!
//! The quiet user pushes one small batch at a time. The neighbours are other accounts that do one thing as fast as the
//! server lets them, over a connection each. Their batches hold no entries that anybody could open; the server cannot
//! tell. The quiet user has a thread of its own: what the neighbours' clients compute here must not count as the
//! server's time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderValue, Method};
use synckit_client::{Cursor, SyncKitConfig, transport::HttpTransport};
use synckit_protocol::{
    BatchDigest, BatchId, ByteString, Position, SealedHash, limits,
    wire::log::{Pull, Push},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    arrival::percentile,
    bar,
    crowd::{Member, PULL, PUSH},
    figures::{Row, Unit},
    raw::Line,
    records::Records,
    server::ServerProcess,
};
use crate::cli::MeasureArgs;

/// Sealed bytes of a quiet push: an entry or two.
const QUIET_BYTES: usize = 300;
/// The pause between two quiet pushes.
const QUIET_PAUSE: Duration = Duration::from_millis(10);
/// Sealed bytes of a full batch of small rows.
const BATCH_BYTES: usize = 90_000;
/// Connections that trickle a body, without a token.
const TRICKLING: usize = 1_024;

const EXPORT: &str = "/api/account/export";
const ACCOUNT: &str = "/api/account";

/// The action of the neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Neighbours {
    Push(usize),
    Pull,
    Export,
    Trickle,
    /// Their accounts, with all that they pushed, are deleted while the quiet user pushes.
    Delete,
}

/// The rows: ids, actions of the neighbours, titles.
const KINDS: [([&str; 2], Option<Neighbours>, &str); 7] = [
    (["quiet_alone_p50", "quiet_alone_p99"], None, "alone"),
    (
        ["quiet_beside_batches_p50", "quiet_beside_batches_p99"],
        Some(Neighbours::Push(BATCH_BYTES)),
        "beside pushes of 90 kB",
    ),
    (
        ["quiet_beside_large_p50", "quiet_beside_large_p99"],
        Some(Neighbours::Push(limits::BATCH_SEALED_BYTES_MAX)),
        "beside pushes of 4 MiB",
    ),
    (
        ["quiet_beside_pulls_p50", "quiet_beside_pulls_p99"],
        Some(Neighbours::Pull),
        "beside pulls of 8 MiB",
    ),
    (
        ["quiet_beside_exports_p50", "quiet_beside_exports_p99"],
        Some(Neighbours::Export),
        "beside exports of accounts",
    ),
    (
        ["quiet_beside_trickle_p50", "quiet_beside_trickle_p99"],
        Some(Neighbours::Trickle),
        "beside 1,024 trickled bodies without a token",
    ),
    (
        ["quiet_beside_deletion_p50", "quiet_beside_deletion_p99"],
        Some(Neighbours::Delete),
        "beside the deletion of all other accounts",
    ),
];

/// Pushes of the quiet user in each row, and before it.
const QUIET_PUSHES: usize = 600;
const QUIET_WARMING: usize = 20;

/// A user who pushes batches that nobody can open.
#[derive(Debug)]
struct Pusher {
    authorization: HeaderValue,
    account_authorization: HeaderValue,
    /// The next batch, but for its id and its bytes.
    next: Push,
    batches: u128,
}

/// A batch of no content, hashed once for all who push it.
#[derive(Debug, Clone)]
struct Sealed {
    bytes: ByteString,
    hash: SealedHash,
}

impl Sealed {
    fn of_size(bytes: usize) -> Self {
        let bytes = vec![0xa5; bytes];
        Self {
            hash: SealedHash::of(&bytes),
            bytes: bytes.into(),
        }
    }
}

/// Measures all rows. So many users as there are streams of single entries are the neighbours.
pub(super) async fn measure(
    args: &MeasureArgs,
    server: &ServerProcess,
    config: &SyncKitConfig,
) -> anyhow::Result<Vec<Row>> {
    let mut users = prepare(args, config).await?;
    let mut quiet = users.pop().context("there is no quiet user")?;
    let mut rows = Vec::new();
    let mut alone_p99 = None;
    for ([id_p50, id_p99], neighbours, name) in KINDS {
        let stop = CancellationToken::new();
        let mut pushing = JoinSet::new();
        let mut others = JoinSet::new();
        match neighbours {
            None => {}
            Some(Neighbours::Push(bytes)) => {
                let sealed = Sealed::of_size(bytes);
                for user in users.drain(..) {
                    pushing.spawn(user.push_until(stop.clone(), server.address().to_owned(), sealed.clone()));
                }
            }
            Some(Neighbours::Pull) => {
                for user in &users {
                    others.spawn(user.pulling(server)?.repeat());
                }
            }
            Some(Neighbours::Export) => {
                for user in &users {
                    others.spawn(user.asking(server, Method::GET, EXPORT).repeat());
                }
            }
            Some(Neighbours::Trickle) => {
                for _ in 0..TRICKLING {
                    others.spawn(trickle_on(server.address().to_owned()));
                }
            }
            Some(Neighbours::Delete) => {
                for user in &users {
                    user.asking(server, Method::DELETE, ACCOUNT).once().await?;
                }
            }
        }
        let latencies;
        (quiet, latencies) = quiet.push_on_own_thread(server.address().to_owned(), name).await?;
        stop.cancel();
        others.shutdown().await;
        while let Some(user) = pushing.join_next().await {
            users.push(user.context("a task of the bench panicked")?);
        }
        let (p50, p99) = (percentile(&latencies, 50), percentile(&latencies, 99));
        let target = match neighbours {
            None => None,
            Some(Neighbours::Push(bytes)) if bytes > BATCH_BYTES => Some(50.0),
            Some(_) => alone_p99.map(|alone: f64| 4.0 * alone),
        };
        if neighbours.is_none() {
            alone_p99 = p99;
        }
        let name = format!("a quiet user's push, {name}, p50");
        rows.push(Row::new(id_p50, name, Unit::Milliseconds, p50));
        let row = Row::new(id_p99, "    p99", Unit::Milliseconds, p99);
        rows.push(match target {
            Some(target) => row.at_most(target),
            None => row,
        });
    }
    Ok(rows)
}

/// Signs up the neighbours and the quiet user.
async fn prepare(args: &MeasureArgs, config: &SyncKitConfig) -> anyhow::Result<Vec<Pusher>> {
    let mut records = Records::new(args.load.seed, args.load.record_bytes);
    let change = Arc::new(records.take(1));
    let transport = Arc::new(HttpTransport::new(Duration::from_secs(10)));
    let count = args.streams + 1;
    let bar = bar("neighbours", u64::from(count));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let users = stream::iter(0..count)
        .map(|number| {
            let email = format!("neighbour-{number}@example.com");
            let member = Member::prepare(config.clone(), Arc::clone(&transport), email, &[], &change);
            let bar = &bar;
            async move {
                let member = member.await?;
                bar.inc(1);
                Pusher::of(&member).await
            }
        })
        .buffered(cores)
        .try_collect()
        .await?;
    bar.finish_and_clear();
    Ok(users)
}

impl Pusher {
    async fn of(member: &Member) -> anyhow::Result<Self> {
        let prepared = member.singles.first().context("nothing was sealed")?;
        let authorization = member.recorder.authorization()?;
        // The recorder knows the token of the last request: that of the account now.
        member.client.account().await?;
        Ok(Self {
            authorization,
            account_authorization: member.recorder.authorization()?,
            next: minicbor_serde::from_slice(&prepared.body)?,
            batches: 0,
        })
    }

    fn pulling(&self, server: &ServerProcess) -> anyhow::Result<Asking> {
        Ok(Asking {
            address: server.address().to_owned(),
            authorization: self.authorization.clone(),
            method: Method::POST,
            path: PULL,
            body: self.pull()?,
        })
    }

    /// A request about the account.
    fn asking(&self, server: &ServerProcess, method: Method, path: &'static str) -> Asking {
        Asking {
            address: server.address().to_owned(),
            authorization: self.account_authorization.clone(),
            method,
            path,
            body: Bytes::new(),
        }
    }

    /// A request for as much as one page holds.
    fn pull(&self) -> anyhow::Result<Bytes> {
        let pull = Pull {
            device_id: self.next.device_id,
            cursor: Cursor::START,
            max_bytes: Some(limits::PAGE_BYTES_MAX),
            ahead: false,
            avoid_snapshot: false,
        };
        Ok(minicbor_serde::to_vec(pull)?.into())
    }

    /// The body of the next push, and where the stream is once it is stored.
    fn body(&mut self, sealed: &Sealed) -> anyhow::Result<(Bytes, Position)> {
        self.batches += 1;
        self.next.batch_id = BatchId::from_bytes(self.batches.to_be_bytes());
        self.next.sealed = sealed.bytes.clone();
        let digest = BatchDigest {
            batch_id: self.next.batch_id,
            device_id: self.next.device_id,
            key_id: self.next.key_id,
            count: self.next.count,
            sealed_hash: sealed.hash,
        };
        let after = self.next.parent.advance(&digest).context("a batch that follows none")?;
        Ok((minicbor_serde::to_vec(&self.next)?.into(), after))
    }

    /// Pushes small batches one by one on a thread of its own, and times them. Returns the times in order.
    async fn push_on_own_thread(
        mut self,
        address: String,
        name: &'static str,
    ) -> anyhow::Result<(Self, Vec<Duration>)> {
        let pushing = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let latencies = runtime.block_on(self.push_quietly(&address, name))?;
            anyhow::Ok((self, latencies))
        });
        pushing.await.context("the quiet user panicked")?
    }

    async fn push_quietly(&mut self, address: &str, name: &'static str) -> anyhow::Result<Vec<Duration>> {
        let sealed = Sealed::of_size(QUIET_BYTES);
        let mut line = Line::open(address, self.authorization.clone()).await?;
        let bar = bar(name, (QUIET_WARMING + QUIET_PUSHES) as u64);
        let mut latencies = Vec::with_capacity(QUIET_PUSHES);
        for number in 0..QUIET_WARMING + QUIET_PUSHES {
            let (body, after) = self.body(&sealed)?;
            let started = Instant::now();
            line.post(PUSH, body).await?;
            if number >= QUIET_WARMING {
                latencies.push(started.elapsed());
            }
            self.next.parent = after;
            bar.inc(1);
            tokio::time::sleep(QUIET_PAUSE).await;
        }
        bar.finish_and_clear();
        latencies.sort();
        Ok(latencies)
    }

    /// Pushes batches as fast as they are taken. One that is shed is sent again, as an SDK does.
    async fn push_until(mut self, stop: CancellationToken, address: String, sealed: Sealed) -> Self {
        let mut line = None;
        while let Ok((body, after)) = self.body(&sealed) {
            loop {
                if stop.is_cancelled() {
                    return self;
                }
                let pushed = async {
                    let line = match &mut line {
                        Some(line) => line,
                        None => line.insert(Line::open(&address, self.authorization.clone()).await?),
                    };
                    line.post(PUSH, body.clone()).await
                };
                if pushed.await.is_ok() {
                    break;
                }
                line = None;
                tokio::time::sleep(QUIET_PAUSE).await;
            }
            self.next.parent = after;
        }
        self
    }
}

/// A request of a neighbour.
struct Asking {
    address: String,
    authorization: HeaderValue,
    method: Method,
    path: &'static str,
    body: Bytes,
}

impl Asking {
    /// Sends it on a connection of its own.
    async fn once(&self) -> anyhow::Result<()> {
        let mut line = Line::open(&self.address, self.authorization.clone()).await?;
        line.send(self.method.clone(), self.path, self.body.clone()).await?;
        Ok(())
    }

    /// Sends it again and again. One that is shed is sent again, as an SDK does.
    async fn repeat(self) {
        loop {
            if let Ok(mut line) = Line::open(&self.address, self.authorization.clone()).await {
                while line
                    .send(self.method.clone(), self.path, self.body.clone())
                    .await
                    .is_ok()
                {}
            }
            tokio::time::sleep(QUIET_PAUSE).await;
        }
    }
}

/// Sends a sign-in, a byte every two seconds, again and again.
async fn trickle_on(address: String) {
    const HEAD: &[u8] = b"POST /api/sync/auth/start HTTP/1.1\r\nhost: x\r\ncontent-type: application/cbor\r\n\
        content-length: 300\r\n\r\n";
    loop {
        if let Ok(mut stream) = TcpStream::connect(&address).await {
            let mut sent = stream.write_all(HEAD).await;
            while sent.is_ok() {
                tokio::time::sleep(Duration::from_secs(2)).await;
                sent = stream.write_all(b"x").await;
            }
        }
        tokio::time::sleep(QUIET_PAUSE).await;
    }
}
