//! Worlds in which the server is restored from an older copy of itself, in which devices fold and the log is cut, or
//! both: every device rejoins, and the newest version of every row that any of them ever had is there in the end.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use synckit_client::{ChangeEntry, ChangeOp};

use crate::{
    endpoint::{Endpoint, SimClock, copy_data_dir},
    golden::{DEVICES, Golden, run_directory},
    keeper::{Keeper, Place, Versions, Witness},
    network::{Link, Network, Weather},
    run::{Report, STRAGGLERS},
};

/// What happens to the server of a seed, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setback {
    /// It is restored from an older copy.
    pub restored: bool,
    /// Devices fold, and it cuts their logs.
    pub cut: bool,
}

impl Setback {
    /// One seed of twenty for each, and one of sixty of those for both. `None`: an ordinary world.
    #[must_use]
    pub fn of_seed(seed: u64) -> Option<Self> {
        let setback = Self {
            restored: seed % 20 == 7 || seed % 60 == 33,
            cut: seed % 20 == 13 || seed % 60 == 47,
        };
        (setback.restored || setback.cut).then_some(setback)
    }
}

/// How old a snapshot is before the log may be cut: shorter than a run.
const SETTLE: Duration = Duration::from_secs(4);
/// How long a device that says nothing holds the log.
const ACTIVE: Duration = Duration::from_secs(15);
/// How long a storm lasts, at least.
const STORM_MS: u64 = 30_000;
/// How often the server looks what it may let go.
const RETAIN_EVERY_MS: u64 = 2_500;

/// Runs the world of a seed.
///
/// # Errors
/// A finding.
pub(crate) async fn live(
    golden: &Arc<Golden>,
    seed: u64,
    setback: Setback,
    story: &Mutex<Option<Arc<Network>>>,
) -> anyhow::Result<Report> {
    let mut rng = StdRng::seed_from_u64(seed);
    let directory = run_directory("setback")?;
    golden.copy_to(directory.path())?;
    let clock = SimClock::starting_at(golden.made_at);
    let data_dir = directory.path().join("data");
    let endpoint = Endpoint::open_with_retention(&data_dir, clock, SETTLE, ACTIVE).await?;
    let count = rng.gen_range(3..=DEVICES);
    let network = Arc::new(Network::new(Arc::new(endpoint), count));
    *story.lock() = Some(Arc::clone(&network));
    let weather = Weather {
        trouble_per_mille: [0, 100, 250][rng.gen_range(0..3)],
        delay_max: Duration::from_millis([5, 200, 2_000][rng.gen_range(0..3)]),
    };
    let place = Place {
        golden: Arc::clone(golden),
        directory: directory.path().to_owned(),
        network: Arc::clone(&network),
        witness: Arc::<Witness>::default(),
        folds: setback.cut,
    };
    let mut keepers = Vec::new();
    for index in 0..count {
        let link = Link::new(Arc::clone(&network), index, weather, StdRng::seed_from_u64(rng.r#gen()));
        let own = StdRng::seed_from_u64(rng.r#gen());
        keepers.push(Keeper::start(index, place.clone(), link, own)?);
    }

    let living: Vec<_> = keepers
        .into_iter()
        .map(|mut keeper| {
            let steps = rng.gen_range(10..=22);
            tokio::spawn(async move {
                let lived = keeper.live(steps).await;
                (keeper, lived)
            })
        })
        .collect();
    let copied_ms = rng.gen_range(1..STORM_MS / 2);
    let restored_ms = rng.gen_range(copied_ms + 1_000..STORM_MS);
    let times = setback.restored.then_some((copied_ms, restored_ms));
    let server = fate(&place, setback, times, directory.path().join("backup"));
    let (living, server) = tokio::join!(futures_util::future::join_all(living), server);
    server?;
    let mut keepers = Vec::new();
    for keeper in living {
        let (keeper, lived) = keeper.context("a device panicked")?;
        lived?;
        keepers.push(keeper);
    }

    network.heal();
    tokio::time::sleep(STRAGGLERS).await;
    // Who rejoins last has something to say to all the others.
    for _ in 0..3 {
        for keeper in &mut keepers {
            keeper.settle().await?;
        }
    }
    let expected = place.witness.newest();
    // A row that came through a snapshot is an insertion, whatever it was.
    let shown = |rows: &Versions| -> Vec<(String, i64, bool)> {
        let row = |row: &ChangeEntry| {
            (
                row.row_id.clone(),
                row.timestamp.as_micros(),
                row.op == ChangeOp::Delete,
            )
        };
        rows.values().map(row).collect()
    };
    let newest = shown(&expected);
    for keeper in &keepers {
        let rows = shown(&keeper.rows());
        ensure!(
            rows == newest,
            "device {} has {rows:?}, and the newest ever written are {newest:?}",
            keeper.index
        );
    }
    let auditor = keepers.first().context("no device")?;
    let log = shown(&auditor.rows_of_the_log().await?);
    ensure!(
        log == newest,
        "the log ends with {log:?}, and the newest ever written are {newest:?}"
    );
    let report = Report {
        digest: network.trace.digest(),
        requests: network.trace.requests(),
        edits: expected.len(),
        entries: log.len(),
        story: network.trace.story(),
    };
    network.endpoint().close();
    Ok(report)
}

/// Something that happens to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Copied,
    Restored,
    Retains,
}

/// What happens to the server, one thing after another.
async fn fate(place: &Place, setback: Setback, times: Option<(u64, u64)>, copy: PathBuf) -> anyhow::Result<()> {
    let network = &place.network;
    let mut events = Vec::new();
    if let Some((copied_ms, restored_ms)) = times {
        events.extend([(copied_ms, Event::Copied), (restored_ms, Event::Restored)]);
    }
    if setback.cut {
        let step = usize::try_from(RETAIN_EVERY_MS)?;
        events.extend(
            (RETAIN_EVERY_MS..2 * STORM_MS)
                .step_by(step)
                .map(|at_ms| (at_ms, Event::Retains)),
        );
    }
    events.sort_unstable();
    for (at_ms, event) in events {
        network.sleep_until_nobody_asks(at_ms).await;
        let endpoint = network.endpoint();
        match event {
            Event::Copied => copy_data_dir(&endpoint.data_dir(), &copy)?,
            Event::Restored => {
                place.witness.went_back.store(true, Ordering::SeqCst);
                endpoint.restore(&copy).await?;
            }
            Event::Retains => while endpoint.retain().await? {},
        }
    }
    Ok(())
}
