//! The product page's own loop, at random: pull, blind upsert, push; several devices; crashes between any two steps;
//! requests and answers that are lost. In the end every device holds the same rows, and no edit was lost.
//!
//! A failing run prints its seed; `SYNCKIT_TEST_SEED=<seed>` replays it alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use synckit_client::{BatchId, ChangeEntry, ChangeOp, Cursor, DeviceId, Error, ProblemCode, SyncKitClient};

use crate::{
    interference::{Fate, Interference},
    world::{User, World, change, pull_all},
};

const SEEDS: u64 = 12;
const STEPS: usize = 60;
const DEVICES: usize = 3;
const ROWS: usize = 6;

type Rows = BTreeMap<String, serde_json::Value>;

/// What an app keeps on its disk: it survives a crash.
#[derive(Default)]
struct Disk {
    rows: Rows,
    pending: Vec<ChangeEntry>,
    cursor: Cursor,
    /// The batch that was about to be pushed, for the devices that push with an id.
    outgoing: Option<(BatchId, usize)>,
}

struct Device {
    name: String,
    id: DeviceId,
    client: SyncKitClient,
    disk: Disk,
    /// Whether it pushes with an id that it noted before.
    with_id: bool,
}

/// How many messages of a thousand are lost, each way.
const LOST_PER_MILLE: u64 = 120;

fn flaky(seed: u64) -> Arc<Interference> {
    let counter = AtomicU64::new(seed);
    Interference::new(move |request| {
        // Nothing but the log is lost: it is what this test is about, and a lost sign-in costs an Argon2id.
        if !matches!(
            request.uri().path(),
            "/api/sync/push" | "/api/sync/pull" | "/api/sync/chain"
        ) {
            return Fate::Delivered;
        }
        let draw = StdRng::seed_from_u64(counter.fetch_add(1, Ordering::SeqCst)).gen_range(0..1000);
        match draw {
            0..LOST_PER_MILLE => Fate::RequestLost,
            LOST_PER_MILLE.. if draw < 2 * LOST_PER_MILLE => Fate::AnswerLost,
            _ => Fate::Delivered,
        }
    })
}

impl Device {
    /// The app starts again, with what is on its disk.
    fn restart(&mut self, world: &World, user: &User, seed: u64) {
        self.client = world.resumed(user, &self.name, flaky(seed));
        self.client.resume_at(self.disk.cursor);
    }

    fn edit(&mut self, rng: &mut StdRng, edits: &mut BTreeSet<String>) {
        let row = format!("row{}", rng.gen_range(0..ROWS));
        let entry = if rng.gen_bool(0.2) {
            self.disk.rows.remove(&row);
            ChangeEntry {
                op: ChangeOp::Delete,
                data: None,
                ..change("t", &row)
            }
        } else {
            let value = serde_json::json!({ "edit": format!("{}-{}", self.name, edits.len()) });
            edits.insert(value["edit"].as_str().unwrap().to_owned());
            self.disk.rows.insert(row.clone(), value.clone());
            ChangeEntry {
                op: ChangeOp::Update,
                data: Some(value),
                ..change("t", &row)
            }
        };
        self.disk.pending.push(entry);
    }

    /// One turn of the page's loop. Stops, as a crash would, where `crash` says.
    async fn sync(&mut self, crash: &mut impl FnMut() -> bool) -> Result<(), Error> {
        loop {
            let (changes, cursor, has_more) = self.client.pull(self.id, self.disk.cursor).await?;
            if crash() {
                return Ok(());
            }
            // The app stores the rows and the cursor in one transaction.
            for change in &changes {
                apply(&mut self.disk.rows, change);
            }
            self.disk.cursor = cursor;
            if crash() {
                return Ok(());
            }
            if !has_more {
                break;
            }
        }
        if self.with_id {
            self.push_exactly_once(crash).await
        } else {
            self.push(crash).await
        }
    }

    async fn push(&mut self, crash: &mut impl FnMut() -> bool) -> Result<(), Error> {
        let count = self.disk.pending.len();
        let cursor = self.client.push(self.id, self.disk.pending.clone()).await?;
        if crash() {
            return Ok(());
        }
        self.disk.pending.drain(..count);
        self.disk.cursor = cursor;
        Ok(())
    }

    async fn push_exactly_once(&mut self, crash: &mut impl FnMut() -> bool) -> Result<(), Error> {
        if self.disk.outgoing.is_none() && !self.disk.pending.is_empty() {
            self.disk.outgoing = Some((SyncKitClient::new_batch_id(), self.disk.pending.len()));
        }
        let Some((batch_id, count)) = self.disk.outgoing else {
            return Ok(());
        };
        let outgoing = self.disk.pending[..count].to_vec();
        let pushed = self
            .client
            .push_at(self.id, self.disk.cursor, Some(batch_id), outgoing.clone())
            .await
            .map_err(Error::from);
        let cursor = match pushed {
            // Another device was faster. The next turn pulls first.
            Err(Error::Behind { .. }) => return Ok(()),
            Err(error) if is_compacted(&error) => {
                // The server says that it is stored, so far back that nobody can see it. Whole rows may come twice.
                self.disk.outgoing = None;
                return self.push(crash).await;
            }
            pushed => pushed?,
        };
        if crash() {
            return Ok(());
        }
        if cursor.seq() > self.disk.cursor.seq() {
            // The batch follows everything that was pulled, so its rows are the newest.
            for change in &outgoing {
                apply(&mut self.disk.rows, change);
            }
            self.disk.cursor = cursor;
        }
        self.disk.pending.drain(..count);
        self.disk.outgoing = None;
        Ok(())
    }
}

fn apply(rows: &mut Rows, change: &ChangeEntry) {
    match change.op {
        ChangeOp::Insert | ChangeOp::Update => {
            rows.insert(change.row_id.clone(), change.data.clone().unwrap());
        }
        ChangeOp::Delete => {
            rows.remove(&change.row_id);
        }
    }
}

/// An error that a flaky network explains; anything else is a finding.
fn is_network(error: &Error) -> bool {
    matches!(error, Error::Network(_))
}

/// Whether devices also fold, at any moment, and the server lets the log go at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Folding {
    Never,
    Often,
}

/// The log was cut under a push whose answer was lost.
fn is_compacted(error: &Error) -> bool {
    error.problem_code() == Some(ProblemCode::CursorCompacted)
}

async fn run(world: &World, seed: u64, folding: Folding) {
    let mut rng = StdRng::seed_from_u64(seed);
    let user = world.user().await;
    let mut devices = Vec::new();
    for index in 0..DEVICES {
        let (name, (client, id)) = match index {
            0 => ("laptop".to_owned(), world.first_device(&user).await),
            _ => (
                format!("device{index}"),
                world.next_device(&user, &format!("device{index}")).await,
            ),
        };
        devices.push(Device {
            name,
            id,
            client,
            disk: Disk::default(),
            with_id: index % 2 == 1,
        });
    }
    for device in &mut devices {
        device.restart(world, &user, rng.r#gen());
    }
    let mut edits = BTreeSet::new();
    for _ in 0..STEPS {
        let device = devices.choose_mut(&mut rng).unwrap();
        if rng.gen_bool(0.5) {
            device.edit(&mut rng, &mut edits);
            continue;
        }
        if folding == Folding::Often && rng.gen_bool(0.2) {
            if let Err(error) = device.client.fold(device.id).await {
                assert!(is_network(&error), "{error:?}");
            }
            continue;
        }
        let countdown: Option<usize> = rng.gen_bool(0.3).then(|| rng.gen_range(0..4));
        let mut passed = 0;
        let mut crashed = false;
        let mut crash = || {
            crashed = countdown == Some(passed);
            passed += 1;
            crashed
        };
        if let Err(error) = device.sync(&mut crash).await {
            let explained = is_network(&error) || (folding == Folding::Often && is_compacted(&error));
            assert!(explained, "{error:?}");
        }
        if crashed {
            device.restart(world, &user, rng.r#gen());
        }
    }
    // The network gets well, and everybody syncs until nobody has anything to say.
    for device in &mut devices {
        device.client = world.resumed(&user, &device.name, Interference::new(|_| Fate::Delivered));
        device.client.resume_at(device.disk.cursor);
    }
    for _ in 0..2 {
        for device in &mut devices {
            device.sync(&mut || false).await.unwrap();
        }
    }
    for device in &mut devices {
        device.sync(&mut || false).await.unwrap();
        assert!(device.disk.pending.is_empty());
    }

    let (log, _) = pull_all(&devices[0].client, devices[0].id, Cursor::START)
        .await
        .unwrap();
    let mut folded = Rows::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in &log {
        apply(&mut folded, entry);
        if let Some(edit) = entry.data.as_ref().and_then(|data| data["edit"].as_str()) {
            *seen.entry(edit).or_default() += 1;
        }
    }
    for device in &devices {
        assert_eq!(device.disk.rows, folded, "{} differs from the log", device.name);
        if folding == Folding::Often {
            // What was overwritten is gone, as it should be.
            continue;
        }
        for edit in edits
            .iter()
            .filter(|edit| edit.starts_with(&format!("{}-", device.name)))
        {
            let times = seen.get(edit.as_str()).copied().unwrap_or(0);
            assert!(times >= 1, "the edit {edit} was lost");
            assert!(
                times == 1 || !device.with_id,
                "the edit {edit} of a push with an id is there {times} times"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_device_converges_and_nothing_is_lost() {
    run_seeds(&World::start().await, Folding::Never).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_converge_while_the_log_is_compacted() {
    // Every device converges while the log is folded and cut under it.
    let world = World::start_with(|config| {
        config.sweep_interval = Duration::from_millis(5);
        // Every snapshot has settled, and no device holds the log.
        config.retention.snapshot_settle = Duration::ZERO;
        config.retention.device_active = Duration::ZERO;
    })
    .await;
    run_seeds(&world, Folding::Often).await;
}

async fn run_seeds(world: &World, folding: Folding) {
    let seeds = match std::env::var("SYNCKIT_TEST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    };
    for seed in seeds {
        // Shown when the run fails.
        eprintln!("seed {seed}");
        run(world, seed, folding).await;
    }
}
