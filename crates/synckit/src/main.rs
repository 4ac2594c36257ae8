//! The one program that users run: the server, its administration, a user's devices and data, and the demo.
//!
//! This crate deliberately decides nothing about the protocol, the store or the encryption, which are in the libraries.
//! It is the only one that prints and that reads the environment.
//!
//! Invariant: a failure is one line with the message and, if possible, one line with a hint; with `--json` it is one
//! line of JSON. The exit code is 0 after success, 1 after a failure, 2 after an error in the command line (`doctor`
//! has its own codes).

mod account_data;
mod admin;
mod backup;
mod cli;
mod confirm;
mod demo;
mod device;
mod doctor;
mod estimate;
mod export;
mod exposure;
mod failure;
mod log;
mod login;
mod migrate_store;
mod notify;
mod outlet;
mod plans;
mod schema;
mod screen;
mod serve;
mod settings;
mod shell;
mod shown;
mod stop;
mod system;
mod teams;
mod units;
mod user;

use std::{ffi::OsString, process::ExitCode};

use synckit_server::billing::Plan;

use crate::{
    cli::{Cli, Command},
    failure::Failure,
};

fn main() -> ExitCode {
    // An error in the command line must also be reported in the requested format.
    if asks_for_json(std::env::args_os()) {
        screen::write_for_programs();
    }
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => return failure::report_usage(&error),
    };
    let ended = run(cli);
    stop::wait_if_ending();
    let code = ended.unwrap_or_else(|failure| {
        failure.report();
        ExitCode::FAILURE
    });
    let code = failure::unless_output_was_lost(code);
    screen::flush_background(log::LAST_LINES_TIMEOUT);
    code
}

fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments
        .skip(1)
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json")
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Serve(args) => serve::run(*args),
        Command::App(command) => admin::run_app(command),
        Command::Team(command) => teams::run(command),
        Command::Account(command) => admin::run_account(command),
        Command::Token(command) => admin::run_token(command),
        Command::Login { sign_in, confirm } => login::run(sign_in, confirm.as_deref()),
        Command::Logout => login::forget(),
        Command::Device(command) => device::run(command),
        Command::Export(args) => export::run(args),
        Command::Backup(args) => backup::run(args),
        Command::MigrateStore(args) => migrate_store::run(&args),
        Command::Doctor(args) => doctor::run(*args),
        Command::Schema(command) => schema::run(&command),
        Command::Estimate { gb, burst } => estimate::run(Plan::new(gb, burst)),
        Command::Demo(args) => demo::run(args),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man { directory } => shell::manual(directory.as_deref()),
    }
}

/// The runtime of all commands except `serve`.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
