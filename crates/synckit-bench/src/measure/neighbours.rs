//! A quiet user's pushes, alone and beside neighbours at full speed: the isolation of users.
//!
//! The quiet user pushes one small batch at a time. The neighbours do one thing as fast as the server lets them, over
//! many connections: first one account, the tenant at full speed, then an account for each connection. Their batches hold no entries that anybody could open; the server cannot
//! tell. The quiet user has a thread of its own, and the neighbours' clients have threads of the lowest priority: what they
//! compute here must not count as the server's time.

use std::{
    fs,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderValue, Method};
use parking_lot::Mutex;
use synckit_client::{Cursor, SyncKitConfig, transport::HttpTransport};
use synckit_protocol::{
    BatchDigest, BatchId, ByteString, Position, SealedHash, limits,
    wire::log::{Pull, Push},
};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    runtime::{Builder, Handle},
    sync::oneshot,
    task::JoinSet,
};
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
enum Action {
    Push(usize),
    Pull,
    Export,
    Trickle,
    /// The operator copies all that they pushed, again and again: a reader that stays for as long as each copy takes.
    Backup,
    /// Their accounts, with all that they pushed, are deleted while the quiet user pushes.
    Delete,
}

/// The neighbours. The number of their connections is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Neighbours {
    /// One account over all connections.
    One(Action),
    /// An account for each connection.
    Many(Action),
}

use Action::{Backup, Delete, Export, Pull as PullPages, Push as PushBatches, Trickle};
use Neighbours::{Many, One};

/// The rows: the id after `quiet_`, neighbours, titles.
const KINDS: [(&str, Option<Neighbours>, &str); 12] = [
    ("alone", None, "alone"),
    (
        "beside_one_batches",
        Some(One(PushBatches(BATCH_BYTES))),
        "beside one account's pushes of 90 kB",
    ),
    (
        "beside_one_large",
        Some(One(PushBatches(limits::BATCH_SEALED_BYTES_MAX))),
        "beside one account's pushes of 4 MiB",
    ),
    (
        "beside_one_pulls",
        Some(One(PullPages)),
        "beside one account's pulls of 8 MiB",
    ),
    ("beside_one_exports", Some(One(Export)), "beside one account's exports"),
    (
        "beside_batches",
        Some(Many(PushBatches(BATCH_BYTES))),
        "beside many accounts' pushes of 90 kB",
    ),
    (
        "beside_large",
        Some(Many(PushBatches(limits::BATCH_SEALED_BYTES_MAX))),
        "beside many accounts' pushes of 4 MiB",
    ),
    (
        "beside_pulls",
        Some(Many(PullPages)),
        "beside many accounts' pulls of 8 MiB",
    ),
    ("beside_exports", Some(Many(Export)), "beside many accounts' exports"),
    (
        "beside_trickle",
        Some(Many(Trickle)),
        "beside 1,024 trickled bodies without a token",
    ),
    ("beside_backups", Some(One(Backup)), "beside the operator's backups"),
    (
        "beside_deletion",
        Some(Many(Delete)),
        "beside the deletion of all other accounts",
    ),
];

/// Pushes of the quiet user before each row.
const QUIET_WARMING: u32 = 20;

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

/// Measures all rows. The neighbours have a connection for each of the streams of single entries.
pub(super) async fn measure(
    args: &MeasureArgs,
    server: &ServerProcess,
    config: &SyncKitConfig,
) -> anyhow::Result<Vec<Row>> {
    let mut users = prepare(args, config).await?;
    let mut quiet = users.pop().context("there is no quiet user")?;
    let users: Vec<_> = users.into_iter().map(|user| Arc::new(Mutex::new(user))).collect();
    let mut rows = Vec::new();
    let mut alone_p99 = None;
    let runtime = Background::start()?;
    for (id, neighbours, name) in KINDS {
        let stop = CancellationToken::new();
        let mut others: JoinSet<anyhow::Result<()>> = JoinSet::new();
        let action = match neighbours {
            None => None,
            Some(One(action)) => {
                let one = users.first().context("there are no neighbours")?;
                act(action, users.iter().map(|_| one), &runtime, server, &stop, &mut others).await?;
                Some(action)
            }
            Some(Many(action)) => {
                act(action, users.iter(), &runtime, server, &stop, &mut others).await?;
                Some(action)
            }
        };
        let latencies;
        (quiet, latencies) = quiet
            .push_on_own_thread(server.address().to_owned(), args.quiet_pushes, name)
            .await?;
        // A push is finished, so that its stream is known to be where its user believes it.
        stop.cancel();
        if !matches!(action, Some(PushBatches(_))) {
            others.abort_all();
        }
        while let Some(other) = others.join_next().await {
            match other {
                Err(error) if !error.is_cancelled() => return Err(error.into()),
                Ok(ended) => ended?,
                Err(_) => {}
            }
        }
        let (p50, p99) = (percentile(&latencies, 50), percentile(&latencies, 99));
        let target = match action {
            None => None,
            Some(PushBatches(bytes)) if bytes > BATCH_BYTES => Some(50.0),
            Some(_) => alone_p99.map(|alone: f64| 4.0 * alone),
        };
        if action.is_none() {
            alone_p99 = p99;
        }
        let name = format!("a quiet user's push, {name}, p50");
        rows.push(Row::new(format!("quiet_{id}_p50"), name, Unit::Milliseconds, p50));
        let row = Row::new(format!("quiet_{id}_p99"), "    p99", Unit::Milliseconds, p99);
        rows.push(match target {
            Some(target) => row.at_most(target),
            None => row,
        });
    }
    Ok(rows)
}

/// Starts an action of these users, on a connection each.
async fn act(
    action: Action,
    users: impl Iterator<Item = &Arc<Mutex<Pusher>>>,
    runtime: &Background,
    server: &ServerProcess,
    stop: &CancellationToken,
    others: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let address = server.address();
    match action {
        PushBatches(bytes) => {
            let sealed = Sealed::of_size(bytes);
            for user in users {
                let pushing = push_until(Arc::clone(user), stop.clone(), address.to_owned(), sealed.clone());
                others.spawn_on(pushing, &runtime.0);
            }
        }
        PullPages => {
            for user in users {
                others.spawn_on(user.lock().pulling(server)?.repeat(), &runtime.0);
            }
        }
        Export => {
            for user in users {
                others.spawn_on(user.lock().asking(server, Method::GET, EXPORT).repeat(), &runtime.0);
            }
        }
        Trickle => {
            for _ in 0..TRICKLING {
                others.spawn_on(trickle_on(address.to_owned()), &runtime.0);
            }
        }
        Backup => {
            let target = TempDir::new()?;
            let backup = server.backup(&target.path().join("copy"));
            let stop = stop.clone();
            others.spawn_blocking(move || back_up_until(backup, &target, &stop));
        }
        Delete => {
            for user in users {
                let deletion = user.lock().asking(server, Method::DELETE, ACCOUNT);
                deletion.once().await?;
            }
        }
    }
    Ok(())
}

/// The runtime of the neighbours' clients, on threads of the lowest priority: in reality these clients run on other
/// machines and take no processor from the server.
#[derive(Debug)]
struct Background(
    Handle,
    #[expect(dead_code, reason = "its end stops the runtime")] oneshot::Sender<()>,
);

impl Background {
    fn start() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .on_thread_start(|| {
                // On Linux the priority is that of the thread. Without it the measurement is only less exact.
                #[cfg(unix)]
                let _ = rustix::process::nice(19);
            })
            .build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        std::thread::spawn(move || drop(runtime.block_on(ended)));
        Ok(Self(handle, running))
    }
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

    /// The body of the next push, and the positions of the stream before and after it.
    fn body(&mut self, sealed: &Sealed) -> anyhow::Result<(Bytes, Position, Position)> {
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
        Ok((minicbor_serde::to_vec(&self.next)?.into(), self.next.parent, after))
    }

    /// Pushes small batches one by one on a thread of its own, and times them. Returns the times in order.
    async fn push_on_own_thread(
        mut self,
        address: String,
        pushes: u32,
        name: &'static str,
    ) -> anyhow::Result<(Self, Vec<Duration>)> {
        let pushing = tokio::task::spawn_blocking(move || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let latencies = runtime.block_on(self.push_quietly(&address, pushes, name))?;
            anyhow::Ok((self, latencies))
        });
        pushing.await.context("the quiet user panicked")?
    }

    async fn push_quietly(&mut self, address: &str, pushes: u32, name: &'static str) -> anyhow::Result<Vec<Duration>> {
        let sealed = Sealed::of_size(QUIET_BYTES);
        let mut line = Line::open(address, self.authorization.clone()).await?;
        let bar = bar(name, u64::from(QUIET_WARMING) + u64::from(pushes));
        let mut latencies = Vec::new();
        for number in 0..QUIET_WARMING + pushes {
            let (body, _, after) = self.body(&sealed)?;
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
}

/// Pushes batches as fast as the server takes them. Several connections of one user push on top of the same batch: one
/// succeeds, and all go on from there. A batch whose answer was lost is sent again, as an SDK does.
async fn push_until(
    user: Arc<Mutex<Pusher>>,
    stop: CancellationToken,
    address: String,
    sealed: Sealed,
) -> anyhow::Result<()> {
    let mut line: Option<Line> = None;
    let (authorization, mut next) = {
        let mut user = user.lock();
        (user.authorization.clone(), user.body(&sealed))
    };
    loop {
        let (body, before, after) = match &next {
            Ok(next) if !stop.is_cancelled() => next,
            _ => return next.map(drop),
        };
        let pushed = async {
            let line = match &mut line {
                Some(line) => line,
                None => line.insert(Line::open(&address, authorization.clone()).await?),
            };
            line.post(PUSH, body.clone()).await
        };
        let pushed = pushed.await.is_ok();
        if pushed || line.as_ref().is_some_and(Line::is_open) {
            let mut user = user.lock();
            if pushed && user.next.parent == *before {
                user.next.parent = *after;
            }
            next = user.body(&sealed);
        } else {
            line = None;
            tokio::time::sleep(QUIET_PAUSE).await;
        }
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
    async fn repeat(self) -> anyhow::Result<()> {
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

/// Copies the server's data, one copy after the other.
fn back_up_until(mut backup: Command, target: &TempDir, stop: &CancellationToken) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        let copied = backup.output()?;
        ensure!(
            copied.status.success(),
            "no backup can be made: {}",
            String::from_utf8_lossy(&copied.stderr).trim()
        );
        fs::remove_dir_all(target.path().join("copy"))?;
    }
    Ok(())
}

/// Sends a sign-in, a byte every two seconds, again and again.
async fn trickle_on(address: String) -> anyhow::Result<()> {
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
