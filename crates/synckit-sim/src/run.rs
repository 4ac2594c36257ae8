//! One run of the simulation: a seed in, a verdict out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use synckit_client::ChangeEntry;

use crate::{
    crash::BLOCKING_THREADS,
    device::{Device, Ledger, Manner, Rows, Surroundings, apply},
    endpoint::{Endpoint, SimClock},
    golden::{DEVICES, Golden, run_directory},
    network::{Link, Network, Weather},
    setback::{self, Setback},
};

/// Longer than any message of a rough network is under way.
pub(crate) const STRAGGLERS: Duration = Duration::from_secs(200);
/// More than a token lives.
const CLOCK_JUMP: Duration = Duration::from_secs(8 * 24 * 3600);

/// Longer than guesses at passwords are counted.
const GUESSES_FORGOTTEN: Duration = Duration::from_secs(3600);
/// Every so many seeds, the devices of one change their key now and then. Each change costs an Argon2id, on every
/// device, so these runs take ten times as long as the others.
pub const ROTATION_EVERY: u64 = 200;

/// What a run did.
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
    /// What was found.
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
        // Everything that can go on without a thread goes on first; the default looks at threads now and then, as
        // often as it happens to.
        .global_queue_interval(u32::MAX)
        .build()
        .context("no runtime")
        .and_then(|runtime| {
            runtime.block_on(async {
                match Setback::of_seed(seed) {
                    Some(setback) => setback::live(golden, seed, setback, &story).await,
                    None => World::live(golden, seed, &story).await,
                }
            })
        });
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
        let directory = run_directory("run")?;
        golden.copy_to(directory.path())?;
        let clock = SimClock::starting_at(golden.made_at);
        let endpoint = Endpoint::open(&directory.path().join("data"), clock).await?;
        let count = rng.gen_range(3..=DEVICES);
        let network = Arc::new(Network::new(Arc::new(endpoint), count));
        let weather = Weather {
            trouble_per_mille: [0, 100, 250, 450][rng.gen_range(0..4)],
            delay_max: Duration::from_millis([5, 200, 2_000][rng.gen_range(0..3)]),
        };
        let ledger = Arc::<Ledger>::default();
        let surroundings = Surroundings {
            golden: Arc::clone(golden),
            directory: directory.path().to_owned(),
            network: Arc::clone(&network),
            ledger: Arc::clone(&ledger),
        };
        let first_manner = rng.gen_range(0..2);
        let rotates = seed % ROTATION_EVERY == ROTATION_EVERY - 1;
        let devices = (0..count)
            .map(|index| {
                let manner = [Manner::Plain, Manner::Merging][(first_manner + index) % 2];
                let link = Link::new(Arc::clone(&network), index, weather, StdRng::seed_from_u64(rng.r#gen()));
                let mut device = Device::start(index, manner, &surroundings, link, StdRng::seed_from_u64(rng.r#gen()))?;
                if rotates {
                    device.rotate_keys_now_and_then();
                }
                Ok(device)
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            network,
            ledger,
            devices,
            directory,
            rng,
        })
    }

    /// Everybody lives at once, while the server dies and its clock jumps.
    async fn storm(&mut self) -> anyhow::Result<()> {
        let steps: Vec<usize> = self.devices.iter().map(|_| self.rng.gen_range(6..=14)).collect();
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
        let fate = self.server_fate();
        let (living, server) = tokio::join!(futures_util::future::join_all(living), fate);
        server?;
        for device in living {
            let (device, lived) = device.context("a device panicked")?;
            lived?;
            self.devices.push(device);
        }
        Ok(())
    }

    /// What happens to the server.
    fn server_fate(&mut self) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let network = Arc::clone(&self.network);
        let crash_ms = self.rng.gen_bool(0.3).then(|| self.rng.gen_range(1..15_000));
        let jump_ms = self.rng.gen_bool(0.2).then(|| self.rng.gen_range(1..15_000));
        let new_data_dir = self.directory.path().join("data-after-crash");
        async move {
            let crash = async {
                if let Some(at_ms) = crash_ms {
                    network.sleep_until_nobody_asks(at_ms).await;
                    network.endpoint().crash_and_restart(&new_data_dir).await?;
                }
                anyhow::Ok(())
            };
            let jump = async {
                if let Some(at_ms) = jump_ms {
                    network.sleep_until_nobody_asks(at_ms).await;
                    network.endpoint().clock().jump(CLOCK_JUMP);
                }
            };
            tokio::join!(crash, jump).0
        }
    }

    /// The network gets well, and everybody syncs until nobody has anything to say.
    async fn settle(&mut self) -> anyhow::Result<()> {
        self.network.heal();
        tokio::time::sleep(STRAGGLERS).await;
        self.network.endpoint().clock().jump(GUESSES_FORGOTTEN);
        for _ in 0..2 {
            for device in &mut self.devices {
                device.settle().await?;
            }
        }
        for device in &self.devices {
            device.check_files().await?;
        }
        Ok(())
    }

    async fn check(&self) -> anyhow::Result<Report> {
        let auditor = self.devices.first().context("no device")?;
        let log = auditor.whole_log().await?;
        let mut folded = Rows::new();
        for entry in &log {
            apply(&mut folded, entry);
        }
        for device in &self.devices {
            ensure!(
                device.rows() == folded,
                "device {} differs from the fold of the log: {:?} and {folded:?}",
                device.index,
                device.rows()
            );
        }
        self.check_edits(&log)?;
        Ok(Report {
            digest: self.network.trace.digest(),
            requests: self.network.trace.requests(),
            edits: self.ledger.edits().len(),
            entries: log.len(),
            story: self.network.trace.story(),
        })
    }

    /// Every edit is in the log as often as its push promises, and nothing else is.
    fn check_edits(&self, log: &[ChangeEntry]) -> anyhow::Result<()> {
        let edits = self.ledger.edits();
        let mut times: BTreeMap<i64, usize> = BTreeMap::new();
        for entry in log {
            let number = entry.timestamp.as_micros();
            ensure!(edits.contains_key(&number), "nobody made the edit {number}");
            *times.entry(number).or_default() += 1;
        }
        let acknowledged = self.ledger.acknowledged();
        for (number, manner) in &edits {
            let times = times.get(number).copied().unwrap_or(0);
            ensure!(
                acknowledged.contains(number),
                "the edit {number} was never acknowledged"
            );
            ensure!(times > 0, "the edit {number} was acknowledged and is lost");
            ensure!(
                times == 1 || *manner == Manner::Plain,
                "the edit {number} of a {manner:?} push is there {times} times"
            );
        }
        Ok(())
    }
}
