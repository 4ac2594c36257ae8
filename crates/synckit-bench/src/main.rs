//! Every measurement of this project: times of the whole, times of the store alone, and single hot paths for a profiler.
//!
//! `measure` times the SDK and the server beside the limits of the machine. `store` times a store alone.
//! `run` runs one hot path N times; `cargo xtask instructions` counts its instructions under Valgrind, in two runs with
//! different N, so that the start of the process cancels out. `prepare` makes the sealed requests that some of those
//! paths need.
//!
//! This crate is deliberately not a part of the program that operators install, and no judge. A missed target fails
//! nothing, because the speed of a machine at some moment is not a defect; only counted instructions fail a build.

mod cli;
mod measure;
mod paths;
mod program;
mod store;

use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Measure(args) => runtime()?.block_on(measure::run(&args)),
        Command::Store { directory, database } => runtime()?.block_on(store::run(directory, database)),
        Command::Prepare(args) => runtime()?.block_on(measure::prepare(&args)),
        // On a runtime of its own, if the path needs one: threads that nothing asked for would be counted.
        Command::Run { path, times, fixture } => paths::run(path, times, fixture.as_deref()),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
