//! The hot paths, one at a time, to be counted.

mod cipher;
mod server;

use std::path::Path;

use anyhow::Context as _;

use crate::cli::HotPath;

/// Runs a path so many times.
pub(crate) fn run(path: HotPath, times: u32, fixture: Option<&Path>) -> anyhow::Result<()> {
    let fixture = || fixture.context("this path needs the directory that `synckit-bench prepare` made");
    match path {
        HotPath::SealBatch => cipher::seal_batch(times),
        HotPath::OpenBatch => cipher::open_batch(times),
        HotPath::ChainStep => cipher::chain_step(times),
        HotPath::OpenSnapshotPart => cipher::open_snapshot_part(times),
        HotPath::OpenEnvelope => cipher::open_envelope(times),
        HotPath::SealFile => cipher::seal_file(times),
        HotPath::PushBatch => server::push_batch(times, fixture()?),
        HotPath::PushEntry => server::push_entry(times, fixture()?),
        HotPath::PullPage => server::pull_page(times, fixture()?),
    }
}
