//! Many users at once, without the SDK on the clock: batches of 500 from everybody, pulls by everybody, and single
//! entries from many streams.
//!
//! Every user is a real account that signed up and signed in, with a device, keys and batches sealed by the SDK; only
//! the sealing was done before (see [`super::recorder`]).

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use synckit_client::{
    ChangeEntry, Cursor, DeviceId, MemoryStore, SyncKitClient, SyncKitConfig, transport::HttpTransport,
};
use synckit_protocol::wire::log::Pull;
use uuid::Uuid;

use super::{
    arrival::percentile,
    bar,
    figures::{Row, Unit, per, with_separators},
    machine::Machine,
    raw::Line,
    recorder::{Prepared, Recorder},
    records::Records,
    server::ServerProcess,
};
use crate::cli::Load;

/// Entries of a full batch.
const BATCH_ENTRIES: u32 = 500;
pub(super) const PUSH: &str = "/api/sync/push";
pub(super) const PULL: &str = "/api/sync/pull";

/// The users, ready to push.
#[derive(Debug)]
pub(super) struct Crowd {
    members: Vec<Member>,
}

/// A user of a crowd, with pushes that the SDK sealed.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) recorder: Arc<Recorder>,
    pub(super) client: SyncKitClient,
    device_id: DeviceId,
    batches: Vec<Prepared>,
    pub(super) singles: Vec<Prepared>,
}

impl Crowd {
    /// Signs up so many users with sealed batches, and so many with sealed single entries. Takes about half a second of
    /// Argon2id for each user.
    pub(super) async fn prepare(users: u32, streams: u32, load: &Load, config: &SyncKitConfig) -> anyhow::Result<Self> {
        let batches = load.batches_per_user * BATCH_ENTRIES;
        let mut records = Records::new(load.seed, load.record_bytes);
        let batch_changes = Arc::new(records.take(u64::from(batches)));
        let single_changes = Arc::new(records.take(u64::from(load.pushes_per_stream)));
        let transport = Arc::new(HttpTransport::new(Duration::from_secs(10)));
        let count = users.max(streams);
        let bar = bar("users", u64::from(count));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let members = stream::iter(0..count)
            .map(|number| {
                let batches = if number < users { &batch_changes[..] } else { &[] };
                let singles = if number < streams { &single_changes[..] } else { &[] };
                let member = {
                    let email = format!("user-{number}@example.com");
                    Member::prepare(config.clone(), Arc::clone(&transport), email, batches, singles)
                };
                let bar = &bar;
                async move {
                    let member = member.await;
                    bar.inc(1);
                    member
                }
            })
            .buffered(cores)
            .try_collect()
            .await?;
        bar.finish_and_clear();
        Ok(Self { members })
    }

    /// Writes the token and the requests of every member into a folder.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        for member in &self.members {
            fs::write(folder.join("authorization"), member.recorder.authorization()?)?;
            let bodies = |prepared: &[Prepared]| prepared.iter().map(|push| push.body.clone()).collect();
            write_each(&folder.join("batches"), bodies(&member.batches))?;
            write_each(&folder.join("singles"), bodies(&member.singles))?;
            write_each(&folder.join("pulls"), member.pulls()?)?;
        }
        Ok(())
    }

    /// Everybody pushes full batches, each the next one when the one before is stored.
    pub(super) async fn push(&mut self, machine: &Machine, server: &ServerProcess) -> anyhow::Result<Vec<Row>> {
        let pushes: Vec<_> = self
            .with_batches()
            .map(|member| (member, member.batches.iter().map(|batch| batch.body.clone()).collect()))
            .collect();
        let users = pushes.len() as u64;
        let run = Run::drive(server, PUSH, pushes).await?;
        let records = run.requests * u64::from(BATCH_ENTRIES);
        let bytes = per(run.sent as f64, records);
        let name = format!("push, {} users, 500 records at a time, raw", with_separators(users));
        Ok(vec![
            Row::new("push_users", name, Unit::RecordsPerSecond, run.per_second(records))
                .at_least(500_000.0)
                .beside(
                    "synced appends",
                    machine.synced_appends_per_second * f64::from(BATCH_ENTRIES),
                )
                .beside("SHA-256", machine.sha256_mb_per_second * 1e6 / bytes.max(1.0))
                .beside("loopback", machine.carried_records(bytes)),
            Row::new(
                "push_users_cpu",
                "    server CPU",
                Unit::MicrosecondsPerRecord,
                run.cpu_of(records),
            )
            .at_most(1.0),
            Row::new(
                "push_users_p99",
                "    p99",
                Unit::Milliseconds,
                percentile(&run.latencies, 99),
            ),
        ])
    }

    /// All users pull all changes, page by page.
    pub(super) async fn pull(&self, machine: &Machine, server: &ServerProcess) -> anyhow::Result<Vec<Row>> {
        let pulls = self
            .with_batches()
            .map(|member| Ok((member, member.pulls()?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let users = pulls.len() as u64;
        let run = Run::drive(server, PULL, pulls).await?;
        let sealed: u64 = self
            .with_batches()
            .flat_map(|member| &member.batches)
            .map(|batch| batch.body.len() as u64)
            .sum();
        ensure!(
            run.received.abs_diff(sealed) < sealed / 50,
            "{} bytes came back of {sealed} that were pushed",
            run.received
        );
        let records = run.requests * u64::from(BATCH_ENTRIES);
        let bytes = per(run.received as f64, records);
        let name = format!("pull, {} users, server only", with_separators(users));
        Ok(vec![
            Row::new("pull_users", name, Unit::RecordsPerSecond, run.per_second(records))
                .at_least(3_000_000.0)
                .beside("loopback", machine.carried_records(bytes)),
            Row::new(
                "pull_users_cpu",
                "    server CPU",
                Unit::MicrosecondsPerRecord,
                run.cpu_of(records),
            )
            .at_most(0.3),
            Row::new(
                "pull_users_p99",
                "    p99",
                Unit::Milliseconds,
                percentile(&run.latencies, 99),
            ),
        ])
    }

    /// Single entries from many streams at once.
    pub(super) async fn push_singles(&mut self, machine: &Machine, server: &ServerProcess) -> anyhow::Result<Vec<Row>> {
        let pushes: Vec<_> = self
            .members
            .iter()
            .filter(|member| !member.singles.is_empty())
            .map(|member| {
                (
                    member,
                    member.singles.iter().map(|single| single.body.clone()).collect(),
                )
            })
            .collect();
        let streams = pushes.len() as u64;
        let run = Run::drive(server, PUSH, pushes).await?;
        let name = format!("push of single entries, {} streams at once", with_separators(streams));
        Ok(vec![
            Row::new(
                "push_singles",
                name,
                Unit::PushesPerSecond,
                run.per_second(run.requests),
            )
            .at_least(12_000.0)
            .beside(
                "synced pages, one for each stream at once",
                machine.synced_pages_per_second * streams as f64,
            )
            .beside("round trips on one connection", machine.loopback_round_trips_per_second),
            Row::new(
                "push_singles_p50",
                "    p50",
                Unit::Milliseconds,
                percentile(&run.latencies, 50),
            )
            .at_most(6.0),
            Row::new(
                "push_singles_p99",
                "    p99",
                Unit::Milliseconds,
                percentile(&run.latencies, 99),
            )
            .at_most(25.0),
            Row::new(
                "push_singles_cpu",
                "    server CPU",
                Unit::MicrosecondsPerPush,
                run.cpu_of(run.requests),
            ),
        ])
    }

    fn with_batches(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.batches.is_empty())
    }
}

impl Member {
    /// Signs up, and seals the batches and the singles.
    pub(super) async fn prepare(
        config: SyncKitConfig,
        transport: Arc<HttpTransport>,
        email: String,
        batches: &[ChangeEntry],
        singles: &[ChangeEntry],
    ) -> anyhow::Result<Self> {
        let recorder = Arc::new(Recorder::new(transport));
        let client = SyncKitClient::builder(config)
            .credential_store(MemoryStore::default())
            .transport(Arc::clone(&recorder) as Arc<_>)
            .build();
        let password = Uuid::new_v4().to_string();
        client.create_account(&email, &password).await?;
        client.authenticate(&email, &password).await?;
        client.setup_encryption_new(&password).await?;
        let device_id = client.register_device("laptop", "linux").await?.id;
        client.push(device_id, batches.to_vec()).await?;
        let batches = recorder.take()?;
        for single in singles {
            client.push(device_id, vec![single.clone()]).await?;
        }
        let singles = recorder.take()?;
        Ok(Self {
            recorder,
            client,
            device_id,
            batches,
            singles,
        })
    }

    /// The requests for every page of this user's full batches: a page holds exactly one.
    fn pulls(&self) -> anyhow::Result<Vec<Bytes>> {
        let ends = self.batches.iter().map(|batch| Cursor::at(batch.after));
        let cursors = std::iter::once(Cursor::START).chain(ends).take(self.batches.len());
        cursors
            .map(|cursor| {
                let pull = Pull {
                    device_id: self.device_id,
                    cursor,
                    max_bytes: None,
                    ahead: false,
                    avoid_snapshot: false,
                };
                Ok(minicbor_serde::to_vec(pull)?.into())
            })
            .collect()
    }
}

fn write_each(folder: &Path, bodies: Vec<Bytes>) -> anyhow::Result<()> {
    fs::create_dir(folder)?;
    for (number, body) in bodies.iter().enumerate() {
        fs::write(folder.join(format!("{number:06}")), body)?;
    }
    Ok(())
}

/// The result of many connections together.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) elapsed: Duration,
    pub(super) requests: u64,
    sent: u64,
    received: u64,
    server_cpu: Option<Duration>,
    /// Of every request, sorted.
    latencies: Vec<Duration>,
}

impl Run {
    /// Each member sends its bodies over a connection of its own, the next one when the one before is answered. The
    /// clock starts when all are connected.
    pub(super) async fn drive(
        server: &ServerProcess,
        path: &'static str,
        work: Vec<(&Member, Vec<Bytes>)>,
    ) -> anyhow::Result<Self> {
        let connecting = work.into_iter().map(|(member, bodies)| async move {
            let line = Line::open(server.address(), member.recorder.authorization()?).await?;
            anyhow::Ok((line, bodies))
        });
        let ready = try_join_all(connecting).await?;
        let usage = server.usage();
        let started = Instant::now();
        let tasks: Vec<_> = ready
            .into_iter()
            .map(|(mut line, bodies)| {
                tokio::spawn(async move {
                    let (mut sent, mut received, mut latencies) = (0, 0, Vec::with_capacity(bodies.len()));
                    for body in bodies {
                        sent += body.len() as u64;
                        let started = Instant::now();
                        received += line.post(path, body).await?;
                        latencies.push(started.elapsed());
                    }
                    anyhow::Ok((sent, received, latencies))
                })
            })
            .collect();
        let (mut sent, mut received, mut latencies) = (0, 0, Vec::new());
        for task in tasks {
            let (task_sent, task_received, task_latencies) = task.await.context("a task of the bench panicked")??;
            sent += task_sent;
            received += task_received;
            latencies.extend(task_latencies);
        }
        let elapsed = started.elapsed();
        latencies.sort();
        Ok(Self {
            elapsed,
            requests: latencies.len() as u64,
            sent,
            received,
            server_cpu: server.cpu_since(&usage),
            latencies,
        })
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64()
    }

    /// Microseconds of the server for each of `count`.
    fn cpu_of(&self, count: u64) -> Option<f64> {
        Some(per(self.server_cpu?.as_secs_f64() * 1e6, count))
    }
}
