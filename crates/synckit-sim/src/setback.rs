//! The setbacks of a run's server besides its network: it crashes, its clock jumps, it is restored from an older copy
//! of itself, and it cuts its logs.

use std::{path::Path, time::Duration};

use rand::{Rng as _, rngs::StdRng};

use crate::{endpoint::copy_data_dir, ledger::Ledger, network::Network};

/// More than a token lives.
const CLOCK_JUMP: Duration = Duration::from_secs(8 * 24 * 3600);
/// Minimum length of a storm with a setback.
const STORM_MS: u64 = 30_000;
/// How often the server looks for log to cut.
const RETAIN_EVERY_MS: u64 = 2_500;
/// How often it does so: until twice the time of a storm.
const RETAINS: u64 = 2 * STORM_MS / RETAIN_EVERY_MS;

/// The setbacks of a seed's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setback {
    /// It is restored from an older copy.
    pub restored: bool,
    /// Devices fold, and it cuts their logs.
    pub cut: bool,
}

impl Setback {
    /// One seed of twenty for each, and one of sixty of those for both; none for the others.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Self {
            restored: seed % 20 == 7 || seed % 60 == 33,
            cut: seed % 20 == 13 || seed % 60 == 47,
        }
    }

    /// Whether anything sets this server back.
    #[must_use]
    pub fn any(self) -> bool {
        self.restored || self.cut
    }
}

/// Something that happens to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Crashes,
    ClockJumps,
    IsCopied,
    IsRestored,
    Retains,
}

/// Everything that happens to the server of one run, each at its simulated millisecond.
#[derive(Debug)]
pub struct Fate(Vec<(u64, Event)>);

impl Fate {
    /// Draws a fate.
    pub fn draw(setback: Setback, rng: &mut StdRng) -> Self {
        let mut events = Vec::new();
        if rng.gen_bool(0.3) {
            events.push((rng.gen_range(1..15_000), Event::Crashes));
        }
        if rng.gen_bool(0.2) {
            events.push((rng.gen_range(1..15_000), Event::ClockJumps));
        }
        if setback.restored {
            let copied_ms = rng.gen_range(1..STORM_MS / 2);
            let restored_ms = rng.gen_range(copied_ms + 1_000..STORM_MS);
            events.extend([(copied_ms, Event::IsCopied), (restored_ms, Event::IsRestored)]);
        }
        if setback.cut {
            events.extend((1..RETAINS).map(|count| (count * RETAIN_EVERY_MS, Event::Retains)));
        }
        events.sort_unstable();
        Self(events)
    }

    /// Lets it happen, one event after another.
    ///
    /// # Errors
    /// If the server does not start again.
    pub async fn happen(self, network: &Network, ledger: &Ledger, directory: &Path) -> anyhow::Result<()> {
        let copy = directory.join("backup");
        for (at_ms, event) in self.0 {
            network.sleep_until_nobody_asks(at_ms).await;
            let endpoint = network.endpoint();
            match event {
                Event::Crashes => endpoint.crash_and_restart(&directory.join("data-after-crash")).await?,
                Event::ClockJumps => endpoint.clock().jump(CLOCK_JUMP),
                Event::IsCopied => copy_data_dir(&endpoint.data_dir(), &copy)?,
                Event::IsRestored => {
                    ledger.goes_back();
                    endpoint.restore(&copy).await?;
                }
                Event::Retains => while endpoint.retain().await? {},
            }
        }
        Ok(())
    }
}
