//! The one program that users run: the server, its administration, the demo and the benchmark.
//!
//! What this crate deliberately is not: it decides nothing about the protocol, the store or the encryption, which live
//! in the libraries. It is the only place that prints and that reads the environment.
//!
//! Invariant: a failure is one line that says what failed and, where something can be done, one that says what. The exit
//! code is 0 if all went well, 1 if it did not, 2 if the command line was wrong.

mod account_data;
mod admin;
mod bench;
mod cli;
mod demo;
mod failure;
mod screen;
mod serve;
mod units;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    cli::{Cli, Command},
    failure::Failure,
};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(failure) => {
            failure.report();
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Serve(args) => serve::run(*args),
        Command::App(command) => admin::run_app(command),
        Command::Account(command) => admin::run_account(command),
        Command::Token(command) => admin::run_token(command),
        Command::Demo(args) => demo::run(args),
        Command::Bench(args) => bench::run(args),
    }
}

/// The runtime of commands that do not serve others.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
