//! The server is SIGKILLed again and again under concurrent pushers.
//!
//! Half of the devices push single batches under stored ids, and repeat each until it is acknowledged; the other half
//! push long lists once and accept a failure. Afterwards the log must contain every acknowledged entry exactly once,
//! every other at most once, and no part of a batch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use synckit_client::{Cursor, DeviceId, Error, SyncKitClient};
use synckit_protocol::limits;
use tokio::{sync::Notify, task::JoinSet};

use super::{
    Sizes, block_on,
    books::{Batch, Books, Tally, whole_log},
    client::{Attempts, is_passing},
    process::Programs,
    site::{Launch, Site},
};
use crate::golden::Account;

/// Acknowledged pushes between two kills.
const PUSHES_BETWEEN_KILLS: std::ops::RangeInclusive<u64> = 4..=40;
/// How long after that the kill comes, so that it comes in the middle of something.
const KILL_WITHIN: Duration = Duration::from_millis(12);

/// The shared state of the pushers.
#[derive(Debug, Default)]
struct Shared {
    books: Mutex<Books>,
    acknowledged_pushes: AtomicU64,
    progress: Notify,
    stop: AtomicBool,
}

impl Shared {
    fn acknowledge(&self, batch: Batch) {
        self.books.lock().acknowledge(batch);
        self.acknowledged_pushes.fetch_add(1, Ordering::Relaxed);
        self.progress.notify_one();
    }
}

pub(super) fn run(programs: &Programs, sizes: &Sizes) -> anyhow::Result<String> {
    let mut site = Site::open(programs, Launch::default())?;
    block_on(drill(&mut site, sizes))
}

async fn drill(site: &mut Site, sizes: &Sizes) -> anyhow::Result<String> {
    let mut accounts = Vec::new();
    for index in 0..sizes.accounts {
        let devices = sizes.clients / sizes.accounts + usize::from(index < sizes.clients % sizes.accounts);
        accounts.push(site.sign_up(&format!("account-{index}"), devices).await?);
    }
    let shared = Arc::new(Shared::default());
    let mut pushers = JoinSet::new();
    for (index, member) in accounts.iter().flat_map(|account| &account.devices).enumerate() {
        let pusher = Pusher {
            client: site.resumed(&member.name)?,
            device_id: member.id,
            cursor: Cursor::START,
            name: member.name.clone(),
            rng: StdRng::seed_from_u64(sizes.seed ^ ((index as u64 + 1) << 32)),
            shared: Arc::clone(&shared),
        };
        pushers.spawn(pusher.push_on(index % 2 == 0));
    }
    let began = Instant::now();
    let killed = kill_again_and_again(site, sizes, &shared, &mut pushers).await;
    shared.stop.store(true, Ordering::Relaxed);
    killed?;
    while let Some(pushed) = pushers.join_next().await {
        pushed??;
    }
    let took = began.elapsed();

    site.stop()?;
    site.check_database()?;
    site.start()?;
    let books = shared.books.lock().clone();
    let tally = audit(site, &accounts, &books).await?;
    Ok(format!(
        "{} kills under {} devices of {} accounts in {:.0} s: {} acknowledged entries are there exactly once, {} whose \
         answer was lost are there once, no batch in part; the database is whole",
        sizes.kills,
        sizes.clients,
        sizes.accounts,
        took.as_secs_f64(),
        tally.acknowledged,
        tally.unheard
    ))
}

async fn kill_again_and_again(
    site: &mut Site,
    sizes: &Sizes,
    shared: &Shared,
    pushers: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut rng = StdRng::seed_from_u64(sizes.seed);
    for _ in 0..sizes.kills {
        let target = shared.acknowledged_pushes.load(Ordering::Relaxed) + rng.gen_range(PUSHES_BETWEEN_KILLS);
        while shared.acknowledged_pushes.load(Ordering::Relaxed) < target {
            tokio::select! {
                () = shared.progress.notified() => {}
                // Nobody ends before they are told to, but by a finding.
                Some(ended) = pushers.join_next() => {
                    ended??;
                    anyhow::bail!("a pusher ended early");
                }
            }
        }
        tokio::time::sleep(rng.gen_range(Duration::ZERO..KILL_WITHIN)).await;
        site.kill()?;
        site.start()?;
    }
    Ok(())
}

struct Pusher {
    client: SyncKitClient,
    device_id: DeviceId,
    cursor: Cursor,
    name: String,
    rng: StdRng,
    shared: Arc<Shared>,
}

impl Pusher {
    async fn push_on(mut self, with_ids: bool) -> anyhow::Result<()> {
        let mut number = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let pushed = if with_ids {
                self.push_one(&mut number).await
            } else {
                self.push_many(&mut number).await
            };
            pushed.with_context(|| self.name.clone())?;
        }
        Ok(())
    }

    fn batch(&self, number: &mut u64, count: u32) -> Batch {
        let batch = Batch {
            by: self.name.clone(),
            number: *number,
            count,
        };
        *number += 1;
        self.shared.books.lock().attempt(batch.clone());
        batch
    }

    async fn push_one(&mut self, number: &mut u64) -> anyhow::Result<()> {
        let count = self.rng.gen_range(1..=60);
        let batch = self.batch(number, count);
        let id = SyncKitClient::new_batch_id();
        let mut attempts = Attempts::default();
        loop {
            let pushed = self
                .client
                .push_at(self.device_id, self.cursor, Some(id), batch.changes());
            match pushed.await.map_err(Error::from) {
                Ok(cursor) => {
                    self.cursor = cursor;
                    break;
                }
                Err(Error::Behind { .. }) => self.catch_up().await?,
                Err(error) => attempts.next(&error).await?,
            }
        }
        self.shared.acknowledge(batch);
        Ok(())
    }

    async fn catch_up(&mut self) -> anyhow::Result<()> {
        let mut attempts = Attempts::default();
        loop {
            match self.client.pull(self.device_id, self.cursor).await {
                Ok((_, cursor, has_more)) => {
                    self.cursor = cursor;
                    if !has_more {
                        return Ok(());
                    }
                }
                Err(error) => attempts.next(&error).await?,
            }
        }
    }

    /// Two full batches and a part of one in one call, which is never repeated.
    async fn push_many(&mut self, number: &mut u64) -> anyhow::Result<()> {
        let full = limits::BATCH_ENTRIES_MAX;
        let last = self.rng.gen_range(1..=60);
        let counts = if self.rng.gen_bool(0.3) {
            vec![full, full, last]
        } else {
            vec![last]
        };
        let batches: Vec<Batch> = counts.into_iter().map(|count| self.batch(number, count)).collect();
        let changes = batches.iter().flat_map(Batch::changes).collect();
        let mut accepted = match self.client.push(self.device_id, changes).await {
            Ok(_) => usize::MAX,
            Err(error) if is_passing(&error.source) => error.accepted,
            Err(error) => return Err(error.into()),
        };
        for batch in batches {
            if accepted < batch.count as usize {
                break;
            }
            accepted -= batch.count as usize;
            self.shared.acknowledge(batch);
        }
        Ok(())
    }
}

/// Compares every account's log with the books.
async fn audit(site: &Site, accounts: &[Account], books: &Books) -> anyhow::Result<Tally> {
    let mut log = Vec::new();
    for account in accounts {
        let member = account.devices.last().context("no device")?;
        log.extend(whole_log(&site.resumed(&member.name)?, member.id).await?);
    }
    books.audit(&log)
}
