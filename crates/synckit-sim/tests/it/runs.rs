//! Seeded runs: every device converges to the fold of the log, every acknowledged edit is there, nothing cries wolf.
//!
//! `SYNCKIT_SIM_SEED=<seed>` runs one seed, `SYNCKIT_SIM_RUNS=<count>` another number of them, `SYNCKIT_SIM_REPEATED=<count>`
//! so many of them twice.

use synckit_sim::{
    run::{ROTATION_EVERY, run},
    sweep::{kept_seeds, sweep},
};

use crate::world::golden;

const RUNS: u64 = 5_000;
const REPEATED: u64 = 40;

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn every_promise_is_kept_on_every_seed() {
    let seeds: Vec<u64> = match number_in("SYNCKIT_SIM_SEED") {
        Some(seed) => vec![seed],
        None => kept_seeds()
            .into_iter()
            .chain(0..number_in("SYNCKIT_SIM_RUNS").unwrap_or(RUNS))
            .collect(),
    };
    let swept = sweep(golden(), &seeds);
    for finding in &swept.findings {
        // Shown because the test fails below.
        eprintln!(
            "{}\nseed {}: {:#}\nreplay with: SYNCKIT_SIM_SEED={} cargo test -p synckit-sim",
            finding.story, finding.seed, finding.error, finding.seed
        );
    }
    assert!(
        swept.findings.is_empty(),
        "{} seeds found something",
        swept.findings.len()
    );
    assert_eq!(swept.passed, seeds.len() as u64);
}

#[test]
fn a_seed_replays() {
    // Of the runs that change keys, that go back, that cut, and that do both of these, one each is among them.
    let others = [ROTATION_EVERY - 1, 7, 13, 33, 47];
    for seed in (0..number_in("SYNCKIT_SIM_REPEATED").unwrap_or(REPEATED)).chain(others) {
        let first = run(golden(), seed).map_err(|finding| finding.error).unwrap();
        let second = run(golden(), seed).map_err(|finding| finding.error).unwrap();
        let lines = first.story.lines().zip(second.story.lines());
        let difference = lines.enumerate().find(|(_, (first, second))| first != second);
        assert_eq!(first.digest, second.digest, "seed {seed} differs at {difference:?}");
        assert_eq!(first, second, "seed {seed}");
    }
}
