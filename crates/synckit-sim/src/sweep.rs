//! Many seeds on all cores, and the seeds that are kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use parking_lot::Mutex;

use crate::{
    golden::Golden,
    run::{Finding, Report, run},
};

/// Seeds that once failed. They run with every sweep, for ever.
const KEPT: &str = include_str!("../seeds.txt");

/// The result of many runs.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Runs that kept every promise.
    pub passed: u64,
    /// Requests of all runs.
    pub requests: usize,
    /// Edits of all runs.
    pub edits: usize,
    /// The runs that found something. The sweep stops at the first few.
    pub findings: Vec<Box<Finding>>,
}

/// Findings after which a sweep stops: they are most likely one.
const FINDINGS_MAX: usize = 3;

/// The seeds that once failed.
#[must_use]
pub fn kept_seeds() -> Vec<u64> {
    KEPT.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter_map(|seed| seed.parse().ok())
        .collect()
}

/// Runs seeds on as many threads as the machine has cores.
pub fn sweep(golden: &Arc<Golden>, seeds: &[u64]) -> Sweep {
    let next = AtomicU64::new(0);
    let total = Mutex::new(Sweep::default());
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
                    let Some(seed) = seeds.get(index) else { return };
                    let result = run(golden, *seed);
                    let mut total = total.lock();
                    match result {
                        Ok(Report { requests, edits, .. }) => {
                            total.passed += 1;
                            total.requests += requests;
                            total.edits += edits;
                        }
                        Err(finding) => total.findings.push(finding),
                    }
                    if total.findings.len() >= FINDINGS_MAX {
                        return;
                    }
                }
            });
        }
    });
    total.into_inner()
}
