//! The hot paths, one at a time, to be counted: `synckit-bench PATH TIMES [FIXTURE]` goes a path so many times.
//!
//! `cargo xtask instructions` runs this program under Valgrind twice for each path, once with more times than the other,
//! and divides the difference in instructions by the difference in times: what a process costs to start drops out.
//!
//! What it deliberately is not: a measurement of time. Instructions say little about how fast something is, but the same
//! code takes the same number of them on a busy machine and on an idle one, so that a change of it is seen.

mod cipher;
mod server;

use std::{env, path::PathBuf};

use anyhow::{Context as _, bail};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, times, fixture @ ..] = arguments.as_slice() else {
        bail!("usage: synckit-bench PATH TIMES [FIXTURE]");
    };
    let times = times.parse().context("TIMES must be a number")?;
    let fixture = || {
        let folder = fixture.first().map(PathBuf::from);
        folder.context("this path needs a fixture: see `synckit bench --prepare`")
    };
    match path.as_str() {
        "seal-batch" => cipher::seal_batch(times),
        "open-batch" => cipher::open_batch(times),
        "chain-step" => cipher::chain_step(times),
        "open-snapshot-part" => cipher::open_snapshot_part(times),
        "open-envelope" => cipher::open_envelope(times),
        "seal-file" => cipher::seal_file(times),
        "push-batch" => server::push_batch(times, &fixture()?),
        "push-entry" => server::push_entry(times, &fixture()?),
        "pull-page" => server::pull_page(times, &fixture()?),
        other => bail!("there is no path {other}"),
    }
}
