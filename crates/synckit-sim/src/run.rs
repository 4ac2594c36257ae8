//! One run of the simulation: a seed in, a verdict out.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;

use crate::{
    crash::BLOCKING_THREADS,
    device::{Device, Policy, Rows, Surroundings},
    endpoint::{Endpoint, SimClock},
    golden::{DEVICES, Golden, run_directory},
    ledger::Ledger,
    network::{Link, Network, Weather},
    setback::{Fate, Setback},
};

/// Longer than any message of a rough network is under way.
const STRAGGLERS: Duration = Duration::from_secs(200);
/// Longer than guesses at passwords are counted.
const GUESSES_FORGOTTEN: Duration = Duration::from_secs(3600);
/// How old a snapshot is before the log may be cut: shorter than a run.
const SNAPSHOT_SETTLE: Duration = Duration::from_secs(4);
/// How long a device that says nothing holds the log.
const DEVICE_ACTIVE: Duration = Duration::from_secs(15);
/// Every so many seeds, the devices of one change their key now and then. Each change costs an Argon2id, on every
/// device, so these runs take ten times as long as the others.
pub const ROTATION_EVERY: u64 = 200;

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The hash of everything that happened: equal whenever the same seed runs.
    pub digest: String,
    /// Requests that reached the server, or a gateway.
    pub requests: usize,
    /// Edits that were made, all of which are in the log.
    pub edits: usize,
    /// Entries in the log.
    pub entries: usize,
    /// Everything that happened, for people.
    pub story: String,
}

/// A run that found something.
#[derive(Debug)]
pub struct Finding {
    /// The seed that shows it again.
    pub seed: u64,
    /// The broken promise.
    pub error: anyhow::Error,
    /// Everything that happened, for people.
    pub story: String,
}

/// Runs a seed.
///
/// # Errors
/// [`Finding`], boxed, because a story is long.
pub fn run(golden: &Arc<Golden>, seed: u64) -> Result<Report, Box<Finding>> {
    let story = Arc::new(Mutex::new(None));
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .max_blocking_threads(BLOCKING_THREADS)
        // Tasks that need no thread run first; the default polls the results of threads now and then, as
        // often as it happens to.
        .global_queue_interval(u32::MAX)
        .build()
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(World::live(golden, seed, &story)));
    result.map_err(|error| {
        let network: Option<Arc<Network>> = story.lock().take();
        Box::new(Finding {
            seed,
            error,
            story: network.map_or_else(String::new, |network| network.trace.story()),
        })
    })
}

struct World {
    network: Arc<Network>,
    ledger: Arc<Ledger>,
    setback: Setback,
    devices: Vec<Device>,
    directory: tempfile::TempDir,
    rng: StdRng,
}

impl World {
    async fn live(golden: &Arc<Golden>, seed: u64, story: &Mutex<Option<Arc<Network>>>) -> anyhow::Result<Report> {
        let mut world = Self::begin(golden, seed).await?;
        *story.lock() = Some(Arc::clone(&world.network));
        world.storm().await?;
        world.settle().await?;
        let report = world.check().await;
        world.network.endpoint().close();
        report
    }

    async fn begin(golden: &Arc<Golden>, seed: u64) -> anyhow::Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let setback = Setback::of_seed(seed);
        let directory = run_directory("run")?;
        golden.copy_to(directory.path())?;
        let clock = SimClock::starting_at(golden.made_at);
        let data_dir = directory.path().join("data");
        let endpoint = Endpoint::open_as(&data_dir, clock, |config| {
            config.retention.snapshot_settle = SNAPSHOT_SETTLE;
            config.retention.device_active = DEVICE_ACTIVE;
        })
        .await?;
        let count = rng.gen_range(3..=DEVICES);
        let network = Arc::new(Network::new(Arc::new(endpoint), count));
        let weather = Weather {
            trouble_per_mille: [0, 100, 250, 450][rng.gen_range(0..4)],
            delay_max: Duration::from_millis([5, 200, 2_000][rng.gen_range(0..3)]),
        };
        let ledger = Arc::<Ledger>::default();
        let around = Surroundings {
            golden: Arc::clone(golden),
            directory: directory.path().to_owned(),
            network: Arc::clone(&network),
            ledger: Arc::clone(&ledger),
            rotates: seed % ROTATION_EVERY == ROTATION_EVERY - 1,
            folds: setback.cut,
        };
        let first_policy = rng.gen_range(0..2);
        let devices = (0..count)
            .map(|index| {
                let policy = if setback.any() {
                    Policy::Newest
                } else {
                    [Policy::Plain, Policy::Merging][(first_policy + index) % 2]
                };
                let link = Link::new(Arc::clone(&network), index, weather, StdRng::seed_from_u64(rng.r#gen()));
                Device::start(index, policy, around.clone(), link, StdRng::seed_from_u64(rng.r#gen()))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            network,
            ledger,
            setback,
            devices,
            directory,
            rng,
        })
    }

    /// Everybody lives at once, while things happen to the server.
    async fn storm(&mut self) -> anyhow::Result<()> {
        let steps = if self.setback.any() { 10..=22 } else { 6..=14 };
        let steps: Vec<usize> = self.devices.iter().map(|_| self.rng.gen_range(steps.clone())).collect();
        let living: Vec<_> = self
            .devices
            .drain(..)
            .zip(steps)
            .map(|(mut device, steps)| {
                tokio::spawn(async move {
                    let lived = device.live(steps).await;
                    (device, lived)
                })
            })
            .collect();
        let fate = Fate::draw(self.setback, &mut self.rng);
        let server = fate.happen(&self.network, &self.ledger, self.directory.path());
        let (living, server) = tokio::join!(futures_util::future::join_all(living), server);
        server?;
        for device in living {
            let (device, lived) = device.context("a device panicked")?;
            lived?;
            self.devices.push(device);
        }
        Ok(())
    }

    /// The network gets well, and everybody syncs until nobody has anything to say.
    async fn settle(&mut self) -> anyhow::Result<()> {
        self.network.heal();
        tokio::time::sleep(STRAGGLERS).await;
        self.network.endpoint().clock().jump(GUESSES_FORGOTTEN);
        // The last device to rejoin has rows for all the others.
        for _ in 0..3 {
            for device in &mut self.devices {
                device.settle().await?;
            }
        }
        for device in &self.devices {
            device.check_files().await?;
        }
        Ok(())
    }

    /// Checks that every device holds the log's rows, and that the log keeps every promise to its devices.
    async fn check(&self) -> anyhow::Result<Report> {
        let auditor = self.devices.first().context("no device")?;
        let log = auditor.whole_log().await?;
        let last: Rows = log.iter().map(|entry| (entry.row_id.clone(), entry.clone())).collect();
        for device in &self.devices {
            ensure!(
                shown(&device.rows()) == shown(&last),
                "device {} has {:?}, and the log ends with {:?}",
                device.index,
                shown(&device.rows()),
                shown(&last)
            );
        }
        self.ledger.check_made(&log)?;
        if self.setback.any() {
            let newest = self.ledger.newest();
            ensure!(
                shown(&last) == shown(&newest),
                "the log ends with {:?}, and the newest ever written are {:?}",
                shown(&last),
                shown(&newest)
            );
        } else {
            self.ledger.check_pushed(&log)?;
        }
        Ok(Report {
            digest: self.network.trace.digest(),
            requests: self.network.trace.requests(),
            edits: self.ledger.edits(),
            entries: log.len(),
            story: self.network.trace.story(),
        })
    }
}

/// Row, time and content of each row. Not its operation: a row that came through a snapshot is an insertion.
fn shown(rows: &Rows) -> Vec<(&str, i64, Option<&Value>)> {
    rows.values()
        .map(|row| (row.row_id.as_str(), row.timestamp.as_micros(), row.data.as_ref()))
        .collect()
}
